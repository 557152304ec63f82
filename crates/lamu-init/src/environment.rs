//! One execution environment: the loop that owns everything in it.
//!
//! Each turn waits once and then serves, in this order: output of the
//! runtime, the host, the runtime's calls, ended processes. Output goes
//! first so that a record written before a call is ahead of what the call
//! causes; ends go last so that a last response is not lost.
//!
//! Not here: how calls are read and answered (`serve`), the order of calls
//! (`state`), starting a process (`spawn`), extensions (`lifecycle`).

use std::fs::File;
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use lamu_guest::{Exit, FromInit, InitOutcome, Invoke, LogSource, PROTOCOL, Start, ToInit};

use crate::channel::{BACKLOG_BYTES_MAX, Channel};
use crate::connection::Connection;
use crate::direct;
use crate::extensions::Extensions;
use crate::lifecycle::{Ending, Launched, Then};
use crate::output::{Last, Output, Pipe, Recorder};
use crate::spawn::{self, Spawned};
use crate::state::Phase;
use crate::stream::Stream;
use crate::sys::{self, Epoll, Wait};
use crate::telemetry::Telemetry;

/// Largest response body the channel can carry beside its other fields.
const RESPONSE_BYTES_MAX: usize = lamu_guest::FRAME_BYTES_MAX - (512 << 10);

/// One read of any descriptor: the size of a pipe.
const SCRATCH_BYTES: usize = 64 << 10;

const EVENTS_MAX: usize = 64;

/// Reads that take all a bootstrap left behind in its socket: the kernel
/// holds a few hundred KiB for it.
const LAST_READS: usize = 8;

pub(crate) mod token {
    pub const CHANNEL: u64 = 0;
    pub const LISTENER: u64 = 1;
    pub const SIGNALS: u64 = 2;
    pub const DIRECT: u64 = 3;
    /// Three of them.
    pub const OUTPUTS: u64 = 4;
    pub const CONNECTIONS: u64 = 16;
    /// Far above what connections can reach.
    pub const EXTENSION_OUTPUTS: u64 = 1 << 32;
    pub const SINKS: u64 = 2 << 32;
}

#[derive(Debug)]
pub struct Environment {
    pub(crate) epoll: Epoll,
    pub(crate) channel: Channel,
    /// What the kernel was last asked to report of the channel.
    channel_interest: u32,
    pub(crate) listener: TcpListener,
    signals: File,
    pub(crate) api: String,
    pub(crate) start: Option<Start>,
    pub(crate) phase: Phase,
    pub(crate) process: Option<Process>,
    /// Init has begun and the host was not told of its end.
    pub(crate) initializing: bool,
    begun: Instant,
    /// Where the external ones are.
    pub(crate) extensions_dir: PathBuf,
    pub(crate) extensions: Extensions,
    pub(crate) extension_outputs: Vec<Option<Output>>,
    pub(crate) telemetry: Telemetry,
    /// The runtime is through with its invocation, extensions are not.
    pub(crate) awaiting: bool,
    /// The Shutdown phase, while it goes on.
    pub(crate) ending: Option<Ending>,
    pub(crate) over: Option<End>,
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
    /// The response that is being sent piece by piece.
    pub(crate) stream: Option<Stream>,
    pub(crate) turn: u64,
    pub(crate) scratch: Box<[u8]>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub pid: libc::pid_t,
}

/// The socket of a bootstrap of our own.
#[derive(Debug)]
pub(crate) struct Direct {
    pub stream: UnixStream,
    pub reader: direct::Reader,
    pub output: Vec<u8>,
    pub interest: u32,
    /// Its stream waits for the host; nothing more is read of it meanwhile.
    pub stalled: bool,
    /// It was stalled, and what it sent before can be taken now.
    pub resumed: bool,
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
    pub fn new(
        channel: UnixStream,
        listener: TcpListener,
        extensions_dir: PathBuf,
    ) -> io::Result<Environment> {
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
            initializing: false,
            begun: Instant::now(),
            extensions_dir,
            extensions: Extensions::default(),
            extension_outputs: Vec::new(),
            telemetry: Telemetry::default(),
            awaiting: false,
            ending: None,
            over: None,
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
            stream: None,
            turn: 0,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        })
    }

    pub fn run(&mut self) -> io::Result<End> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        loop {
            let count = self.epoll.wait(&mut events, self.wake_at())?;
            self.turn += 1;
            let ready = |wanted: u64| events[..count].iter().any(|event| { event.u64 } == wanted);

            for at in 0..self.outputs.len() {
                if ready(token::OUTPUTS + at as u64) {
                    self.read_output(at);
                }
            }
            for event in &events[..count] {
                if (token::EXTENSION_OUTPUTS..token::SINKS).contains(&{ event.u64 }) {
                    self.read_extension_output((event.u64 - token::EXTENSION_OUTPUTS) as usize);
                }
            }
            if ready(token::CHANNEL)
                && let Some(end) = self.serve_host()?
            {
                return Ok(end);
            }
            let resumed = self.direct.as_mut().is_some_and(|d| std::mem::take(&mut d.resumed));
            if resumed || ready(token::DIRECT) {
                self.serve_direct()?;
            }
            for event in &events[..count] {
                if (token::CONNECTIONS..token::EXTENSION_OUTPUTS).contains(&{ event.u64 }) {
                    self.serve_connection((event.u64 - token::CONNECTIONS) as usize)?;
                }
            }
            for event in &events[..count] {
                if let Some(owner) = event.u64.checked_sub(token::SINKS) {
                    self.telemetry.serve(owner as usize, &mut self.scratch, &self.epoll);
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
            self.keep_time();
            if let Some(end) = self.over.take() {
                self.channel.flush_last();
                return Ok(end);
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

    /// Init is over; what was written so far goes first.
    pub(crate) fn init_done(&mut self, outcome: InitOutcome) {
        self.drain_outputs(Last::OfInvocation);
        self.initializing = false;
        self.extensions.close();
        self.telemetry.close();
        for status in self.extensions.statuses() {
            self.channel.push(&FromInit::Extension(status));
        }
        let duration_ns = self.begun.elapsed().as_nanos() as u64;
        self.channel.push(&FromInit::InitDone { outcome, duration_ns });
    }

    /// Passes on what the runtime wrote before now.
    pub(crate) fn drain_outputs(&mut self, last: Last) {
        let fds = self.outputs.each_ref().map(|output| output.as_ref().map_or(-1, Output::fd));
        for (at, readable) in sys::readable(fds).into_iter().enumerate() {
            let Some(output) = &mut self.outputs[at] else { continue };
            let mut to = Recorder {
                channel: &mut self.channel,
                telemetry: &mut self.telemetry,
                epoll: &self.epoll,
            };
            if readable {
                output.drain(&mut self.scratch, &mut to);
            }
            output.flush(last, &mut to);
        }
        self.drain_extension_outputs(last);
    }

    fn read_output(&mut self, at: usize) {
        let Some(output) = &mut self.outputs[at] else { return };
        let mut to = Recorder {
            channel: &mut self.channel,
            telemetry: &mut self.telemetry,
            epoll: &self.epoll,
        };
        if output.read(&mut self.scratch, &mut to) == Pipe::Ended {
            output.flush(Last::OfProcess, &mut to);
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
                ToInit::Credit { bytes } => self.grant(bytes),
                ToInit::Reset(reason) => self.begin_ending(reason, Then::Reset),
                ToInit::Shutdown(reason) => {
                    if self.extensions.is_empty() {
                        return Ok(Some(End::Shutdown));
                    }
                    self.begin_ending(reason, Then::Exit);
                }
                ToInit::Event { api, json } => self.telemetry.event(api, json, &self.epoll),
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
        if self.ending.is_some() {
            return Err(broken("an invocation before the end of a reset"));
        }
        self.invoke = Some(invoke);
        match self.phase {
            _ if self.initializing => {}
            Phase::Absent | Phase::InitError => self.start_runtime()?,
            Phase::Started => {}
            Phase::Ready => {
                self.tell_of_invoke();
                self.hand_out();
            }
            Phase::Running
            | Phase::InvocationResponse
            | Phase::InvocationErrorResponse
            | Phase::ResponseSent => return Err(broken("a second invocation at once")),
        }
        Ok(())
    }

    fn start_runtime(&mut self) -> io::Result<()> {
        self.clear_away();
        self.begun = Instant::now();
        self.initializing = true;
        let format = self
            .start
            .as_ref()
            .and_then(|start| start.env.iter().find(|(name, _)| name == "AWS_LAMBDA_LOG_FORMAT"));
        self.telemetry.open(format.is_some_and(|(_, format)| format == "JSON"));
        match self.start_extensions()? {
            // They register first.
            Launched::Some | Launched::Failed => Ok(()),
            Launched::None => self.spawn_runtime(),
        }
    }

    pub(crate) fn spawn_runtime(&mut self) -> io::Result<()> {
        let Some(start) = &self.start else { return Err(broken("nothing to start")) };
        match spawn::spawn(start, &self.api) {
            Ok(spawned) => {
                self.process = Some(Process { pid: spawned.pid });
                self.phase = Phase::Started;
                self.adopt(spawned)
            }
            Err(error) => {
                let error = self.fault_of_spawn(error)?;
                eprintln!("lamu-init: could not execute the entry: {error}");
                self.init_done(InitOutcome::NoEntry);
                self.invoke = None;
                Ok(())
            }
        }
    }

    fn adopt(&mut self, spawned: Spawned) -> io::Result<()> {
        self.outputs = [
            Some(Output::lines(spawned.stdout, LogSource::Function)),
            Some(Output::lines(spawned.stderr, LogSource::Function)),
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
                stalled: false,
                resumed: false,
            });
        }
        Ok(())
    }

    /// Ends what is left of an earlier runtime, and forgets it.
    pub(crate) fn clear_away(&mut self) {
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
        self.stream = None;
        self.phase = Phase::Absent;
        self.initializing = false;
        self.awaiting = false;
        self.extensions.clear();
        self.extension_outputs.clear();
        self.telemetry = Telemetry::default();
    }

    pub(crate) fn reset(&mut self) {
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
            } else {
                self.child_ended(pid, exit)?;
            }
        }
        Ok(())
    }

    fn runtime_ended(&mut self, exit: Exit) -> io::Result<()> {
        // What it sent before its end counts.
        for _ in 0..LAST_READS {
            self.serve_direct()?;
        }
        for at in 0..self.connections.len() {
            self.serve_connection(at)?;
        }
        self.drain_outputs(Last::OfProcess);
        match self.phase {
            _ if self.ending.is_some() => {}
            _ if self.initializing => self.init_done(InitOutcome::Exited(exit)),
            Phase::Absent => {}
            // The host knows of it since the init error.
            Phase::InitError => {}
            _ => self.channel.push(&FromInit::Exited(exit)),
        }
        self.process = None;
        self.direct = None;
        self.parked.clear();
        self.invoke = None;
        self.stream = None;
        self.awaiting = false;
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
        for (at, output) in self.extension_outputs.iter_mut().enumerate() {
            if let Some(output) = output
                && output.interest != wanted
            {
                self.epoll.modify(&output.fd(), token::EXTENSION_OUTPUTS + at as u64, wanted)?;
                output.interest = wanted;
            }
        }
        if let Some(direct) = &mut self.direct {
            let read = if direct.stalled { 0 } else { sys::READ };
            let wanted = if direct.output.is_empty() { read } else { read | sys::WRITE };
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
