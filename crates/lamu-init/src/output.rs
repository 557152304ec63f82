//! The pipes that the runtime writes its output to.
//!
//! Not here: how bytes become records (`logs`).

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};

use lamu_guest::{FromInit, LogSource};

use crate::channel::Channel;
use crate::connection::retry;
use crate::logs::{FrameCutter, LineCutter};
use crate::sys::{self, Epoll};
use crate::telemetry::Telemetry;

/// The most a pipe can hold unprivileged (`pipe-max-size`). Emptying a pipe
/// stops here, so that a process that never stops writing delays nobody.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// A frame's own time is believed within this distance of ours; beyond, its
/// clock is wrong.
const CLOCK_ERROR_MS_MAX: u64 = 60_000;

#[derive(Debug)]
pub struct Output {
    file: File,
    source: LogSource,
    cutter: Cutter,
    /// What the kernel was last asked to report.
    pub interest: u32,
}

#[derive(Debug)]
enum Cutter {
    Lines(LineCutter),
    Frames(FrameCutter),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    Open,
    /// Every writer closed it.
    Ended,
}

impl Output {
    pub fn lines(file: File, source: LogSource) -> Output {
        Output { file, source, cutter: Cutter::Lines(LineCutter::default()), interest: 0 }
    }

    pub fn frames(file: File) -> Output {
        let cutter = Cutter::Frames(FrameCutter::default());
        Output { file, source: LogSource::Function, cutter, interest: 0 }
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Reads once and passes whole records on.
    pub fn read(&mut self, scratch: &mut [u8], to: &mut Recorder<'_>) -> Pipe {
        self.read_some(scratch, to).1
    }

    /// Reads what is in the pipe now.
    pub fn drain(&mut self, scratch: &mut [u8], to: &mut Recorder<'_>) {
        let mut total = 0;
        loop {
            let (count, pipe) = self.read_some(scratch, to);
            total += count;
            // A short read emptied the pipe.
            if count < scratch.len() || pipe == Pipe::Ended || total >= DRAIN_BYTES_MAX {
                return;
            }
        }
    }

    /// Passes an unended last line on; at the end of the process, an unended
    /// frame too.
    pub fn flush(&mut self, last: Last, to: &mut Recorder<'_>) {
        let (now, source) = (sys::now_ms(), self.source);
        match &mut self.cutter {
            Cutter::Lines(lines) => lines.flush(|record| to.record(source, now, record)),
            Cutter::Frames(_) if last == Last::OfInvocation => {}
            Cutter::Frames(frames) => {
                frames.flush(|record, time| to.record(source, believed(time, now), record));
            }
        }
    }

    fn read_some(&mut self, scratch: &mut [u8], to: &mut Recorder<'_>) -> (usize, Pipe) {
        let count = match self.file.read(scratch) {
            Ok(0) => return (0, Pipe::Ended),
            Ok(count) => count,
            Err(error) if retry(&error) => return (0, Pipe::Open),
            Err(_) => return (0, Pipe::Ended),
        };
        let (now, source) = (sys::now_ms(), self.source);
        let bytes = &scratch[..count];
        match &mut self.cutter {
            Cutter::Lines(lines) => lines.feed(bytes, |record| to.record(source, now, record)),
            Cutter::Frames(frames) => {
                frames.feed(bytes, |record, time| to.record(source, believed(time, now), record));
            }
        }
        (count, Pipe::Open)
    }
}

/// What ended, when output is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    OfInvocation,
    OfProcess,
}

/// Where records go: to the host, and to who subscribed inside.
#[derive(Debug)]
pub struct Recorder<'a> {
    pub channel: &'a mut Channel,
    pub telemetry: &'a mut Telemetry,
    pub epoll: &'a Epoll,
}

impl Recorder<'_> {
    fn record(&mut self, source: LogSource, time_ms: u64, record: &[u8]) {
        self.telemetry.output(source, time_ms, record, self.epoll);
        self.channel.push(&FromInit::Log { source, time_ms, record: record.to_vec() });
    }
}

fn believed(time: Option<u64>, now: u64) -> u64 {
    time.filter(|time| time.abs_diff(now) <= CLOCK_ERROR_MS_MAX).unwrap_or(now)
}
