//! An external extension that notes every event of its function. Copied to
//! `extensions/events` in a layer, it runs beside the function.

use lambda_extension::{Error, LambdaEvent, NextEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_extension::run(service_fn(note)).await
}

async fn note(event: LambdaEvent) -> Result<(), Error> {
    match event.next {
        NextEvent::Invoke(invoke) => println!("events: invoke {}", invoke.request_id),
        NextEvent::Shutdown(shutdown) => println!("events: shutdown {}", shutdown.shutdown_reason),
    }
    Ok(())
}
