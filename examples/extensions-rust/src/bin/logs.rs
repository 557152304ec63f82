//! The same over the older Logs API.

use std::time::Duration;

use lambda_extension::{
    Error, Extension, LambdaLog, LambdaLogRecord, LogBuffering, SharedService, service_fn,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let buffering = LogBuffering { timeout_ms: 25, ..LogBuffering::default() };
    Extension::new()
        .with_log_types(&["platform", "function"])
        .with_log_buffering(buffering)
        .with_logs_processor(SharedService::new(service_fn(note)))
        .with_events_processor(service_fn(linger))
        .run()
        .await
}

async fn note(logs: Vec<LambdaLog>) -> Result<(), Error> {
    for log in logs {
        match log.record {
            LambdaLogRecord::Function(line) => println!("logs: function {}", line.trim()),
            LambdaLogRecord::PlatformStart { request_id } => println!("logs: start {request_id}"),
            LambdaLogRecord::PlatformEnd { request_id } => println!("logs: end {request_id}"),
            LambdaLogRecord::PlatformFault(text) => println!("logs: fault {}", text.trim()),
            LambdaLogRecord::PlatformReport { metrics, .. } => {
                println!("logs: report {} MB", metrics.memory_size_mb);
            }
            LambdaLogRecord::PlatformRuntimeDone { status, .. } => {
                println!("logs: runtimeDone {status}");
            }
            LambdaLogRecord::PlatformLogsSubscription { name, .. } => {
                println!("logs: subscription {name}");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Long enough for the records of the invocation to come in.
async fn linger(_: lambda_extension::LambdaEvent) -> Result<(), Error> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(())
}
