//! What a frontend is started with, and the bounds it holds.
//!
//! Not here: where the values come from (the program's settings).

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lamu_model::mapping::SourceKind;
use lamu_model::{AccountId, Region};

use crate::admission::{Limits, RateRule};
use crate::callers::CallerRate;
use crate::identity::AccessKey;
use crate::s3::S3Config;
use crate::url::address::UrlBase;

/// Renders what the other roles count, as Prometheus text. Asks them, so it may
/// wait.
pub type RenderMetrics =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync>;

#[derive(Clone)]
pub struct FrontendConfig {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Host names that this process is reached by, beside localhost and the
    /// listening address.
    pub names: Vec<String>,
    /// Whose functions unsigned requests are about, and where.
    pub account: AccountId,
    pub region: Region,
    /// Without any, nothing is verified and only loopback is served.
    pub keys: Vec<AccessKey>,
    /// Whether policies that let anyone in are refused.
    pub block_public_policies: bool,
    /// What each account may use in each region.
    pub limits: Limits,
    /// How often each account may ask the control plane.
    pub caller_rate: CallerRate,
    pub s3: S3Config,
    /// Sources that somebody polls; mappings of others are refused.
    pub polled_sources: Vec<SourceKind>,
    /// How clients reach function URLs; at the listener's port of this machine
    /// when absent.
    pub url_base: Option<UrlBase>,
    /// For downloads; must exist.
    pub temp_dir: PathBuf,
    pub bounds: Bounds,
    /// A line for each request is appended here.
    pub access_log: Option<PathBuf>,
    pub render_metrics: RenderMetrics,
}

/// What strangers can make this process hold.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Connections beyond it wait in the kernel's backlog.
    pub connections_max: usize,
    /// Request line and headers. Lambda takes 1 MB; what SDKs send stays below
    /// 16 KiB, presigned queries and client contexts included.
    pub head_bytes_max: usize,
    pub headers_max: usize,
    /// For a whole head to arrive, and for an idle connection to be used
    /// again.
    pub head_wait_max: Duration,
    /// Memory for bodies being read and served.
    pub body_bytes_max: u64,
    /// A call's wait for an environment: the 10 seconds of an Init and as much
    /// again for those before it.
    pub acquire_max: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            connections_max: 4_096,
            head_bytes_max: 128 * 1024,
            headers_max: 100,
            head_wait_max: Duration::from_secs(60),
            body_bytes_max: 512 * 1024 * 1024,
            acquire_max: Duration::from_secs(30),
        }
    }
}

impl FrontendConfig {
    /// For one user on one machine: no keys, no names, AWS's own S3.
    pub fn local(listen: SocketAddr, temp_dir: PathBuf) -> FrontendConfig {
        FrontendConfig {
            listen,
            names: Vec::new(),
            account: AccountId::new("000000000000"),
            region: Region::new("us-east-1"),
            keys: Vec::new(),
            block_public_policies: false,
            // The rate rule protects a fleet that strangers share; one user's
            // own machine has its concurrency to bound it.
            limits: Limits { rate: RateRule::Unlimited, ..Limits::default() },
            caller_rate: CallerRate::Unlimited,
            s3: S3Config::default(),
            polled_sources: Vec::new(),
            url_base: None,
            temp_dir,
            bounds: Bounds::default(),
            access_log: None,
            render_metrics: Arc::new(|| Box::pin(async { String::new() })),
        }
    }
}

impl fmt::Debug for FrontendConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontendConfig")
            .field("listen", &self.listen)
            .field("names", &self.names)
            .field("account", &self.account)
            .field("region", &self.region)
            .field("keys", &self.keys)
            .field("block_public_policies", &self.block_public_policies)
            .field("limits", &self.limits)
            .field("caller_rate", &self.caller_rate)
            .field("s3", &self.s3)
            .field("polled_sources", &self.polled_sources)
            .field("url_base", &self.url_base)
            .field("temp_dir", &self.temp_dir)
            .field("bounds", &self.bounds)
            .field("access_log", &self.access_log)
            .finish_non_exhaustive()
    }
}
