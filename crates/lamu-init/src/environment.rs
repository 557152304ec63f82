//! One execution environment: the loop that owns everything in it.
//!
//! Each turn waits once and then serves, in this order: output of the
//! runtime, the host, the runtime's calls, ended processes. Output goes
//! first so that a record written before a call is ahead of what the call
//! causes; ends go last so that a last response is not lost.
//!
//! Not here: how calls are read and answered (`serve`), the order of calls
//! (`state`), starting a process (`spawn`).

use std::fs::File;
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use lamu_guest::{Exit, FromInit, InitOutcome, Invoke, PROTOCOL, Start, ToInit};

use crate::channel::{BACKLOG_BYTES_MAX, Channel};
use crate::connection::Connection;
use crate::direct;
use crate::output::{Last, Output, Pipe};
use crate::spawn::{self, SpawnError, Spawned};
use crate::state::Phase;
use crate::sys::{self, Epoll, Wait};

/// Largest response body the channel can carry beside its other fields.
const RESPONSE_BYTES_MAX: usize = lamu_guest::FRAME_BYTES_MAX - (512 << 10);

/// One read of any descriptor: the size of a pipe.
const SCRATCH_BYTES: usize = 64 << 10;

const EVENTS_MAX: usize = 64;

pub(crate) mod token {
    pub const CHANNEL: u64 = 0;
    pub const LISTENER: u64 = 1;
    pub const SIGNALS: u64 = 2;
    pub const DIRECT: u64 = 3;
    /// Three of them.
    pub const OUTPUTS: u64 = 4;
    pub const CONNECTIONS: u64 = 16;
}

#[derive(Debug)]
pub struct Environment {
    pub(crate) epoll: Epoll,
    pub(crate) channel: Channel,
    /// What the kernel was last asked to report of the channel.
    channel_interest: u32,
    pub(crate) listener: TcpListener,
    signals: File,
    api: String,
    start: Option<Start>,
    pub(crate) phase: Phase,
    process: Option<Process>,
    /// A runtime was started before, of which something may be left.
    used: bool,
    outputs: [Option<Output>; 3],
    pub(crate) direct: Option<Direct>,
    pub(crate) connections: Vec<Option<Connection>>,
    /// Who asked for the next event and waits, the latest last.
    pub(crate) parked: Vec<Caller>,
    /// Connections that have input to be served without a new event: they
    /// sent it while they were parked.
    pub(crate) resumed: Vec<usize>,
    /// The invocation that waits for the runtime or that it works on.
    pub(crate) invoke: Option<Invoke>,
    /// The last event handed out, kept after its end to tell a second report
    /// from a stale one.
    pub(crate) last_id: Option<String>,
    pub(crate) handed_out: Instant,
    pub(crate) handler_ns: u64,
    pub(crate) turn: u64,
    pub(crate) scratch: Box<[u8]>,
}

#[derive(Debug)]
struct Process {
    pid: libc::pid_t,
    spawned: Instant,
}

/// The socket of a bootstrap of our own.
#[derive(Debug)]
pub(crate) struct Direct {
    pub stream: UnixStream,
    pub reader: direct::Reader,
    pub output: Vec<u8>,
    pub interest: u32,
}

/// Who made a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Connection(usize),
    Direct,
}

/// Why the loop ended.
#[derive(Debug)]
pub enum End {
    Shutdown,
    /// The host closed the channel.
    HostGone,
}

impl Environment {
    /// Takes the channel to the host and the listener of the Runtime API.
    pub fn new(channel: UnixStream, listener: TcpListener) -> io::Result<Environment> {
        let epoll = Epoll::new()?;
        let signals = sys::child_signals()?;
        let mut channel = Channel::new(channel)?;
        listener.set_nonblocking(true)?;
        let api = listener.local_addr()?.to_string();
        epoll.add(&channel.stream, token::CHANNEL, sys::READ)?;
        epoll.add(&listener, token::LISTENER, sys::READ)?;
        epoll.add(&signals, token::SIGNALS, sys::READ)?;
        channel.push(&FromInit::Hello { protocol: PROTOCOL });
        channel.flush()?;
        Ok(Environment {
            epoll,
            channel,
            channel_interest: sys::READ,
            listener,
            signals,
            api,
            start: None,
            phase: Phase::Absent,
            process: None,
            used: false,
            outputs: [None, None, None],
            direct: None,
            connections: Vec::new(),
            parked: Vec::new(),
            resumed: Vec::new(),
            invoke: None,
            last_id: None,
            handed_out: Instant::now(),
            handler_ns: 0,
            turn: 0,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        })
    }

    pub fn run(&mut self) -> io::Result<End> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        loop {
            let count = self.epoll.wait(&mut events)?;
            self.turn += 1;
            let ready = |wanted: u64| events[..count].iter().any(|event| { event.u64 } == wanted);

            for at in 0..self.outputs.len() {
                if ready(token::OUTPUTS + at as u64) {
                    self.read_output(at);
                }
            }
            if ready(token::CHANNEL)
                && let Some(end) = self.serve_host()?
            {
                return Ok(end);
            }
            if ready(token::DIRECT) {
                self.serve_direct()?;
            }
            for event in &events[..count] {
                if let Some(at) = event.u64.checked_sub(token::CONNECTIONS) {
                    self.serve_connection(at as usize)?;
                }
            }
            while let Some(at) = self.resumed.pop() {
                self.serve_connection(at)?;
            }
            if ready(token::LISTENER) {
                self.accept();
            }
            if ready(token::SIGNALS) {
                self.collect_children()?;
            }
            self.channel.flush()?;
            self.update_interest()?;
        }
    }

    /// Ends everything that still runs, for when the loop is over.
    pub fn end(&mut self) {
        sys::end_all_others();
    }

    pub(crate) fn response_bytes_max(&self) -> usize {
        let wanted = self.start.as_ref().map_or(0, |start| start.response_bytes_max);
        usize::try_from(wanted).unwrap_or(usize::MAX).min(RESPONSE_BYTES_MAX)
    }

    /// The runtime's init is over; what it wrote so far goes first.
    pub(crate) fn init_done(&mut self, outcome: InitOutcome) {
        self.drain_outputs(Last::OfInvocation);
        let spawned = self.process.as_ref().map(|process| process.spawned);
        let duration_ns = spawned.map_or(0, |at| at.elapsed().as_nanos() as u64);
        self.channel.push(&FromInit::InitDone { outcome, duration_ns });
    }

    /// Passes on what the runtime wrote before now.
    pub(crate) fn drain_outputs(&mut self, last: Last) {
        let fds = self.outputs.each_ref().map(|output| output.as_ref().map_or(-1, Output::fd));
        for (at, readable) in sys::readable(fds).into_iter().enumerate() {
            let Some(output) = &mut self.outputs[at] else { continue };
            if readable {
                output.drain(&mut self.scratch, &mut self.channel);
            }
            output.flush(last, &mut self.channel);
        }
    }

    fn read_output(&mut self, at: usize) {
        let Some(output) = &mut self.outputs[at] else { return };
        if output.read(&mut self.scratch, &mut self.channel) == Pipe::Ended {
            output.flush(Last::OfProcess, &mut self.channel);
            self.outputs[at] = None;
        }
    }

    fn serve_host(&mut self) -> io::Result<Option<End>> {
        // An event of the channel may only mean that it takes output again.
        match self.channel.read(&mut self.scratch) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
            Err(_) => return Ok(Some(End::HostGone)),
            Ok(()) => {}
        }
        while let Some(message) = self.channel.next()? {
            match message {
                ToInit::Start(start) => {
                    if self.start.is_some() {
                        return Err(broken("a second start"));
                    }
                    self.start = Some(start);
                    self.start_runtime()?;
                }
                ToInit::Invoke(invoke) => self.begin_invoke(invoke)?,
                ToInit::Reset => self.reset(),
                ToInit::Shutdown => return Ok(Some(End::Shutdown)),
            }
        }
        Ok(None)
    }

    fn begin_invoke(&mut self, invoke: Invoke) -> io::Result<()> {
        if self.start.is_none() {
            return Err(broken("an invocation before the start"));
        }
        if self.invoke.is_some() {
            return Err(broken("a second invocation at once"));
        }
        self.invoke = Some(invoke);
        match self.phase {
            Phase::Absent | Phase::InitError => self.start_runtime()?,
            Phase::Started => {}
            Phase::Ready => self.hand_out(),
            Phase::Running
            | Phase::InvocationResponse
            | Phase::InvocationErrorResponse
            | Phase::ResponseSent => return Err(broken("a second invocation at once")),
        }
        Ok(())
    }

    fn start_runtime(&mut self) -> io::Result<()> {
        self.clear_away();
        let Some(start) = &self.start else { return Err(broken("nothing to start")) };
        let spawned_at = Instant::now();
        match spawn::spawn(start, &self.api) {
            Ok(spawned) => {
                self.process = Some(Process { pid: spawned.pid, spawned: spawned_at });
                self.phase = Phase::Started;
                self.adopt(spawned)
            }
            Err(SpawnError::NoEntry(error)) => {
                eprintln!("lamu-init: could not execute the entry: {error}");
                self.init_done(InitOutcome::NoEntry);
                self.invoke = None;
                Ok(())
            }
            Err(SpawnError::Own(error)) => Err(error),
        }
    }

    fn adopt(&mut self, spawned: Spawned) -> io::Result<()> {
        self.outputs = [
            Some(Output::lines(spawned.stdout)),
            Some(Output::lines(spawned.stderr)),
            spawned.telemetry.map(Output::frames),
        ];
        for (at, output) in self.outputs.iter_mut().enumerate() {
            if let Some(output) = output {
                output.interest = sys::READ;
                self.epoll.add(&output.fd(), token::OUTPUTS + at as u64, sys::READ)?;
            }
        }
        if let Some(stream) = spawned.direct {
            self.epoll.add(&stream, token::DIRECT, sys::READ)?;
            self.direct = Some(Direct {
                stream,
                reader: direct::Reader::default(),
                output: Vec::new(),
                interest: sys::READ,
            });
        }
        Ok(())
    }

    /// Ends what is left of an earlier runtime, and forgets it.
    fn clear_away(&mut self) {
        if std::mem::replace(&mut self.used, true) {
            sys::end_all_others();
        }
        self.drain_outputs(Last::OfProcess);
        self.outputs = [None, None, None];
        self.direct = None;
        self.connections.clear();
        self.parked.clear();
        self.resumed.clear();
        self.process = None;
        self.last_id = None;
        self.phase = Phase::Absent;
    }

    fn reset(&mut self) {
        self.clear_away();
        self.invoke = None;
        self.channel.push(&FromInit::ResetDone);
    }

    fn collect_children(&mut self) -> io::Result<()> {
        let mut info = [0; std::mem::size_of::<libc::signalfd_siginfo>()];
        // Only empties the descriptor; which children ended, `reap` says.
        while (&self.signals).read(&mut info).is_ok() {}
        while let Ok(Some((pid, exit))) = sys::reap(Wait::Never) {
            if self.process.as_ref().is_some_and(|process| process.pid == pid) {
                self.runtime_ended(exit)?;
            }
        }
        Ok(())
    }

    fn runtime_ended(&mut self, exit: Exit) -> io::Result<()> {
        // What it sent before its end counts.
        self.serve_direct()?;
        for at in 0..self.connections.len() {
            self.serve_connection(at)?;
        }
        self.drain_outputs(Last::OfProcess);
        match self.phase {
            Phase::Absent => {}
            Phase::Started => self.init_done(InitOutcome::Exited(exit)),
            // The host knows of it since the init error.
            Phase::InitError => {}
            _ => self.channel.push(&FromInit::Exited(exit)),
        }
        self.process = None;
        self.direct = None;
        self.parked.clear();
        self.invoke = None;
        self.phase = Phase::Absent;
        Ok(())
    }

    /// Asks the kernel for what each descriptor now waits for.
    fn update_interest(&mut self) -> io::Result<()> {
        let backlog = self.channel.backlog();
        let wanted = if backlog > 0 { sys::READ | sys::WRITE } else { sys::READ };
        if wanted != self.channel_interest {
            self.epoll.modify(&self.channel.stream, token::CHANNEL, wanted)?;
            self.channel_interest = wanted;
        }
        let wanted = if backlog > BACKLOG_BYTES_MAX { 0 } else { sys::READ };
        for (at, output) in self.outputs.iter_mut().enumerate() {
            if let Some(output) = output
                && output.interest != wanted
            {
                self.epoll.modify(&output.fd(), token::OUTPUTS + at as u64, wanted)?;
                output.interest = wanted;
            }
        }
        if let Some(direct) = &mut self.direct {
            let wanted = if direct.output.is_empty() { sys::READ } else { sys::READ | sys::WRITE };
            if wanted != direct.interest {
                self.epoll.modify(&direct.stream, token::DIRECT, wanted)?;
                direct.interest = wanted;
            }
        }
        Ok(())
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the host broke the protocol: {what}"))
}
