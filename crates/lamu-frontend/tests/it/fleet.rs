//! Manager, environments and worker as the frontend sees them.
//!
//! The event says what the function does: `{"do":"fail"}`, `"exit"`, `"hang"`
//! (until released), `"lose"`, `"stream"` (its `pieces`, then as `then` says);
//! anything else is echoed with what the function
//! would know about itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lamu_link::{
    AcquireError, BootError, EnvironmentHandle, InvokeError, Lease, ManagerHandle, ManagerRequest,
    Piece, ProvisionFailure, ProvisionedRow, Reply, Start, Timings, Work, WorkerHandle,
    WorkerRequest,
};
use lamu_model::{Epoch, Fault, LeaseId, Outcome, SandboxId, VersionId, VersionSpec, WorkerId};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

#[derive(Debug)]
pub struct Fleet {
    /// Versions that were retired.
    pub retired: Mutex<Vec<VersionId>>,
    /// Leases made, and of them those on environments that are already gone.
    pub leases: AtomicUsize,
    pub stillborn: AtomicUsize,
    /// The next acquisitions fail so.
    pub refuse: Mutex<Option<AcquireError>>,
    /// Preparing waits while false.
    pub prepare: watch::Sender<bool>,
    /// Hanging functions end when true.
    pub release: watch::Sender<bool>,
    /// What stands by, by version's number, and where it fails. Made at once,
    /// unless held.
    pub standing: Mutex<Vec<ProvisionedRow>>,
    pub allocates: Mutex<Result<bool, ProvisionFailure>>,
    /// What was given up, and after which version.
    pub given_up: Mutex<Vec<(VersionId, Option<VersionId>)>>,
    /// Leases that came back.
    pub returned: AtomicUsize,
}

impl Fleet {
    pub fn start() -> (Arc<Fleet>, ManagerHandle, WorkerHandle) {
        let fleet = Arc::new(Fleet {
            retired: Mutex::default(),
            leases: AtomicUsize::new(0),
            stillborn: AtomicUsize::new(0),
            refuse: Mutex::default(),
            prepare: watch::channel(true).0,
            release: watch::channel(false).0,
            standing: Mutex::default(),
            allocates: Mutex::new(Ok(true)),
            given_up: Mutex::default(),
            returned: AtomicUsize::new(0),
        });
        let (manager, requests) = ManagerHandle::new();
        tokio::spawn(fleet.clone().manage(requests));
        let (worker, requests) = WorkerHandle::new(WorkerId::new("w-1"));
        tokio::spawn(fleet.clone().work(requests));
        (fleet, manager, worker)
    }

    async fn manage(self: Arc<Self>, mut requests: mpsc::Receiver<ManagerRequest>) {
        let (returns, mut returned) = mpsc::unbounded_channel();
        let fleet = self.clone();
        tokio::spawn(async move {
            while returned.recv().await.is_some() {
                fleet.returned.fetch_add(1, Ordering::SeqCst);
            }
        });
        while let Some(request) = requests.recv().await {
            match request {
                ManagerRequest::Acquire { spec, reply, .. } => {
                    if let Some(error) = self.refuse.lock().unwrap().clone() {
                        let _ = reply.send(Err(error));
                        continue;
                    }
                    let sandbox = SandboxId(Uuid::new_v4());
                    let (environment, inbox) =
                        EnvironmentHandle::new(sandbox, WorkerId::new("w-1"));
                    let nth = self.leases.fetch_add(1, Ordering::SeqCst);
                    if self.stillborn.load(Ordering::SeqCst) > nth {
                        drop(inbox);
                    } else {
                        tokio::spawn(self.clone().environment(spec, inbox));
                    }
                    let timings = Timings {
                        placed: Duration::from_micros(10),
                        sandbox: Duration::from_millis(1),
                        init: Duration::from_millis(20),
                    };
                    let start = if nth == 0 { Start::Cold(timings) } else { Start::Warm };
                    let id = LeaseId(nth as u64);
                    let lease = Lease::new(id, Epoch(1), start, environment, returns.clone());
                    let _ = reply.send(Ok(lease));
                }
                ManagerRequest::Retire { version } => self.retired.lock().unwrap().push(version),
                ManagerRequest::Provision { spec, count } => self.provision(spec, count),
                ManagerRequest::Unprovision { version, after } => {
                    self.standing.lock().unwrap().retain(|row| row.spec.id != version);
                    self.given_up.lock().unwrap().push((version, after));
                }
                ManagerRequest::Provisioned { reply } => {
                    let _ = reply.send(self.standing.lock().unwrap().clone());
                }
                ManagerRequest::Event(_) | ManagerRequest::Census { .. } => {}
            }
        }
    }

    fn provision(&self, spec: Arc<VersionSpec>, count: u32) {
        let allocates = self.allocates.lock().unwrap().clone();
        let made = if allocates == Ok(true) { count } else { 0 };
        let mut standing = self.standing.lock().unwrap();
        standing.retain(|row| row.spec.id != spec.id);
        standing.push(ProvisionedRow {
            spec,
            requested: count,
            allocated: made,
            available: made,
            failure: allocates.err(),
            leaving: false,
            invocations: 0,
            spilled: 0,
        });
    }

    /// Version numbers and counts that stand by.
    pub fn stands(&self) -> Vec<(String, u32)> {
        let standing = self.standing.lock().unwrap();
        let mut rows: Vec<_> =
            standing.iter().map(|row| (row.spec.version.to_string(), row.allocated)).collect();
        rows.sort();
        rows
    }

    async fn environment(self: Arc<Self>, spec: Arc<VersionSpec>, mut inbox: mpsc::Receiver<Work>) {
        let Some(Work { call, lease, hold, reply, stream }) = inbox.recv().await else { return };
        let event: Value = serde_json::from_slice(&call.payload).unwrap();
        // Through a URL the order is the request's body.
        let body = event["body"].as_str().map(|body| serde_json::from_str(body).unwrap());
        let event = body.unwrap_or(event);
        let does = event["do"].as_str();
        if does == Some("stream") {
            let sink = stream.expect("the caller takes streams");
            let content_type = Some("text/x".to_owned());
            sink.send(Piece::Begin { content_type }).await.unwrap();
            for piece in event["pieces"].as_array().unwrap() {
                let piece = Bytes::from(piece.as_str().unwrap().to_owned());
                // Whoever is gone gets none.
                let _ = sink.send(Piece::Chunk(piece)).await;
            }
            if event["then"] == "wait" {
                sink.closed().await;
            }
        }
        let does = event["then"].as_str().or(does);
        let outcome = match does {
            Some("fail") => Outcome::FunctionError {
                error_type: "ValueError".into(),
                body: Bytes::from_static(b"{\"errorMessage\":\"boom\"}"),
            },
            Some("exit") => Outcome::Fault(Fault::exited(1)),
            Some("stream") => Outcome::Response { content_type: None, body: Bytes::new() },
            Some("lose") => {
                let _ = reply.send(Err(InvokeError::Lost));
                return;
            }
            does => {
                if does == Some("hang") {
                    let mut release = self.release.subscribe();
                    release.wait_for(|released| *released).await.unwrap();
                }
                let about = json!({
                    "event": event,
                    "arn": call.arn.as_str(),
                    "request": call.request.as_str(),
                    "trace": call.trace_id,
                    "context": call.client_context,
                    "version": spec.version.to_string(),
                    "code": spec.code.to_string(),
                    "environment": spec.environment,
                });
                Outcome::Response { content_type: None, body: Bytes::from(about.to_string()) }
            }
        };
        let log_tail = call.tail.then(|| b"START\nEND\nREPORT\t\n".to_vec());
        let handler = Duration::from_micros(300);
        let _ = reply.send(Ok(Reply { outcome, log_tail, handler }));
        // END: lease and permit go back.
        drop((lease, hold));
    }

    async fn work(self: Arc<Self>, mut requests: mpsc::Receiver<WorkerRequest>) {
        while let Some(request) = requests.recv().await {
            if let WorkerRequest::Prepare { spec, reply } = request {
                let fleet = self.clone();
                tokio::spawn(async move {
                    let mut prepare = fleet.prepare.subscribe();
                    prepare.wait_for(|open| *open).await.unwrap();
                    let missing = spec.runtime.as_str().starts_with("ruby");
                    let _ = reply.send(match missing {
                        false => Ok(()),
                        true => Err(BootError::RuntimeMissing {
                            runtime: spec.runtime.clone(),
                            advice: "install ruby".into(),
                        }),
                    });
                });
            }
        }
    }
}
