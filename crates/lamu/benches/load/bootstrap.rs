//! The least a runtime can be: it asks for an event and echoes it, in one
//! write for the response and the next request together.

use std::io::{Error, Read, Write};
use std::net::TcpStream;

use crate::http;

pub fn run() -> Result<(), Error> {
    let address = std::env::var("AWS_LAMBDA_RUNTIME_API")
        .map_err(|_| Error::other("AWS_LAMBDA_RUNTIME_API is not set"))?;
    let mut stream = TcpStream::connect(&address)?;
    stream.set_nodelay(true)?;
    let next =
        format!("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut input: Vec<u8> = Vec::new();
    let mut output: Vec<u8> = next.clone().into_bytes();
    let mut buffer = [0; 16 * 1024];
    loop {
        stream.write_all(&output)?;
        // The answer to the response (after the first round), then the event.
        let event = loop {
            while let Some(message) = http::message(&input) {
                if http::header(&input[..message.head], b"lambda-runtime-aws-request-id").is_some()
                {
                    break;
                }
                input.drain(..message.total);
            }
            if let Some(message) = http::message(&input) {
                break message;
            }
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            input.extend_from_slice(&buffer[..count]);
        };
        let id = http::header(&input[..event.head], b"lambda-runtime-aws-request-id");
        let id = String::from_utf8_lossy(id.unwrap_or_default()).into_owned();
        let body = &input[event.head..event.total];
        output.clear();
        write!(
            output,
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        output.extend_from_slice(body);
        output.extend_from_slice(next.as_bytes());
        input.drain(..event.total);
    }
}
