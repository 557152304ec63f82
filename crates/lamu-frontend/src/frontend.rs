//! The frontend role: started, asked for its address, drained.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lamu_link::{LogsHandle, ManagerHandle, WorkerHandle};
use lamu_store::{Metadata, MetadataError, Packages};
use tokio::net::TcpListener;
use tokio::sync::watch::error::RecvError;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::access::{Access, Enforced};
use crate::access_log::AccessLog;
use crate::admission::Admission;
use crate::body::Budget;
use crate::browser::OwnNames;
use crate::callers::Callers;
use crate::code::Intake;
use crate::code_link::CodeLinks;
use crate::config::FrontendConfig;
use crate::function::beside::Beside;
use crate::function::catalog::Catalog;
use crate::function::provisioner::Provisioner;
use crate::function::settle::Settler;
use crate::function::store::Store;
use crate::function::sweep::Sweeper;
use crate::function::watch::{Caught, spawn as watch_store};
use crate::identity::Identities;
use crate::invoke::Invoker;
use crate::layer::store::LayerStore;
use crate::listener::{self, Phase};
use crate::logs::tail::Tails;
use crate::mapping::Mappings;
use crate::operations::Control;
use crate::service::Service;
use crate::signing::store::SigningStore;
use crate::stats::FrontendStats;
use crate::url::address::UrlBase;

/// For the store to be read once at the start. A store that is merely large
/// takes seconds.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Frontend;

/// The running frontend. Dropping it ends it without draining.
pub struct FrontendHandle {
    local_addr: SocketAddr,
    stats: Arc<FrontendStats>,
    service: Arc<Service>,
    phase: watch::Sender<Phase>,
    listener: JoinHandle<()>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "without keys only a loopback address may be listened on, and {0} is none: configure keys, or listen on 127.0.0.1"
    )]
    Exposed(SocketAddr),
    #[error("could not listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("could not open the access log {}", path.display())]
    AccessLog { path: PathBuf, source: std::io::Error },
    #[error("could not read the functions")]
    Metadata(#[source] MetadataError),
    #[error("the functions could not be read within {0:?}")]
    Late(Duration),
}

impl Frontend {
    /// Listens, reads what functions there are, and serves.
    pub async fn start(
        config: FrontendConfig,
        metadata: Arc<dyn Metadata>,
        packages: Arc<dyn Packages>,
        manager: ManagerHandle,
        workers: Vec<WorkerHandle>,
        logs: LogsHandle,
    ) -> Result<FrontendHandle, StartError> {
        if config.keys.is_empty() && !config.listen.ip().to_canonical().is_loopback() {
            return Err(StartError::Exposed(config.listen));
        }
        let access_log = match &config.access_log {
            None => None,
            Some(path) => Some(
                AccessLog::open(path)
                    .map_err(|source| StartError::AccessLog { path: path.clone(), source })?,
            ),
        };
        let listening = |source| StartError::Listen { address: config.listen, source };
        let socket = TcpListener::bind(config.listen).await.map_err(listening)?;
        let local_addr = socket.local_addr().map_err(listening)?;

        let admission = Arc::new(Admission::new(config.limits, Instant::now()));
        let catalog = Arc::new(Catalog::new(admission.clone()));
        let mut tasks = JoinSet::new();
        let (caught, mut catching_up) = watch::channel(Caught::default());
        watch_store(&metadata, &catalog, &caught, &mut tasks);
        let beside = Arc::new(Beside::new(&metadata));
        let mut tables = beside.follow(&mut tasks);
        let mappings = Arc::new(Mappings::new(metadata.clone(), config.polled_sources));
        tables.push(mappings.table.follow(&mut tasks));
        let links = CodeLinks::open(&*metadata).await.map_err(StartError::Metadata)?;
        let caught_up = async {
            catching_up.wait_for(|caught| caught.all()).await?;
            for mut table in tables {
                table.wait_for(|caught| *caught).await?;
            }
            Ok::<(), RecvError>(())
        };
        tokio::time::timeout(CATCH_UP_MAX, caught_up)
            .await
            .map_err(|_| StartError::Late(CATCH_UP_MAX))?
            .map_err(|_| StartError::Late(Duration::ZERO))?;

        let stats = Arc::new(FrontendStats::default());
        let layers = Arc::new(LayerStore::new(metadata.clone()));
        let signing = Arc::new(SigningStore::new(metadata.clone()));
        let store = Arc::new(Store::new(metadata, catalog.clone()));
        let settler =
            Arc::new(Settler::new(store.clone(), catalog.clone(), workers, manager.clone()));
        let sweeper = Arc::new(Sweeper::new(
            store.clone(),
            catalog.clone(),
            beside.clone(),
            layers.clone(),
            packages.clone(),
        ));
        tasks.spawn(settler.clone().run());
        let provisioner = Arc::new(Provisioner::new(catalog.clone(), manager.clone()));
        tasks.spawn(sweeper.clone().run());
        tasks.spawn(provisioner.clone().run());
        let enforced = match config.keys.is_empty() {
            false => Enforced::Yes,
            true => Enforced::OwnAccountsAreOpen,
        };
        let access = Arc::new(Access {
            catalog: catalog.clone(),
            layers: layers.clone(),
            signing: signing.clone(),
            mappings: mappings.clone(),
            enforced,
        });
        tasks.spawn(mappings.clone().run());
        let service = Arc::new(Service {
            identities: Identities::new(config.keys, config.account, config.region),
            access: access.clone(),
            own: OwnNames::new(local_addr, &config.names),
            callers: Callers::new(config.caller_rate, Instant::now()),
            control: Arc::new(Control {
                catalog: catalog.clone(),
                store,
                settler,
                sweeper,
                beside,
                provisioner,
                manager: manager.clone(),
                mappings,
                intake: Intake::new(packages.clone(), config.s3, config.temp_dir),
                links,
                layers,
                signing,
                url_base: config.url_base.unwrap_or_else(|| UrlBase::local(local_addr.port())),
                account_concurrency: config.limits.concurrency,
                block_public_policies: config.block_public_policies,
                reserving: Mutex::new(()),
            }),
            invoker: Invoker {
                catalog,
                access,
                admission,
                manager,
                stats: stats.clone(),
                acquire_max: config.bounds.acquire_max,
            },
            logs,
            tails: Tails::default(),
            packages,
            budget: Budget::new(config.bounds.body_bytes_max),
            stats: stats.clone(),
            access_log,
            render_metrics: config.render_metrics,
            ready: AtomicBool::new(true),
        });
        let (phase, phases) = watch::channel(Phase::Serving);
        let running = listener::run(socket, service.clone(), config.bounds, phases);
        let listener = tokio::spawn(running);
        tracing::info!(%local_addr, "serving");
        Ok(FrontendHandle { local_addr, stats, service, phase, listener, _tasks: tasks })
    }
}

impl FrontendHandle {
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub fn stats(&self) -> &Arc<FrontendStats> {
        &self.stats
    }

    /// Takes no new connections, lets requests end until `patience` is over,
    /// and cuts what is left.
    pub async fn drain(self, patience: Duration) {
        let mut this = self;
        this.service.ready.store(false, Ordering::Relaxed);
        this.phase.send_replace(Phase::Draining);
        this.service.tails.close();
        if tokio::time::timeout(patience, &mut this.listener).await.is_err() {
            tracing::warn!("cut connections that did not end in time");
            this.phase.send_replace(Phase::Ended);
            // Connections end at their next turn.
            let _ = (&mut this.listener).await;
        }
    }
}

impl Drop for FrontendHandle {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Ended);
        self.listener.abort();
    }
}

impl fmt::Debug for FrontendHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontendHandle")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}
