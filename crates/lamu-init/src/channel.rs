//! The stream to the host: frames in, frames out.
//!
//! Writing never blocks the loop: what the host does not take at once waits
//! in `output`. It stays bounded because log pipes are not read above
//! [`BACKLOG_BYTES_MAX`] and the runtime gets its next event from the host.
//!
//! Not here: what the messages mean.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use lamu_guest::{FrameBuffer, FromInit, ToInit};

use crate::connection::retry;

/// Output waiting for the host above which no more logs are read: a function
/// that writes faster than the host reads is slowed by its full pipe.
pub const BACKLOG_BYTES_MAX: usize = 1 << 20;

/// The end of init waits no longer for a host that does not read.
const LAST_WRITE_MAX: Duration = Duration::from_millis(200);

/// Buffers that grew beyond this are given back once empty.
const KEPT_BYTES: usize = 32 << 10;

#[derive(Debug)]
pub struct Channel {
    pub stream: UnixStream,
    frames: FrameBuffer,
    /// What `frames` may have grown to since it was made.
    framed: usize,
    output: Vec<u8>,
    sent: usize,
}

impl Channel {
    pub fn new(stream: UnixStream) -> io::Result<Channel> {
        stream.set_nonblocking(true)?;
        Ok(Channel { stream, frames: FrameBuffer::new(), framed: 0, output: Vec::new(), sent: 0 })
    }

    /// Reads once; the end of the stream is an error.
    pub fn read(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        match (&self.stream).read(scratch) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.frames.extend(&scratch[..count]);
                self.framed += count;
                Ok(())
            }
            Err(error) if retry(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next whole message that was read.
    pub fn next(&mut self) -> io::Result<Option<ToInit>> {
        let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        if let Some((kind, fields)) = self.frames.next().map_err(malformed)? {
            return ToInit::decode(kind, fields).map(Some).map_err(malformed);
        }
        const EMPTY: usize = 4;
        if self.framed > KEPT_BYTES && self.frames.wants() == EMPTY {
            // One large event does not keep its memory for ever.
            self.frames = FrameBuffer::new();
            self.framed = 0;
        }
        Ok(None)
    }

    /// Appends a message; it leaves with the next [`Channel::flush`].
    pub fn push(&mut self, message: &FromInit) {
        message.encode(&mut self.output);
    }

    pub fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match (&self.stream).write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Keep the rest at the front before it grows without end.
                    if self.sent > BACKLOG_BYTES_MAX {
                        self.output.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        self.output.clear();
        if self.output.capacity() > KEPT_BYTES {
            self.output = Vec::new();
        }
        Ok(())
    }

    /// Sends what is left, for as long as a host that reads could need.
    pub fn flush_last(&mut self) {
        let rest = &self.output[self.sent..];
        let _ = self.stream.set_nonblocking(false);
        let _ = self.stream.set_write_timeout(Some(LAST_WRITE_MAX));
        let _ = (&self.stream).write_all(rest);
    }

    pub fn backlog(&self) -> usize {
        self.output.len() - self.sent
    }
}
