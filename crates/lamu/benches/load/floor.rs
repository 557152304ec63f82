//! The bare round trip: callers on one side, runtimes on the other, one thread
//! between them. Invocations wait for a parked runtime; nothing is checked.

use std::collections::{HashMap, VecDeque};
use std::io::{Error, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::http;

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

pub fn run(args: &[String]) -> Result<(), Error> {
    let port = args.first().map(String::as_str).unwrap_or("0");
    let address = format!("127.0.0.1:{port}").parse().map_err(Error::other)?;
    let mut listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
    let mut floor = Floor::default();
    let mut events = Events::with_capacity(256);
    let mut next_token = 1;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == Token(0) {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(next_token);
                    next_token += 1;
                    poll.registry().register(
                        &mut stream,
                        token,
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    let connection = Connection { stream, input: Vec::new(), output: Vec::new() };
                    floor.connections.insert(token, connection);
                }
            } else {
                floor.ready(event.token());
            }
        }
    }
}

#[derive(Default)]
struct Floor {
    connections: HashMap<Token, Connection>,
    /// Runtimes that wait for an event.
    parked: Vec<Token>,
    /// Events that wait for a runtime: the caller and the body.
    waiting: VecDeque<(Token, Vec<u8>)>,
    /// The caller by request id; the id is the caller's token.
    sequence: u64,
    callers: HashMap<u64, Token>,
}

impl Floor {
    fn ready(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let mut buffer = [0; 64 * 1024];
        let mut ended = false;
        loop {
            match connection.stream.read(&mut buffer) {
                Ok(0) => {
                    ended = true;
                    break;
                }
                Ok(count) => {
                    connection.input.extend_from_slice(&buffer[..count]);
                    // A short read has emptied the socket.
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    ended = true;
                    break;
                }
            }
        }
        self.flush(token);
        while let Some((head, body)) = self.take(token) {
            self.request(token, &head, body);
        }
        if ended {
            self.connections.remove(&token);
            self.parked.retain(|parked| *parked != token);
        }
    }

    fn take(&mut self, token: Token) -> Option<(Vec<u8>, Vec<u8>)> {
        let input = &mut self.connections.get_mut(&token)?.input;
        let message = http::message(input)?;
        let head = input[..message.head].to_vec();
        let body = input[message.head..message.total].to_vec();
        input.drain(..message.total);
        Some((head, body))
    }

    fn request(&mut self, token: Token, head: &[u8], body: Vec<u8>) {
        const RUNTIME: &[u8] = b"/2018-06-01/runtime/invocation/";
        let path = head.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        match path.strip_prefix(RUNTIME) {
            Some(b"next") => match self.waiting.pop_front() {
                Some((caller, body)) => self.hand_out(token, caller, &body),
                None => self.parked.push(token),
            },
            Some(rest) => {
                let id = rest.split(|&byte| byte == b'/').next().unwrap_or_default();
                let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).unwrap_or(0);
                self.answer(token, 202, b"{\"status\":\"OK\"}");
                if let Some(caller) = self.callers.remove(&id) {
                    self.answer(caller, 200, &body);
                }
            }
            None => match self.parked.pop() {
                Some(runtime) => self.hand_out(runtime, token, &body),
                None => self.waiting.push_back((token, body)),
            },
        }
    }

    fn hand_out(&mut self, runtime: Token, caller: Token, body: &[u8]) {
        self.sequence += 1;
        let id = self.sequence;
        self.callers.insert(id, caller);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: 4102444800000\r\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:floor\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(runtime, head.as_bytes(), body);
    }

    fn answer(&mut self, token: Token, status: u16, body: &[u8]) {
        let head = format!(
            "HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(token, head.as_bytes(), body);
    }

    fn send(&mut self, token: Token, head: &[u8], body: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.output.extend_from_slice(head);
            connection.output.extend_from_slice(body);
        }
        self.flush(token);
    }

    fn flush(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        while !connection.output.is_empty() {
            match connection.stream.write(&connection.output) {
                Ok(count) => {
                    connection.output.drain(..count);
                }
                Err(_) => return,
            }
        }
    }
}
