//! All roles in one process: started in the order in which they need each
//! other, ended in the reverse.
//!
//! ```text
//!  data/lock        one lamu a directory
//!  data/metadata.db functions, versions, aliases
//!  data/packages/   zips by digest
//!  data/logs/       what functions wrote
//!  data/worker/     unpacked packages, the runtimes' bootstraps
//!  data/sandbox/    what the driver remembers of this instance
//! ```
//!
//! Not here: what any of them does.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use lamu_fleet::{Manager, ManagerConfig, Placement};
use lamu_frontend::{
    AccessKey, CallerRate, Frontend, FrontendConfig, FrontendHandle, Limits, RateRule, S3Config,
    S3Credentials,
};
use lamu_link::{ManagerHandle, WorkerHandle};
use lamu_model::mapping::SourceKind;
use lamu_model::{Epoch, Region, WorkerId};
use lamu_sandbox::process::{ProcessDriver, ProcessDriverConfig};
use lamu_store::{DirPackages, Metadata, Packages, SqliteMetadata};
use lamu_worker::logs::{LogLimits, LogStore};
use lamu_worker::{StreamRate, User, Worker, WorkerConfig};
use tracing::{info, warn};

use crate::settings::{RateLimits, Settings};

/// The kinds of event sources that this program polls. A mapping of another
/// kind is refused, since it would do nothing.
const POLLED: &[SourceKind] = &[];

/// A platform that serves.
#[derive(Debug)]
pub struct Platform {
    /// Taken when it drains.
    frontend: Mutex<Option<FrontendHandle>>,
    address: SocketAddr,
    worker: WorkerHandle,
    driver: ProcessDriver,
    logs: Arc<LogStore>,
    region: Region,
    /// Held as long as the data is ours.
    _lock: File,
}

impl Platform {
    pub async fn start(settings: Settings) -> anyhow::Result<Platform> {
        let data = &settings.data;
        make_private(data)?;
        let lock = lock(data)?;
        let metadata: Arc<dyn Metadata> =
            Arc::new(SqliteMetadata::open(data.join("metadata.db")).context("open the metadata")?);
        let packages: Arc<dyn Packages> =
            Arc::new(DirPackages::open(data.join("packages")).context("open the packages")?);
        let logs =
            LogStore::open(data.join("logs"), LogLimits::default()).context("open the logs")?;
        let logs = Arc::new(logs);

        let sandbox = data.join("sandbox");
        make_private(&sandbox)?;
        let config = ProcessDriverConfig {
            egress: settings.egress.clone(),
            ..ProcessDriverConfig::new(crate::INIT, &sandbox)
        };
        let driver = ProcessDriver::start(config).await;
        let driver = driver.context("start the process driver; `lamu doctor` says more")?;
        tell_what_holds(&driver);

        let placement = Placement::start(nanoseconds_now());
        let worker = Worker::start(
            worker_config(&settings, &driver),
            Arc::new(driver.clone()),
            packages.clone(),
            placement.clone(),
            logs.clone(),
        )
        .context("start the worker")?;
        let manager =
            Manager::start(manager_config(&settings), placement, vec![worker.handle().clone()]);
        let doors =
            Doors { metadata, packages, manager, worker: &worker, logs: &logs, driver: &driver };
        let frontend = start_frontend(&settings, doors).await?;
        let address = frontend.local_addr();
        driver.egress().set_own(address);
        info!(%address, data = %data.display(), "ready");
        Ok(Platform {
            frontend: Mutex::new(Some(frontend)),
            address,
            worker: worker.handle().clone(),
            driver,
            logs,
            region: settings.region,
            _lock: lock,
        })
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Takes no new calls, lets running ones end within `patience`, and leaves
    /// nothing.
    pub async fn drain(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let frontend = self.frontend.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(frontend) = frontend {
            frontend.drain(patience).await;
        }
        let patience = until.saturating_duration_since(Instant::now());
        if self.worker.drain(patience).await.is_err() {
            warn!("the worker has ended by itself");
        }
        self.end().await;
    }

    /// Ends everything now.
    pub async fn end(&self) {
        self.driver.destroy_all().await;
        let logs = self.logs.clone();
        // A task that failed has written its last line already.
        let _ = tokio::task::spawn_blocking(move || logs.close()).await;
    }
}

/// What reaches the frontend: the doors of the other roles and the stores.
struct Doors<'a> {
    metadata: Arc<dyn Metadata>,
    packages: Arc<dyn Packages>,
    manager: ManagerHandle,
    worker: &'a Worker,
    logs: &'a Arc<LogStore>,
    driver: &'a ProcessDriver,
}

async fn start_frontend(settings: &Settings, doors: Doors<'_>) -> anyhow::Result<FrontendHandle> {
    let temp_dir = settings.data.join("tmp");
    make_private(&temp_dir)?;
    let keys = settings.keys.iter().map(|key| AccessKey {
        id: key.access_key_id.clone(),
        secret: key.secret_access_key.clone(),
        principal: key.principal.clone(),
    });
    let worker = doors.worker.clone();
    let manager = doors.manager.clone();
    let (rate, caller_rate) = match settings.rate_limits {
        RateLimits::Off => (RateRule::Unlimited, CallerRate::Unlimited),
        RateLimits::Aws => (RateRule::TenPerConcurrency, CallerRate::Lambda),
    };
    let (log_store, egress) = (doors.logs.clone(), doors.driver.egress().clone());
    let local = FrontendConfig::local(settings.listen, temp_dir);
    let config = FrontendConfig {
        names: settings.names.clone(),
        account: settings.account.clone(),
        region: settings.region.clone(),
        keys: keys.collect(),
        limits: Limits { concurrency: settings.concurrency, rate },
        caller_rate,
        block_public_policies: settings.block_public_policies,
        s3: S3Config { endpoint: settings.s3_endpoint.clone(), credentials: s3_credentials() },
        polled_sources: POLLED.to_vec(),
        access_log: settings.access_log.clone(),
        render_metrics: Arc::new(move || {
            let (worker, manager) = (worker.clone(), manager.clone());
            let figures = (log_store.figures(), egress.figures());
            Box::pin(async move {
                crate::metrics::of_worker(&worker)
                    + &crate::metrics::of_manager(&manager).await
                    + &crate::metrics::of_logs(&figures.0)
                    + &crate::metrics::of_egress(&figures.1)
            })
        }),
        url_base: settings.url_base.clone(),
        ..local
    };
    let workers = vec![doors.worker.handle().clone()];
    let Doors { metadata, packages, manager, logs, .. } = doors;
    let frontend =
        Frontend::start(config, metadata, packages, manager, workers, logs.serve()).await?;
    Ok(frontend)
}

fn worker_config(settings: &Settings, driver: &ProcessDriver) -> WorkerConfig {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let data = settings.data.join("worker");
    let stream_rate = settings
        .stream_mib_per_sec
        .map(|mib| StreamRate { bytes_per_sec: u64::from(mib) << 20, ..StreamRate::LAMBDA });
    WorkerConfig {
        stream_rate,
        environments_max: settings.sandboxes_max,
        package_cache_bytes_max: settings.package_cache_mib << 20,
        cpu_share: settings.cpu_share,
        runtimes: settings
            .runtimes
            .iter()
            .map(|(runtime, path)| (runtime.to_string(), path.clone()))
            .collect(),
        credentials: settings.function_credentials.clone(),
        endpoint_variables: settings.egress.variables.clone(),
        user: driver.user().map(|user| User { uid: user.uid, gid: user.gid }),
        ..WorkerConfig::new(WorkerId::new("local"), data, cores, settings.memory_mib)
    }
}

fn manager_config(settings: &Settings) -> ManagerConfig {
    // Grows from one reign to the next, as long as the clock is not set back;
    // on one machine no worker outlives its manager, so nothing hangs on it.
    let epoch = Epoch(nanoseconds_now());
    ManagerConfig {
        idle_keep: settings.keep_alive,
        age_max: settings.age_max,
        idle_max: settings.sandboxes_max as usize,
        ..ManagerConfig::new(epoch)
    }
}

/// The keys that lamu itself was started with open S3, as they would for any
/// program.
fn s3_credentials() -> Option<S3Credentials> {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    Some(S3Credentials {
        access_key: variable("AWS_ACCESS_KEY_ID")?,
        secret: variable("AWS_SECRET_ACCESS_KEY")?,
        session_token: variable("AWS_SESSION_TOKEN"),
    })
}

fn tell_what_holds(driver: &ProcessDriver) {
    for (what, why) in driver.report().missing() {
        warn!(what, why, "not enforced on this host");
    }
}

/// Code, logs and keys are nobody else's business.
fn make_private(dir: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("make {}", dir.display()))
}

fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => bail!("another lamu uses {}", data.display()),
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

fn nanoseconds_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
