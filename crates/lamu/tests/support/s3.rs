//! What speaks enough of S3 for a package to be fetched.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

/// Serves one object of one bucket, by path, to any caller.
pub struct FakeS3 {
    pub endpoint: String,
}

impl FakeS3 {
    pub fn start(object: Vec<u8>) -> FakeS3 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let (status, body) = if head.starts_with("GET /code/a%20b/f.zip") {
                    ("200 OK", object.clone())
                } else {
                    let text = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>";
                    ("404 Not Found", text.as_bytes().to_vec())
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.write_all(&body);
            }
        });
        FakeS3 { endpoint }
    }
}
