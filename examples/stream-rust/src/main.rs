//! Answers with a stream: counts, a line at a time, as far as the event says
//! (`{"until": 10}`), or the query of its function URL (`?until=10`).
//! Unchanged from what would run on AWS.

use lambda_runtime::streaming::{Body, Response, channel};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

async fn handler(event: LambdaEvent<Value>) -> Result<Response<Body>, Error> {
    let asked = &event.payload["queryStringParameters"]["until"];
    let asked = asked.as_str().and_then(|until| until.parse().ok());
    let until = event.payload["until"].as_u64().or(asked).ok_or("how far?")?;
    let (mut lines, body) = channel();
    tokio::spawn(async move {
        for number in 1..=until {
            // Nobody listens any more.
            if lines.send_data(format!("{number}\n").into()).await.is_err() {
                return;
            }
        }
    });
    Ok(Response::from(body))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(handler)).await
}
