//! An external extension that takes its function's telemetry and prints what
//! kind each event is.

use std::time::Duration;

use lambda_extension::{
    Error, Extension, LambdaTelemetry, LambdaTelemetryRecord, LogBuffering, SharedService,
    service_fn,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let buffering = LogBuffering { timeout_ms: 25, ..LogBuffering::default() };
    Extension::new()
        .with_telemetry_types(&["platform", "function"])
        .with_telemetry_buffering(buffering)
        .with_telemetry_processor(SharedService::new(service_fn(note)))
        .with_events_processor(service_fn(linger))
        .run()
        .await
}

async fn note(events: Vec<LambdaTelemetry>) -> Result<(), Error> {
    for event in events {
        match event.record {
            LambdaTelemetryRecord::Function(line) => {
                println!("telemetry: function {}", line.trim());
            }
            LambdaTelemetryRecord::PlatformRuntimeDone { request_id, status, metrics, .. } => {
                let bytes = metrics.and_then(|metrics| metrics.produced_bytes);
                println!("telemetry: runtimeDone {request_id} {status:?} {bytes:?}");
            }
            LambdaTelemetryRecord::PlatformReport { request_id, metrics, .. } => {
                println!("telemetry: report {request_id} {} ms", metrics.billed_duration_ms);
            }
            other => {
                let kind = serde_json::to_value(&other)?["type"].clone();
                println!("telemetry: {}", kind.as_str().unwrap_or("unnamed"));
            }
        }
    }
    Ok(())
}

/// Long enough for the telemetry of the invocation to come in.
async fn linger(_: lambda_extension::LambdaEvent) -> Result<(), Error> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(())
}
