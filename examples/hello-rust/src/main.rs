//! Greets whoever the event names, and logs about it. Unchanged from what
//! would run on AWS.

use std::sync::atomic::{AtomicU64, Ordering};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

static CALLS: AtomicU64 = AtomicU64::new(0);

async fn handler(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let call = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    let name = event.payload["name"].as_str().unwrap_or("world");
    println!("greeting {name}, call {call} in this environment");
    if name == "nobody" {
        return Err("there is nobody to greet".into());
    }
    Ok(json!({
        "message": format!("Hello, {name}!"),
        "call": call,
        "request_id": event.context.request_id,
        "function": event.context.invoked_function_arn,
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(handler)).await
}
