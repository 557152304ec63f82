//! Serves the calls of the runtime: over HTTP, and over the direct socket of
//! our own bootstraps. Both end in the same few steps.
//!
//! A report is written to the host before the runtime hears that it was
//! accepted, so a runtime that ends right after loses nothing.
//!
//! Not here: parsing (`http`, `direct`), the order of calls (`state`).

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use lamu_guest::{FromInit, InitOutcome, TelemetryApi, recorded_error_type};

use crate::api::{self, Answer, Call};
use crate::connection::{Connection, Request, Stage, Status, retry};
use crate::direct::{self, Heard, Said};
use crate::environment::{Caller, Direct, Environment, token};
use crate::http::{self, BadRequest, Body};
use crate::json;
use crate::output::Last;
use crate::state::{Phase, Refused, Report};
use crate::stream::{Ending, TooLong};

/// Connections to the Runtime API at once. A runtime needs one; the rest is
/// room for clients that open one per call and forget to close it.
const CONNECTIONS_MAX: usize = 64;

/// Connections taken in one turn, so that a flood of them delays the others
/// by one turn only.
const ACCEPTS_MAX: usize = 16;

/// Bodies of extensions' calls hold a few names and numbers.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// An error body of this type carries the X-Ray cause in a member of its own,
/// which callers do not get to see (execution-environment, section 1).
const ERROR_WITH_CAUSE: &str = "application/vnd.aws.lambda.error.cause+json";
const ERROR_MEMBERS: [&str; 3] = ["errorMessage", "errorType", "stackTrace"];

impl Environment {
    pub(crate) fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            let Ok((stream, _)) = self.listener.accept() else { return };
            let open = self.connections.iter().flatten().count();
            if open >= CONNECTIONS_MAX && !self.close_idlest() {
                // All are in use; the newcomer sees its connection closed.
                continue;
            }
            if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                continue;
            }
            let free = self.connections.iter().position(Option::is_none);
            let at = free.unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let mut connection = Connection::new(stream, self.turn);
            connection.interest = connection.wanted_interest();
            let token = token::CONNECTIONS + at as u64;
            if self.epoll.add(&connection.stream, token, connection.interest).is_ok() {
                self.connections[at] = Some(connection);
            }
        }
    }

    fn close_idlest(&mut self) -> bool {
        let idlest = self
            .connections
            .iter()
            .enumerate()
            .filter_map(|(at, connection)| Some((at, connection.as_ref()?)))
            .filter(|(_, connection)| connection.idle())
            .min_by_key(|(_, connection)| connection.active)
            .map(|(at, _)| at);
        idlest.map(|at| self.connections[at] = None).is_some()
    }

    pub(crate) fn serve_connection(&mut self, at: usize) -> io::Result<()> {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return Ok(()) };
        connection.active = self.turn;
        let mut status = connection.flush();
        // A stalled one has an event only when it broke, which reading tells.
        if status == Status::Open && (!connection.ended || connection.stalled) {
            status = connection.read(&mut self.scratch);
        }
        while status == Status::Open {
            match self.serve_step(at)? {
                Some(next) => status = next,
                None => break,
            }
        }
        self.after_serving(at, status)
    }

    /// Closes what is over, and asks for what comes next.
    fn after_serving(&mut self, at: usize, mut status: Status) -> io::Result<()> {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return Ok(()) };
        if status == Status::Open && connection.ended && !connection.stalled {
            if let Stage::Body(_) = connection.stage {
                // The client may have closed only its sending side.
                connection.keep_alive = false;
                self.abandon(at);
                if let Some(Some(connection)) = self.connections.get_mut(at) {
                    status = connection.answer(&Answer::truncated());
                }
            } else {
                // Half closed while it waits for an event, or between two
                // requests: there is nobody to serve any more.
                let parked =
                    self.parked.contains(&Caller::Connection(at)) || self.extensions.is_parked(at);
                status =
                    if connection.ready() || parked { Status::Gone } else { connection.flush() };
            }
        }
        if status == Status::Gone {
            self.abandon(at);
            self.connections[at] = None;
            return Ok(());
        }
        let Some(Some(connection)) = self.connections.get_mut(at) else { return Ok(()) };
        let wanted = connection.wanted_interest();
        if wanted != connection.interest {
            self.epoll.modify(&connection.stream, token::CONNECTIONS + at as u64, wanted)?;
            connection.interest = wanted;
        }
        Ok(())
    }

    /// The connection can do no more for what it was in the middle of.
    fn abandon(&mut self, at: usize) {
        self.parked.retain(|&caller| caller != Caller::Connection(at));
        self.extensions.unpark(at);
        let Some(Some(connection)) = self.connections.get_mut(at) else { return };
        let stage = std::mem::replace(&mut connection.stage, Stage::Head);
        let Stage::Body(request) = stage else { return };
        if request.refused.is_some() {
            return;
        }
        match &request.call {
            // What was streamed is with the caller already, so this was the
            // response.
            Call::Response { .. } if request.streams_on => {
                // That it was too long besides changes nothing.
                let _ = self.end_stream(Ending::truncated());
            }
            Call::Response { id } if request.streaming() => {
                let Ending::Failed { error_type, body } = Ending::truncated() else { return };
                self.finish_error(id, &error_type, body);
            }
            Call::Response { .. } | Call::Error { .. } => self.phase = self.phase.report_lost(),
            _ => {}
        }
    }

    /// One step of one connection; `None` when it needs more input or time.
    fn serve_step(&mut self, at: usize) -> io::Result<Option<Status>> {
        // Without a stream of its own, content has a bound of its own.
        let room = self.stream_room(Caller::Connection(at)).unwrap_or(usize::MAX);
        let Some(Some(connection)) = self.connections.get_mut(at) else { return Ok(None) };
        if !connection.ready() {
            return Ok(None);
        }
        match &mut connection.stage {
            Stage::Parked => Ok(None),
            Stage::Head => match http::parse_head(&connection.input, &mut connection.scanned) {
                Ok(None) => Ok(None),
                Ok(Some((head, length))) => {
                    connection.consume(length);
                    connection.keep_alive = head.keep_alive;
                    let call = api::route(&head.method, &head.target);
                    let body_bytes_max = match call.is_extensions() {
                        true => REQUEST_BYTES_MAX,
                        false => self.response_bytes_max(),
                    };
                    let mut request = Box::new(Request {
                        call,
                        body: Body::new(head.framing, body_bytes_max),
                        head,
                        refused: None,
                        streams_on: false,
                    });
                    request.refused = self.begin(&request).err();
                    self.stream_on(at, &mut request);
                    Ok(Some(self.begin_body(at, request)))
                }
                Err(BadRequest(status)) => Ok(Some(self.refuse_connection(at, status))),
            },
            Stage::Body(request) => {
                if !request.body.complete() {
                    if connection.input.is_empty() {
                        return Ok(None);
                    }
                    let fed = request.body.feed(&connection.input, room);
                    let piece = request.streams_on.then(|| request.body.take());
                    connection.stalled = fed == Ok(0);
                    if connection.stalled {
                        return Ok(None);
                    }
                    connection.consume(fed.unwrap_or(0));
                    if let Some(piece) = piece {
                        self.stream_piece(&piece);
                    }
                    match fed {
                        Ok(_) => {}
                        Err(BadRequest(status)) => {
                            self.abandon(at);
                            return Ok(Some(self.refuse_connection(at, status)));
                        }
                    }
                }
                let Some(Some(connection)) = self.connections.get_mut(at) else {
                    return Ok(None);
                };
                match std::mem::replace(&mut connection.stage, Stage::Head) {
                    Stage::Body(request) if request.body.complete() => {
                        self.finish(at, *request).map(Some)
                    }
                    stage => {
                        connection.stage = stage;
                        Ok(Some(Status::Open))
                    }
                }
            }
        }
    }

    /// Sends a streamed response on as it comes, where the caller takes that.
    fn stream_on(&mut self, at: usize, request: &mut Request) {
        let Call::Response { id } = &request.call else { return };
        if request.refused.is_some() || !request.streaming() || !self.streams_on() {
            return;
        }
        request.streams_on = true;
        request.body = Body::new(request.head.framing, usize::MAX);
        self.begin_stream(Caller::Connection(at), id.clone(), request.head.content_type.clone());
    }

    fn begin_body(&mut self, at: usize, request: Box<Request>) -> Status {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return Status::Gone };
        let waits = request.head.expect_continue && !request.body.complete();
        connection.stage = Stage::Body(request);
        if waits { connection.send(b"HTTP/1.1 100 Continue\r\n\r\n") } else { Status::Open }
    }

    fn refuse_connection(&mut self, at: usize, status: u16) -> Status {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return Status::Gone };
        connection.keep_alive = false;
        connection.answer(&Answer::error(status, "InvalidRequest", "The request is not valid HTTP"))
    }

    /// Takes the state's step that a request begins with, or says why not.
    fn begin(&mut self, request: &Request) -> Result<(), Answer> {
        match &request.call {
            Call::Response { id } => {
                let mode = request.head.response_mode.as_deref().unwrap_or_default();
                if !request.streaming() && !mode.is_empty() {
                    return Err(Answer::invalid_response_mode());
                }
                self.begin_report(Report::Response, Some(id)).map_err(Answer::refused)
            }
            Call::Error { id } => {
                self.begin_report(Report::Error, Some(id)).map_err(Answer::refused)
            }
            Call::InitError if self.phase != Phase::Started => {
                let refused = self.phase.begin(Report::InitError, None, None);
                refused.map(drop).map_err(Answer::refused)
            }
            Call::Next | Call::InitError | Call::Ping => Ok(()),
            Call::RestoreNext => {
                let refused = Refused::Transition { from: self.phase.name(), to: "Ready" };
                Err(Answer::refused(refused))
            }
            Call::RestoreError => {
                let to = "RuntimeRestoreErrorState";
                Err(Answer::refused(Refused::Transition { from: self.phase.name(), to }))
            }
            Call::Register
            | Call::ExtensionNext
            | Call::ExtensionError(_)
            | Call::Telemetry
            | Call::Logs => Ok(()),
            Call::NotFound => Err(Answer::not_found()),
            Call::MethodNotAllowed => Err(Answer::method_not_allowed()),
        }
    }

    fn begin_report(&mut self, report: Report, id: Option<&str>) -> Result<(), Refused> {
        self.phase = self.phase.begin(report, self.last_id.as_deref(), id)?;
        Ok(())
    }

    /// The request arrived whole: does what it asks and answers it.
    fn finish(&mut self, at: usize, request: Request) -> io::Result<Status> {
        let Request { call, head, body, refused, streams_on } = request;
        if let Some(answer) = refused {
            return Ok(self.answer(at, &answer));
        }
        let response_bytes_max = self.response_bytes_max() as u64;
        let stream_bytes_max = self.invoke.as_ref().and_then(|invoke| invoke.stream_bytes_max);
        let stream_bytes_max = stream_bytes_max.unwrap_or(response_bytes_max);
        let answer = match call {
            Call::Next => return Ok(self.finish_next(Caller::Connection(at))),
            Call::ExtensionNext => return Ok(self.extension_next(at, &head)),
            Call::Register => self.register(&head, &body)?,
            Call::Telemetry => self.subscribe(TelemetryApi::Telemetry, &head, &body),
            Call::Logs => self.subscribe(TelemetryApi::Logs, &head, &body),
            Call::ExtensionError(reported) => self.extension_error(reported, &head),
            Call::Ping => Answer::pong(),
            Call::Response { id } | Call::Error { id } if body.overflowed => {
                self.finish_too_large(id);
                Answer::too_large(response_bytes_max)
            }
            Call::Response { .. } if streams_on => {
                match self.end_stream(Ending::of_trailers(&body.trailers)) {
                    Ok(()) => Answer::accepted(),
                    Err(TooLong) => Answer::too_large(stream_bytes_max),
                }
            }
            Call::Response { id } => {
                match Ending::of_trailers(&body.trailers) {
                    Ending::Failed { error_type, body } => {
                        self.finish_error(&id, &error_type, body);
                    }
                    Ending::Complete => self.finish_response(id, head.content_type, body.bytes),
                }
                Answer::accepted()
            }
            Call::Error { id } => {
                let error_type = head.error_type.as_deref().unwrap_or_default();
                let has_cause = head.content_type.as_deref() == Some(ERROR_WITH_CAUSE);
                let without = has_cause.then(|| json::keep_members(&body.bytes, &ERROR_MEMBERS));
                self.finish_error(&id, error_type, without.flatten().unwrap_or(body.bytes));
                Answer::accepted()
            }
            Call::InitError => {
                if let Err(refused) = self.begin_report(Report::InitError, None) {
                    return Ok(self.answer(at, &Answer::refused(refused)));
                }
                self.finish_init_error(head.error_type.as_deref(), body.bytes);
                Answer::accepted()
            }
            // `begin` refused all of these.
            _ => Answer::not_found(),
        };
        // The caller is answered before the runtime is. One that sent its next
        // request along will be done at once, and both leave in one write.
        let more = matches!(self.connections.get(at), Some(Some(c)) if !c.input.is_empty());
        if !more {
            self.channel.flush()?;
        }
        Ok(self.answer(at, &answer))
    }

    pub(crate) fn answer(&mut self, at: usize, answer: &Answer) -> Status {
        match self.connections.get_mut(at) {
            Some(Some(connection)) => connection.answer(answer),
            _ => Status::Gone,
        }
    }

    fn finish_next(&mut self, caller: Caller) -> Status {
        let before = self.phase;
        let after = match before.next() {
            Ok(after) => after,
            Err(refused) => {
                return match caller {
                    Caller::Connection(at) => self.answer(at, &Answer::refused(refused)),
                    Caller::Direct => Status::Gone,
                };
            }
        };
        self.phase = after;
        match before {
            Phase::Started => {
                self.extensions.close();
                self.try_init_done();
            }
            Phase::ResponseSent => self.invocation_done(),
            _ => {}
        }
        if let Caller::Connection(at) = caller
            && let Some(Some(connection)) = self.connections.get_mut(at)
        {
            connection.stage = Stage::Parked;
        }
        self.parked.retain(|&earlier| earlier != caller);
        self.parked.push(caller);
        if self.invoke.is_some() && !self.initializing {
            self.hand_out();
        }
        Status::Open
    }

    fn invocation_done(&mut self) {
        self.drain_outputs(Last::OfInvocation);
        let Some(request_id) = self.last_id.clone() else { return };
        let handler_ns = self.handler_ns;
        self.awaiting = self.extensions.busy();
        self.channel.push(&match self.awaiting {
            true => FromInit::RuntimeDone { request_id, handler_ns },
            false => FromInit::Done { request_id, handler_ns },
        });
    }

    /// Gives the event to who asked for it last: an earlier one may have
    /// lost patience and asked again.
    pub(crate) fn hand_out(&mut self) {
        while let Some(caller) = self.parked.pop() {
            let Some(invoke) = &self.invoke else { return };
            // Before the write: on a shared core the runtime may have answered
            // by the time it returns.
            let handed_out = Instant::now();
            let status = match caller {
                Caller::Direct => {
                    let Some(direct) = &mut self.direct else { continue };
                    direct::write_event(&mut direct.output, invoke);
                    direct.flush()
                }
                Caller::Connection(at) => {
                    let Some(Some(connection)) = self.connections.get_mut(at) else { continue };
                    let keep_alive = connection.keep_alive;
                    connection.answer_with(|out| api::write_event(out, invoke, keep_alive))
                }
            };
            if status == Status::Gone {
                match caller {
                    Caller::Direct => self.direct = None,
                    Caller::Connection(at) => self.connections[at] = None,
                }
                continue;
            }
            if self.phase == Phase::Ready {
                self.last_id = Some(invoke.request_id.clone());
                self.handed_out = handed_out;
                self.phase = Phase::Running;
            }
            if let Caller::Connection(at) = caller {
                self.update_connection(at);
            }
            return;
        }
    }

    /// A connection got output outside its own turn.
    pub(crate) fn update_connection(&mut self, at: usize) {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return };
        if !connection.input.is_empty() {
            self.resumed.push(at);
        }
        let wanted = connection.wanted_interest();
        let token = token::CONNECTIONS + at as u64;
        if wanted != connection.interest
            && self.epoll.modify(&connection.stream, token, wanted).is_ok()
        {
            connection.interest = wanted;
        }
    }

    pub(crate) fn finish_response(
        &mut self,
        id: String,
        content_type: Option<String>,
        body: Vec<u8>,
    ) {
        self.end_report();
        self.channel.push(&FromInit::Response { request_id: id, content_type, body });
    }

    pub(crate) fn finish_error(&mut self, id: &str, error_type: &str, body: Vec<u8>) {
        self.end_report();
        let error_type = recorded_error_type(error_type);
        self.channel.push(&FromInit::Failure { request_id: id.to_owned(), error_type, body });
    }

    pub(crate) fn finish_too_large(&mut self, id: String) {
        self.end_report();
        self.channel.push(&FromInit::TooLarge { request_id: id });
    }

    pub(crate) fn end_report(&mut self) {
        self.handler_ns = self.handed_out.elapsed().as_nanos() as u64;
        self.phase = self.phase.reported();
        // The event is not needed again; it may be large.
        self.invoke = None;
    }

    fn finish_init_error(&mut self, error_type: Option<&str>, body: Vec<u8>) {
        let error_type = recorded_error_type(error_type.unwrap_or_default());
        self.init_done(InitOutcome::Reported { error_type, body });
        self.invoke = None;
    }

    pub(crate) fn serve_direct(&mut self) -> io::Result<()> {
        let Some(direct) = &mut self.direct else { return Ok(()) };
        let status = direct.receive(&mut self.scratch);
        loop {
            let max = self.response_bytes_max();
            let room = self.stream_room(Caller::Direct).unwrap_or(usize::MAX);
            let Some(direct) = &mut self.direct else { return Ok(()) };
            let status = match direct.reader.next(max, room) {
                Ok(Heard::Nothing) => break,
                Ok(Heard::Stalled) => {
                    direct.stalled = true;
                    break;
                }
                Ok(Heard::Said(said)) => self.hear(said),
                Err(direct::Broken) => Status::Gone,
            };
            if status == Status::Gone {
                self.close_direct();
                return Ok(());
            }
        }
        if status == Status::Gone {
            self.close_direct();
        }
        Ok(())
    }

    fn hear(&mut self, said: Said) -> Status {
        let begun = match &said {
            Said::Next => return self.finish_next(Caller::Direct),
            Said::StreamPiece { .. } | Said::StreamEnd(_) => {
                // Only a stream of its own has room.
                self.stream_room(Caller::Direct).map(drop).ok_or(Refused::InvalidRequestId)
            }
            Said::StreamBegin { id, .. } => self.begin_report(Report::Response, Some(id)),
            Said::Response { id, .. } | Said::TooLarge { id } => {
                self.begin_report(Report::Response, Some(id))
            }
            Said::Error { id, .. } => self.begin_report(Report::Error, Some(id)),
            Said::InitError { .. } => self.begin_report(Report::InitError, None),
        };
        if begun.is_err() {
            return Status::Gone;
        }
        match said {
            Said::Next => {}
            Said::Response { id, content_type, body } => {
                self.finish_response(id, content_type, body);
            }
            Said::TooLarge { id } => self.finish_too_large(id),
            Said::StreamBegin { id, content_type } => {
                self.begin_stream(Caller::Direct, id, content_type);
            }
            Said::StreamPiece { bytes } => self.stream_piece(&bytes),
            Said::StreamEnd(ending) => {
                // It is not told; the host is.
                let _ = self.end_stream(ending);
            }
            Said::Error { id, error_type, body } => self.finish_error(&id, &error_type, body),
            Said::InitError { error_type, body } => {
                self.finish_init_error(Some(&error_type), body);
            }
        }
        Status::Open
    }

    /// A bootstrap that finds its socket closed ends.
    fn close_direct(&mut self) {
        self.parked.retain(|&caller| caller != Caller::Direct);
        self.direct = None;
    }
}

impl Request {
    fn streaming(&self) -> bool {
        self.head
            .response_mode
            .as_deref()
            .is_some_and(|mode| mode.eq_ignore_ascii_case("streaming"))
    }
}

impl Direct {
    fn receive(&mut self, scratch: &mut [u8]) -> Status {
        let flushed = self.flush();
        match (&self.stream).read(scratch) {
            Ok(0) => return Status::Gone,
            Ok(count) => self.reader.extend(&scratch[..count]),
            Err(error) if retry(&error) => {}
            Err(_) => return Status::Gone,
        }
        flushed
    }

    fn flush(&mut self) -> Status {
        let mut sent = 0;
        let status = loop {
            if sent == self.output.len() {
                break Status::Open;
            }
            match (&self.stream).write(&self.output[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Status::Open,
                Err(_) => break Status::Gone,
            }
        };
        self.output.drain(..sent);
        if self.output.is_empty() && self.output.capacity() > 16 << 10 {
            self.output = Vec::new();
        }
        status
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // Whoever else holds a copy of this end must see it closed too.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
