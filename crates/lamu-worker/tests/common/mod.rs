//! A worker on a driver of the test's choice, with the test as manager and
//! placement.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lamu_link::{
    BootError, Booted, Call, EnvironmentHandle, InvokeError, Lease, LogGroupName, LogQuery,
    LogsHandle, ManagerHandle, ManagerRequest, PlacementHandle, PlacementRequest, Reply, Start,
    Timings,
};
use lamu_model::{
    AccountId, Digest, Epoch, FunctionName, InitializationType, LeaseId, LogConfig, LogFormat,
    LogLevel, Outcome, Region, RequestId, Runtime, SandboxId, Version, VersionId, VersionSpec,
    WorkerId,
};
use lamu_sandbox::Driver;
use lamu_store::{DirPackages, Packages};
use lamu_worker::logs::{LogLimits, LogStore};
use lamu_worker::{Worker, WorkerConfig};
use tokio::sync::mpsc;
use uuid::Uuid;

pub struct Host {
    pub worker: Worker,
    pub logs: LogsHandle,
    pub packages: Arc<dyn Packages>,
    pub placement: mpsc::Receiver<PlacementRequest>,
    pub manager: mpsc::Receiver<ManagerRequest>,
    pub manager_handle: ManagerHandle,
    pub epoch: Epoch,
    pub returns: mpsc::UnboundedReceiver<(LeaseId, SandboxId)>,
    returned: mpsc::UnboundedSender<(LeaseId, SandboxId)>,
    leases: std::sync::atomic::AtomicU64,
    store: Arc<LogStore>,
    pub dir: tempfile::TempDir,
}

impl Drop for Host {
    /// Environments end with the test's runtime, after the directory has gone.
    fn drop(&mut self) {
        self.store.close();
    }
}

impl Host {
    pub async fn start(driver: Arc<dyn Driver>, change: impl FnOnce(&mut WorkerConfig)) -> Host {
        let dir = tempfile::tempdir().unwrap();
        // Functions run under other users.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let packages: Arc<dyn Packages> =
            Arc::new(DirPackages::open(dir.path().join("store")).unwrap());
        let (placement_handle, placement) = PlacementHandle::new();
        let (manager_handle, manager) = ManagerHandle::new();
        let store =
            Arc::new(LogStore::open(dir.path().join("logs"), LogLimits::default()).unwrap());
        let logs = store.serve();
        let mut config = WorkerConfig::new(WorkerId::new("w-1"), dir.path().to_owned(), 2, 8_192);
        change(&mut config);
        let worker =
            Worker::start(config, driver, packages.clone(), placement_handle, store.clone())
                .unwrap();
        let epoch = Epoch(1);
        worker.handle().adopt(epoch, manager_handle.clone()).await.unwrap();
        let (returned, returns) = mpsc::unbounded_channel();
        Host {
            worker,
            logs,
            packages,
            placement,
            manager,
            manager_handle,
            epoch,
            returns,
            returned,
            leases: Default::default(),
            store,
            dir,
        }
    }

    /// Stores a package of these files, all executable.
    pub async fn package(&self, files: &[(&str, &[u8])]) -> Digest {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, content) in files {
            let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
            zip.start_file(*name, options).unwrap();
            zip.write_all(content).unwrap();
        }
        let bytes = zip.finish().unwrap().into_inner();
        self.packages.put(Bytes::from(bytes)).await.unwrap()
    }

    pub async fn boot(&self, spec: &Arc<VersionSpec>) -> Result<Booted, BootError> {
        self.worker.handle().boot(new_sandbox(), self.epoch, spec).await
    }

    /// As provisioned concurrency.
    pub async fn provision(&self, spec: &Arc<VersionSpec>) -> Result<Booted, BootError> {
        let initialization = InitializationType::ProvisionedConcurrency;
        self.worker.handle().boot_as(initialization, new_sandbox(), self.epoch, spec).await
    }

    pub fn lease(&self, environment: &EnvironmentHandle) -> Lease {
        let id = self.leases.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Lease::new(
            LeaseId(id),
            self.epoch,
            Start::Cold(Timings::default()),
            environment.clone(),
            self.returned.clone(),
        )
    }

    pub async fn invoke(
        &self,
        environment: &EnvironmentHandle,
        payload: &str,
    ) -> Result<Reply, InvokeError> {
        self.lease(environment).invoke(call(payload, true), Box::new(())).await
    }

    /// Messages of the function's group, in order.
    pub async fn lines(&self, spec: &VersionSpec) -> Vec<String> {
        let mut query = LogQuery::all(LogGroupName {
            account: spec.account.clone(),
            region: spec.region.clone(),
            group: spec.log.group.clone(),
        });
        let mut events = Vec::new();
        loop {
            let page = self.logs.events(query.clone()).await.unwrap_or_default();
            query.after = page.events.last().map(|event| (event.time_ms, event.id));
            events.extend(page.events);
            if !page.more {
                break;
            }
        }
        events.sort_by_key(|event| event.id);
        events.into_iter().map(|event| event.message).collect()
    }
}

pub fn new_sandbox() -> SandboxId {
    SandboxId(Uuid::new_v4())
}

pub fn call(payload: &str, tail: bool) -> Call {
    let spec = spec(Digest::of(b""), "provided.al2023");
    Call {
        request: RequestId::new(Uuid::new_v4().to_string()),
        arn: spec.function_arn(),
        trace_id: None,
        client_context: None,
        cognito_identity: None,
        tenant_id: None,
        content_type: None,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        tail,
    }
}

pub fn spec(code: Digest, runtime: &str) -> VersionSpec {
    VersionSpec {
        id: VersionId(Uuid::new_v4()),
        account: AccountId::new("123456789012"),
        region: Region::new("us-east-1"),
        name: FunctionName::new("f"),
        version: Version::Latest,
        runtime: Runtime::new(runtime),
        handler: "app.handler".to_owned(),
        code,
        layers: Vec::new(),
        memory_mib: 128,
        timeout_secs: 3,
        ephemeral_mib: 512,
        environment: BTreeMap::new(),
        log: LogConfig {
            format: LogFormat::Text,
            group: "/aws/lambda/f".to_owned(),
            application_level: LogLevel::Info,
            system_level: LogLevel::Info,
        },
        tracing_active: false,
        architecture: match cfg!(target_arch = "aarch64") {
            true => lamu_model::Architecture::Arm64,
            false => lamu_model::Architecture::X86_64,
        },
    }
}

/// The body of a response, or the whole outcome as a failure.
pub fn body(reply: &Reply) -> String {
    match &reply.outcome {
        Outcome::Response { body, .. } => String::from_utf8(body.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

pub fn fault(reply: &Reply) -> (&'static str, String) {
    match &reply.outcome {
        Outcome::Fault(fault) => (fault.kind.error_type(), fault.message.clone()),
        other => panic!("{other:?}"),
    }
}

pub fn tail(reply: &Reply) -> String {
    String::from_utf8(reply.log_tail.clone().expect("a tail")).unwrap()
}

/// Waits until `check` holds; time may be paused.
pub async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

pub fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
