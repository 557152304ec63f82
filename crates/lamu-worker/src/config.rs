//! What one worker is told before it starts. Finished values: nothing here is
//! read again from files or the environment.
//!
//! Not here: where the values come from (`lamu`'s settings).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lamu_guest::User;
use lamu_model::{MEMORY_MIB_PER_VCPU, STREAM_RESPONSE_BYTES_MAX, WorkerId};

pub use crate::environment::StreamRate;

#[derive(Clone, Debug)]
pub struct WorkerConfig {
    pub id: WorkerId,
    /// Unpacked packages and the runtimes' bootstraps live below it.
    pub data_dir: PathBuf,
    /// Most environments on this host at once, those that end included.
    pub environments_max: u32,
    /// Memory that all environments together may be promised.
    pub memory_mib: u64,
    /// Environments being made at the same time. More than a few per core
    /// only make each of them later.
    pub boots_max: usize,
    /// How long an environment stays idle before it is frozen; `None` never
    /// freezes.
    pub freeze_after: Option<Duration>,
    pub package_cache_bytes_max: u64,
    pub cpu_share: CpuShare,
    /// What the role's credentials look like inside; `None` gives each
    /// function [`Credentials::local`].
    pub credentials: Option<Credentials>,
    /// Variables that tell SDKs which endpoints they reach.
    pub endpoint_variables: Vec<(String, String)>,
    /// Interpreters by runtime identifier, instead of looking for them.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Largest streamed response.
    pub stream_bytes_max: u64,
    /// How fast responses are streamed; `None` as fast as they are read.
    pub stream_rate: Option<StreamRate>,
    /// Who functions run as inside; `None` is whoever init runs as.
    pub user: Option<User>,
}

impl WorkerConfig {
    /// Defaults for a host with these many cores and this much memory.
    pub fn new(id: WorkerId, data_dir: PathBuf, cores: usize, memory_mib: u64) -> WorkerConfig {
        WorkerConfig {
            id,
            data_dir,
            environments_max: 1_000,
            memory_mib,
            boots_max: cores.max(1) * 2,
            // Long enough that a caller in a loop never pays for a thaw, short
            // enough that background work of a function does not go on.
            freeze_after: Some(Duration::from_millis(100)),
            package_cache_bytes_max: 4 << 30,
            cpu_share: CpuShare::Fair,
            credentials: None,
            endpoint_variables: Vec::new(),
            runtimes: BTreeMap::new(),
            stream_bytes_max: STREAM_RESPONSE_BYTES_MAX,
            stream_rate: Some(StreamRate::LAMBDA),
            user: None,
        }
    }

    /// The CPU ceiling of a function with this much memory.
    pub fn cpu_millis_max(&self, memory_mib: u32) -> Option<u32> {
        match self.cpu_share {
            CpuShare::Fair => None,
            CpuShare::Aws => Some(cpu_millis(memory_mib)),
        }
    }
}

/// What memory buys of the CPU, beside the share that it always buys when
/// environments contend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuShare {
    /// A share of what others leave: an environment that is alone has the
    /// host.
    Fair,
    /// No more than the share, as on Lambda: 128 MB get a fourteenth of a
    /// core, and full speed during Init only.
    Aws,
}

/// The CPU that this much memory buys, in thousandths of a core: 1,769 MB buy
/// one.
pub fn cpu_millis(memory_mib: u32) -> u32 {
    let bought = u64::from(memory_mib) * 1_000 / u64::from(MEMORY_MIB_PER_VCPU);
    u32::try_from(bought).unwrap_or(u32::MAX)
}

/// AWS credentials as functions see them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl Credentials {
    /// Credentials that name the account to a lamu without keys: its access
    /// key is the account id. They open nothing at AWS.
    pub fn local(account: &str) -> Credentials {
        Credentials {
            access_key_id: account.to_owned(),
            secret_access_key: "lamu".to_owned(),
            session_token: Some("lamu".to_owned()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> WorkerConfig {
        WorkerConfig::new(WorkerId::new("w-1"), PathBuf::from("/nowhere"), 2, 1_024)
    }

    #[test]
    fn memory_buys_a_share_of_the_cpu_and_at_aws_no_more() {
        assert_eq!((cpu_millis(128), cpu_millis(3_538)), (72, 2_000));
        assert_eq!(config().cpu_millis_max(128), None);
        let aws = WorkerConfig { cpu_share: CpuShare::Aws, ..config() };
        assert_eq!(aws.cpu_millis_max(128), Some(72));
    }

    #[test]
    fn secrets_are_not_printed() {
        let printed = format!("{:?}", Credentials::local("123456789012"));
        assert!(printed.contains("123456789012") && !printed.contains("lamu"), "{printed}");
    }
}
