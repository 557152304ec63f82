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
use crate::sys;

/// The most a pipe can hold unprivileged (`pipe-max-size`). Emptying a pipe
/// stops here, so that a process that never stops writing delays nobody.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// A frame's own time is believed within this distance of ours; beyond, its
/// clock is wrong.
const CLOCK_ERROR_MS_MAX: u64 = 60_000;

#[derive(Debug)]
pub struct Output {
    file: File,
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
    pub fn lines(file: File) -> Output {
        Output { file, cutter: Cutter::Lines(LineCutter::default()), interest: 0 }
    }

    pub fn frames(file: File) -> Output {
        Output { file, cutter: Cutter::Frames(FrameCutter::default()), interest: 0 }
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Reads once and passes whole records on.
    pub fn read(&mut self, scratch: &mut [u8], channel: &mut Channel) -> Pipe {
        self.read_some(scratch, channel).1
    }

    /// Reads what is in the pipe now.
    pub fn drain(&mut self, scratch: &mut [u8], channel: &mut Channel) {
        let mut total = 0;
        loop {
            let (count, pipe) = self.read_some(scratch, channel);
            total += count;
            // A short read emptied the pipe.
            if count < scratch.len() || pipe == Pipe::Ended || total >= DRAIN_BYTES_MAX {
                return;
            }
        }
    }

    /// Passes an unended last line on; at the end of the process, an unended
    /// frame too.
    pub fn flush(&mut self, last: Last, channel: &mut Channel) {
        let now = sys::now_ms();
        match &mut self.cutter {
            Cutter::Lines(lines) => lines.flush(|record| push(channel, now, record)),
            Cutter::Frames(_) if last == Last::OfInvocation => {}
            Cutter::Frames(frames) => {
                frames.flush(|record, time| push(channel, believed(time, now), record));
            }
        }
    }

    fn read_some(&mut self, scratch: &mut [u8], channel: &mut Channel) -> (usize, Pipe) {
        let count = match self.file.read(scratch) {
            Ok(0) => return (0, Pipe::Ended),
            Ok(count) => count,
            Err(error) if retry(&error) => return (0, Pipe::Open),
            Err(_) => return (0, Pipe::Ended),
        };
        let now = sys::now_ms();
        let bytes = &scratch[..count];
        match &mut self.cutter {
            Cutter::Lines(lines) => lines.feed(bytes, |record| push(channel, now, record)),
            Cutter::Frames(frames) => {
                frames.feed(bytes, |record, time| push(channel, believed(time, now), record));
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

fn push(channel: &mut Channel, time_ms: u64, record: &[u8]) {
    channel.push(&FromInit::Log { source: LogSource::Function, time_ms, record: record.to_vec() });
}

fn believed(time: Option<u64>, now: u64) -> u64 {
    time.filter(|time| time.abs_diff(now) <= CLOCK_ERROR_MS_MAX).unwrap_or(now)
}
