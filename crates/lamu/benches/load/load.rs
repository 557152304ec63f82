//! The load generator: N keep-alive connections on one thread, sending one
//! request over and over, or many in turn.
//!
//! Closed loop: each connection sends its next request when its answer came.
//! Open loop (`--rate`): requests fall due at fixed times whatever the answers
//! do, and latency counts from when a request was due.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::http;

struct Options {
    address: SocketAddr,
    /// Sent in turn, over and over.
    requests: Vec<Vec<u8>>,
    connections: usize,
    warmup: Duration,
    length: Duration,
    /// Requests per second; closed loop when absent.
    rate: Option<f64>,
    /// Stop after this many answers.
    count_max: u64,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// When the request under way was due.
    since: Option<Instant>,
    unsent: Vec<u8>,
}

/// Which request is next, whatever connection it goes on.
struct Turn<'a> {
    requests: &'a [Vec<u8>],
    next: usize,
}

impl<'a> Turn<'a> {
    fn next(&mut self) -> &'a [u8] {
        let request = &self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        request
    }
}

pub fn run(args: &[String]) -> Result<(), Error> {
    let options = parse(args)?;
    let mut poll = Poll::new()?;
    let mut connections = Vec::new();
    for index in 0..options.connections {
        connections.push(connect(&poll, options.address, index)?);
    }
    let begin = Instant::now();
    let counted_from = begin + options.warmup;
    let end = counted_from + options.length;
    let mut due: VecDeque<Instant> = VecDeque::new();
    let mut next_due = begin;
    let mut latencies: Vec<u64> = Vec::new();
    let (mut errors, mut failures, mut answers) = (0u64, 0u64, 0u64);
    let mut events = Events::with_capacity(256);
    let mut turn = Turn { requests: &options.requests, next: 0 };
    if options.rate.is_none() {
        for connection in &mut connections {
            send(connection, turn.next(), begin);
        }
    }
    loop {
        let now = Instant::now();
        if now >= end || answers >= options.count_max {
            break;
        }
        let mut wait = end - now;
        if let Some(rate) = options.rate {
            while next_due <= now {
                due.push_back(next_due);
                next_due += Duration::from_secs_f64(1.0 / rate);
            }
            for connection in connections.iter_mut().filter(|connection| connection.since.is_none())
            {
                let Some(since) = due.pop_front() else { break };
                send(connection, turn.next(), since);
            }
            wait = wait.min(next_due.saturating_duration_since(Instant::now()));
        }
        poll.poll(&mut events, Some(wait))?;
        for event in &events {
            let connection = &mut connections[event.token().0];
            flush(connection);
            let mut buffer = [0; 64 * 1024];
            let mut closed = false;
            loop {
                match connection.stream.read(&mut buffer) {
                    Ok(0) => {
                        closed = true;
                        break;
                    }
                    Ok(count) => {
                        connection.input.extend_from_slice(&buffer[..count]);
                        if count < buffer.len() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                        closed = true;
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            while let Some(message) = http::message(&connection.input) {
                let head = &connection.input[..message.head];
                let status = http::status(head);
                let function_error = http::header(head, b"x-amz-function-error").is_some();
                connection.input.drain(..message.total);
                let Some(since) = connection.since.take() else { continue };
                let now = Instant::now();
                answers += 1;
                if now >= counted_from {
                    if !(200..300).contains(&status) {
                        errors += 1;
                    } else if function_error {
                        failures += 1;
                    }
                    latencies.push((now - since).as_nanos() as u64);
                }
                if options.rate.is_none() {
                    send(connection, turn.next(), now);
                }
            }
            if closed {
                // A request that was under way is lost; the next one gets a
                // connection of its own.
                let now = Instant::now();
                errors += u64::from(connection.since.is_some() && now >= counted_from);
                *connection = connect(&poll, options.address, event.token().0)?;
                if options.rate.is_none() {
                    send(connection, turn.next(), now);
                }
            }
        }
    }
    report(latencies, errors, failures, counted_from.elapsed().min(options.length));
    Ok(())
}

fn connect(poll: &Poll, address: SocketAddr, index: usize) -> Result<Connection, Error> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut stream, Token(index), interest)?;
    Ok(Connection { stream, input: Vec::new(), since: None, unsent: Vec::new() })
}

fn send(connection: &mut Connection, request: &[u8], since: Instant) {
    connection.since = Some(since);
    connection.unsent.extend_from_slice(request);
    flush(connection);
}

fn flush(connection: &mut Connection) {
    while !connection.unsent.is_empty() {
        match connection.stream.write(&connection.unsent) {
            Ok(count) => {
                connection.unsent.drain(..count);
            }
            // Not connected yet, or full: the next event tries again.
            Err(_) => return,
        }
    }
}

fn report(mut latencies: Vec<u64>, errors: u64, failures: u64, length: Duration) {
    latencies.sort_unstable();
    let at = |share: f64| -> f64 {
        let index = ((latencies.len() as f64) * share) as usize;
        latencies
            .get(index.min(latencies.len().saturating_sub(1)))
            .map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    };
    // JSON, but for NaN where nothing was answered: Python reads it.
    println!(
        "{{\"count\":{},\"errors\":{errors},\"function_errors\":{failures},\"per_second\":{:.1},\"p50_ms\":{:.4},\"p90_ms\":{:.4},\"p99_ms\":{:.4},\"max_ms\":{:.4}}}",
        latencies.len(),
        latencies.len() as f64 / length.as_secs_f64(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
    );
}

fn parse(args: &[String]) -> Result<Options, Error> {
    let value = |name: &str| -> Option<&str> {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).map(String::as_str)
    };
    let number = |name: &str, default: f64| -> Result<f64, Error> {
        value(name).map_or(Ok(default), |text| text.parse().map_err(Error::other))
    };
    let url = value("--url").ok_or_else(|| Error::other("--url is missing"))?;
    let rest = url.strip_prefix("http://").ok_or_else(|| Error::other("--url must be http://"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address =
        host.to_socket_addrs()?.next().ok_or_else(|| Error::other("the host has no address"))?;
    let body = value("--body").unwrap_or("{}");
    let extra = value("--header").map(|header| format!("{header}\r\n")).unwrap_or_default();
    let method = value("--method").unwrap_or("POST");
    // `{n}` in path and body counts through this many requests.
    let each = number("--each", 1.0)?.max(1.0) as usize;
    let requests = (0..each).map(|n| {
        let (path, body) = (path.replace("{n}", &n.to_string()), body.replace("{n}", &n.to_string()));
        let head = format!(
            "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{extra}Content-Length: {}\r\n\r\n",
            body.len()
        );
        (head + &body).into_bytes()
    });
    Ok(Options {
        address,
        requests: requests.collect(),
        connections: number("--connections", 1.0)? as usize,
        warmup: Duration::from_secs_f64(number("--warmup", 1.0)?),
        length: Duration::from_secs_f64(number("--seconds", 3.0)?),
        rate: value("--rate").map(|text| text.parse().map_err(Error::other)).transpose()?,
        count_max: number("--count", f64::MAX)? as u64,
    })
}
