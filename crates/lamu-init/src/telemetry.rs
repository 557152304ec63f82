//! Who subscribed to what, and every record's way to them.
//!
//! While Init goes on anybody may still subscribe, so a little of what came
//! is kept for those who will. When it is over, an environment without
//! subscribers spends nothing here.
//!
//! Not here: bodies of subscriptions (`subscription`), batches and sockets
//! (`sink`).

use std::time::Instant;

use lamu_guest::{LogSource, TelemetryApi};

use crate::record;
use crate::sink::Sink;
use crate::subscription::{Destination, Subscription};
use crate::sys::Epoll;
use crate::value::Json;

/// What is kept of an Init for those who subscribe late in it.
const EARLY_BYTES_MAX: usize = 64 << 10;

/// Subscriptions of one extension in one Init. Each is a line of the log, and
/// the host counts those.
const SUBSCRIPTIONS_MAX: u32 = 8;

#[derive(Debug, Default)]
pub struct Telemetry {
    /// At most one an extension.
    subscribers: Vec<Subscriber>,
    /// Init goes on.
    open: bool,
    early: Vec<Early>,
    early_bytes: usize,
    /// Lines that are objects are told as objects.
    json_format: bool,
}

#[derive(Debug)]
struct Subscriber {
    /// Of which extension.
    owner: usize,
    api: TelemetryApi,
    count: u32,
    sink: Sink,
}

#[derive(Debug)]
struct Early {
    kind: Kind,
    event: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Platform(TelemetryApi),
    Output(LogSource),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Closed,
    Invalid(String),
}

impl Telemetry {
    /// An Init begins.
    pub fn open(&mut self, json_format: bool) {
        *self = Telemetry { open: true, json_format, ..Telemetry::default() };
    }

    /// Init is over: who did not subscribe will not.
    pub fn close(&mut self) {
        self.open = false;
        self.early = Vec::new();
    }

    pub fn subscribe(
        &mut self,
        owner: usize,
        api: TelemetryApi,
        subscription: Subscription,
        token: u64,
        epoll: &Epoll,
    ) -> Result<(), Refused> {
        if !self.open {
            return Err(Refused::Closed);
        }
        let earlier = self.subscribers.iter().position(|subscriber| subscriber.owner == owner);
        let mut count = 1;
        if let Some(earlier) = earlier {
            let earlier = &self.subscribers[earlier];
            if earlier.api != api {
                let name = match earlier.api {
                    TelemetryApi::Telemetry => "Telemetry",
                    TelemetryApi::Logs => "Logs",
                };
                let text = format!("the extension is subscribed to the {name} API already");
                return Err(Refused::Invalid(text));
            }
            count = earlier.count + 1;
            if count > SUBSCRIPTIONS_MAX {
                return Err(Refused::Closed);
            }
        }
        let mut sink = Sink::new(subscription, token + owner as u64);
        let port = sink.subscription.destination.port();
        // An HTTP listener may come up a moment later; its batches are sent
        // again. A TCP listener is connected to here and now.
        if matches!(sink.subscription.destination, Destination::Tcp { .. })
            && sink.connect_first(epoll).is_err()
        {
            let text = format!("Invalid destination: could not connect to 127.0.0.1:{port}");
            return Err(Refused::Invalid(text));
        }
        let mut subscriber = Subscriber { owner, api, count, sink };
        match earlier {
            Some(earlier) => {
                let earlier = &mut self.subscribers[earlier];
                subscriber.sink.replace(&earlier.sink);
                *earlier = subscriber;
            }
            None => {
                let now = Instant::now();
                for early in &self.early {
                    if subscriber.wants(early.kind, &early.event) {
                        subscriber.sink.put(&early.event, now, epoll);
                    }
                }
                self.subscribers.push(subscriber);
            }
        }
        Ok(())
    }

    /// A line of output.
    pub fn output(&mut self, source: LogSource, time_ms: u64, record: &[u8], epoll: &Epoll) {
        let kind = Kind::Output(source);
        let keeps = self.open && self.early_bytes + record.len() < EARLY_BYTES_MAX;
        if keeps || self.subscribers.iter().any(|subscriber| subscriber.wants(kind, b"")) {
            self.tell(kind, record::of_output(source, time_ms, record, self.json_format), epoll);
        }
    }

    /// An event that the host worded.
    pub fn event(&mut self, api: TelemetryApi, json: String, epoll: &Epoll) {
        self.tell(Kind::Platform(api), json.into_bytes(), epoll);
    }

    /// Everything that waits leaves as soon as it can.
    pub fn flush(&mut self, epoll: &Epoll) {
        let now = Instant::now();
        for subscriber in &mut self.subscribers {
            subscriber.sink.flush(now, epoll);
        }
    }

    pub fn wake_at(&self) -> Option<Instant> {
        self.subscribers.iter().filter_map(|subscriber| subscriber.sink.wake_at()).min()
    }

    pub fn keep_time(&mut self, epoll: &Epoll) {
        if self.subscribers.is_empty() {
            return;
        }
        let now = Instant::now();
        for subscriber in &mut self.subscribers {
            subscriber.sink.keep_time(now, epoll);
        }
    }

    pub fn serve(&mut self, owner: usize, scratch: &mut [u8], epoll: &Epoll) {
        for subscriber in &mut self.subscribers {
            if subscriber.owner == owner {
                subscriber.sink.serve(scratch, Instant::now(), epoll);
            }
        }
    }

    fn tell(&mut self, kind: Kind, event: Vec<u8>, epoll: &Epoll) {
        let now = Instant::now();
        for subscriber in &mut self.subscribers {
            if subscriber.wants(kind, &event) {
                subscriber.sink.put(&event, now, epoll);
            }
        }
        if self.open && self.early_bytes + event.len() <= EARLY_BYTES_MAX {
            self.early_bytes += event.len();
            self.early.push(Early { kind, event });
        }
    }
}

impl Subscriber {
    fn wants(&self, kind: Kind, event: &[u8]) -> bool {
        let types = self.sink.subscription.types;
        match kind {
            Kind::Output(LogSource::Function) => types.function,
            Kind::Output(LogSource::Extension) => types.extension,
            Kind::Platform(api) => {
                types.platform
                    && api == self.api
                    && !(self.sink.subscription.first_schema && is_runtime_done(event))
            }
        }
    }
}

fn is_runtime_done(event: &[u8]) -> bool {
    let kind = Json::parse(event).and_then(|json| json.get("type")).and_then(Json::text);
    kind.as_deref() == Some("platform.runtimeDone")
}
