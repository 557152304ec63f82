//! One connection of the Runtime API: its buffers, what it is in the middle
//! of, and what it waits for.
//!
//! Not here: what requests mean (`environment`).

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::api::{Answer, Call};
use crate::http::{self, Body, Head};
use crate::sys;

/// Most input kept of a connection that is not being served: a head of the
/// longest kind. A client that sends more has to wait.
const INPUT_BYTES_MAX: usize = http::HEAD_BYTES_MAX + (64 << 10);

/// What is still read, and thrown away, from a client whose connection is
/// being closed: closing with unread input would reset the connection and
/// take the answer along.
const LINGER_BYTES_MAX: usize = 16 << 20;

#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    pub input: Vec<u8>,
    pub scanned: usize,
    pub stage: Stage,
    /// What the kernel was last asked to report.
    pub interest: u32,
    /// When it last did something, in loop turns.
    pub active: u64,
    pub keep_alive: bool,
    output: Vec<u8>,
    sent: usize,
    /// The client will send no more.
    pub ended: bool,
    /// Its stream waits for the host; nothing more is read of it meanwhile.
    pub stalled: bool,
    /// Nothing more is served; it closes when the output is out and the
    /// client has closed.
    closing: bool,
    lingered: usize,
}

#[derive(Debug)]
pub enum Stage {
    Head,
    Body(Box<Request>),
    /// In `/next`, until there is an event.
    Parked,
}

/// A request whose body is being read.
#[derive(Debug)]
pub struct Request {
    pub call: Call,
    pub head: Head,
    pub body: Body,
    /// Set when the request was already refused; its body is only skipped.
    pub refused: Option<Answer>,
    /// A response that goes on as it comes (`stream`).
    pub streams_on: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Open,
    Gone,
}

impl Connection {
    pub fn new(stream: TcpStream, active: u64) -> Connection {
        Connection {
            stream,
            input: Vec::new(),
            scanned: 0,
            stage: Stage::Head,
            interest: 0,
            active,
            keep_alive: true,
            output: Vec::new(),
            sent: 0,
            ended: false,
            stalled: false,
            closing: false,
            lingered: 0,
        }
    }

    /// Whether closing it loses nothing.
    pub fn idle(&self) -> bool {
        let between = matches!(self.stage, Stage::Head) && self.input.is_empty();
        (between || self.closing) && self.output.is_empty()
    }

    /// Whether another request may be served: answers leave in order, and a
    /// client that reads none gets no more.
    pub fn ready(&self) -> bool {
        !self.closing && self.output.is_empty() && !matches!(self.stage, Stage::Parked)
    }

    pub fn wanted_interest(&self) -> u32 {
        let mut interest = 0;
        if !self.ended && !self.stalled && self.input.len() < INPUT_BYTES_MAX {
            interest |= sys::READ | sys::HANGUP;
        }
        if !self.output.is_empty() {
            interest |= sys::WRITE;
        }
        interest
    }

    /// Reads once. More than one buffer full waits for the next turn, so that
    /// no client holds up the others.
    pub fn read(&mut self, scratch: &mut [u8]) -> Status {
        match (&self.stream).read(scratch) {
            Ok(0) => self.ended = true,
            Ok(count) if self.closing => {
                self.lingered += count;
                self.ended = self.lingered > LINGER_BYTES_MAX;
            }
            Ok(count) => self.input.extend_from_slice(&scratch[..count]),
            Err(error) if retry(&error) => {}
            Err(_) => return Status::Gone,
        }
        Status::Open
    }

    /// Removes what was taken from the front of the input.
    pub fn consume(&mut self, count: usize) {
        self.scanned = 0;
        if count == self.input.len() {
            self.input.clear();
            // One large body does not keep its memory for ever.
            if self.input.capacity() > 16 << 10 {
                self.input = Vec::new();
            }
        } else {
            self.input.drain(..count);
        }
    }

    /// Answers the request under way, in one write.
    pub fn answer(&mut self, answer: &Answer) -> Status {
        let keep_alive = self.keep_alive;
        self.answer_with(|out| http::write_answer(out, answer, keep_alive))
    }

    /// Answers with bytes that the caller appends.
    pub fn answer_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Status {
        write(&mut self.output);
        if !self.keep_alive {
            self.closing = true;
            self.input = Vec::new();
        }
        self.stage = Stage::Head;
        self.flush()
    }

    /// Sends bytes that are no answer yet.
    pub fn send(&mut self, bytes: &[u8]) -> Status {
        self.output.extend_from_slice(bytes);
        self.flush()
    }

    pub fn flush(&mut self) -> Status {
        while self.sent < self.output.len() {
            match (&self.stream).write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Status::Open,
                Err(_) => return Status::Gone,
            }
        }
        self.sent = 0;
        self.output.clear();
        if self.output.capacity() > 16 << 10 {
            self.output = Vec::new();
        }
        if !self.closing {
            return Status::Open;
        }
        if self.ended || self.stream.shutdown(Shutdown::Write).is_err() {
            return Status::Gone;
        }
        Status::Open
    }
}

pub fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
