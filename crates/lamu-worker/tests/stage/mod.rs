//! Init played by the test, and a worker on the fake driver.

#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::Arc;

use lamu_guest::{
    FrameBuffer, FromInit, InitOutcome, Invoke, LogSource, PROTOCOL, TelemetryApi, ToInit,
};
use lamu_link::{Booted, InvokeError, Reply};
use lamu_model::{SandboxId, VersionSpec};
use lamu_sandbox::fake::{Birth, FakeDriver};
use lamu_worker::WorkerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::common::{Host, eventually, spec};

/// The test's end of one sandbox's channel.
pub struct Init {
    pub sandbox: SandboxId,
    pub channel: UnixStream,
    pub heard: FrameBuffer,
    /// Events for subscribers that were passed over.
    pub events: Vec<(TelemetryApi, serde_json::Value)>,
}

impl Init {
    pub fn new(birth: Birth) -> Init {
        Init {
            sandbox: birth.spec.sandbox,
            channel: birth.channel,
            heard: FrameBuffer::new(),
            events: Vec::new(),
        }
    }

    pub async fn say(&mut self, message: FromInit) {
        let mut wire = Vec::new();
        message.encode(&mut wire);
        self.channel.write_all(&wire).await.unwrap();
    }

    /// The same where the worker may hang up on it.
    #[allow(dead_code, reason = "each test file uses a part")]
    pub async fn say_whatever(&mut self, message: FromInit) {
        let mut wire = Vec::new();
        message.encode(&mut wire);
        let _ = self.channel.write_all(&wire).await;
    }

    /// `None` when the worker hung up.
    pub async fn hear(&mut self) -> Option<ToInit> {
        loop {
            if let Some((kind, fields)) = self.heard.next().unwrap() {
                match ToInit::decode(kind, fields).unwrap() {
                    ToInit::Event { api, json } => {
                        self.events.push((api, serde_json::from_str(&json).unwrap()));
                        continue;
                    }
                    message => return Some(message),
                }
            }
            let mut bytes = vec![0; 64 * 1024];
            let count = self.channel.read(&mut bytes).await.unwrap_or(0);
            if count == 0 {
                return None;
            }
            self.heard.extend(&bytes[..count]);
        }
    }

    /// The next event for subscribers.
    pub async fn event(&mut self) -> (TelemetryApi, serde_json::Value) {
        loop {
            if let Some((kind, fields)) = self.heard.next().unwrap() {
                match ToInit::decode(kind, fields).unwrap() {
                    ToInit::Event { api, json } => {
                        return (api, serde_json::from_str(&json).unwrap());
                    }
                    message => panic!("{message:?}"),
                }
            }
            let mut bytes = vec![0; 64 * 1024];
            let count = self.channel.read(&mut bytes).await.unwrap();
            assert_ne!(count, 0, "the worker hung up");
            self.heard.extend(&bytes[..count]);
        }
    }

    pub async fn log(&mut self, record: &str) {
        let record = record.as_bytes().to_vec();
        self.say(FromInit::Log { source: LogSource::Function, time_ms: 0, record }).await;
    }

    pub async fn init_done(&mut self, outcome: InitOutcome) {
        self.say(FromInit::InitDone { outcome, duration_ns: 1 }).await;
    }

    pub async fn hello(&mut self) {
        self.say(FromInit::Hello { protocol: PROTOCOL }).await;
        assert!(matches!(self.hear().await, Some(ToInit::Start(_))));
    }

    pub async fn ready(&mut self) {
        self.hello().await;
        self.init_done(InitOutcome::Ready).await;
    }

    pub async fn invoked(&mut self) -> Invoke {
        match self.hear().await {
            Some(ToInit::Invoke(invoke)) => invoke,
            other => panic!("{other:?}"),
        }
    }

    pub async fn respond(&mut self, id: &str, body: &[u8]) {
        let (request_id, body) = (id.to_owned(), body.to_vec());
        self.say(FromInit::Response { request_id, content_type: None, body }).await;
    }

    pub async fn done(&mut self, id: &str) {
        self.say(FromInit::Done { request_id: id.to_owned(), handler_ns: 1_000 }).await;
    }

    /// Answers one event with itself.
    pub async fn echo(&mut self) {
        let invoke = self.invoked().await;
        self.respond(&invoke.request_id, &invoke.body).await;
        self.done(&invoke.request_id).await;
    }

    pub async fn reset(&mut self) {
        assert!(matches!(self.hear().await, Some(ToInit::Reset(_))));
        self.say(FromInit::ResetDone).await;
    }
}

pub struct Stage {
    pub host: Host,
    pub driver: FakeDriver,
    pub births: UnboundedReceiver<Birth>,
    pub spec: Arc<VersionSpec>,
}

impl Stage {
    pub async fn new() -> Stage {
        Stage::with(|_| {}, |_| {}).await
    }

    pub async fn with(
        config: impl FnOnce(&mut WorkerConfig),
        change: impl FnOnce(&mut VersionSpec),
    ) -> Stage {
        let (driver, births) = FakeDriver::new();
        let host = Host::start(Arc::new(driver.clone()), config).await;
        let code = host.package(&[("bootstrap", b"#!/bin/sh\n")]).await;
        let mut spec = spec(code, "provided.al2023");
        change(&mut spec);
        Stage { host, driver, births, spec: Arc::new(spec) }
    }

    /// An environment whose Init went well.
    pub async fn booted(&mut self) -> (Booted, Init) {
        let init = async {
            let mut init = Init::new(self.births.recv().await.unwrap());
            init.ready().await;
            init
        };
        let (booted, init) = tokio::join!(self.host.boot(&self.spec), init);
        (booted.unwrap(), init)
    }

    /// One invocation with its tail, and what init does meanwhile.
    pub async fn invoke<T>(
        &self,
        booted: &Booted,
        init: impl Future<Output = T>,
    ) -> (Result<Reply, InvokeError>, T) {
        tokio::join!(self.host.invoke(&booted.environment, "{\"k\":1}"), init)
    }

    pub async fn all_gone(&self) {
        eventually("every machine is gone", || self.driver.machines().is_empty()).await;
        let stats = self.host.worker.stats();
        eventually("no gauge is left", || {
            stats.starting.get() + stats.idle.get() + stats.busy.get() + stats.frozen.get() == 0
        })
        .await;
    }
}
