//! What `lamu run` shall do, as finished values.
//!
//! Every setting may be typed as a flag, stand in the environment or in one
//! TOML file; the first of these wins. They are merged once, here, and checked
//! all together: whoever made three mistakes reads about three.
//!
//! Not here: how the sources are read ([`sources`]), callers and their policies
//! ([`people`]), and using the values.

mod egress;
mod people;
mod sources;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamu_frontend::{Principal, UrlBase};
use lamu_model::{AccountId, EgressPlan, Language, Region, Runtime};
use lamu_worker::{CpuShare, Credentials};

pub use sources::{Mistakes, Sources};

/// Checked and complete.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    /// Host names this process is reached by, beside localhost and addresses.
    pub names: Vec<String>,
    pub data: PathBuf,
    pub account: AccountId,
    /// The region of requests that name none.
    pub region: Region,
    /// Where S3Bucket and S3Key are fetched from; AWS's own when absent.
    pub s3_endpoint: Option<String>,
    /// The endpoints that functions reach.
    pub egress: EgressPlan,
    /// What functions sign with, in the place of a role's credentials.
    pub function_credentials: Option<Credentials>,
    /// How clients reach function URLs; this machine's name for itself and the
    /// listener's port when absent.
    pub url_base: Option<UrlBase>,
    /// Who may call. Empty: anyone on this machine.
    pub keys: Vec<Key>,
    /// Whether policies that let anyone in are refused.
    pub block_public_policies: bool,
    /// Interpreters by runtime identifier, before those found on the host.
    pub runtimes: BTreeMap<Runtime, PathBuf>,
    pub sandboxes_max: u32,
    /// Memory that all environments together may be configured for.
    pub memory_mib: u64,
    pub package_cache_mib: u64,
    pub concurrency: u32,
    pub rate_limits: RateLimits,
    pub cpu_share: CpuShare,
    pub keep_alive: Duration,
    pub age_max: Duration,
    pub drain: Duration,
    /// What a streamed response may take each second after its burst; `None`
    /// is as fast as it is read.
    pub stream_mib_per_sec: Option<u32>,
    /// A line for each request is appended here.
    pub access_log: Option<PathBuf>,
}

/// Whether requests are limited beside concurrency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimits {
    Off,
    /// As AWS limits them: ten invocations a second for each unit of
    /// concurrency, and the rates of the control plane.
    Aws,
}

/// One caller's key.
#[derive(Clone)]
pub struct Key {
    pub access_key_id: String,
    pub secret_access_key: String,
    /// Who signs with it.
    pub principal: Arc<Principal>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("access_key_id", &self.access_key_id)
            .field("principal", &self.principal.arn)
            .finish_non_exhaustive()
    }
}

/// What the host offers, where a default depends on it.
#[derive(Clone, Debug)]
pub struct Host {
    pub memory_mib: u64,
    /// The user's own data directory, when it can be told.
    pub data: Option<PathBuf>,
}

impl Host {
    pub fn here() -> Host {
        let memory_mib = std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| meminfo_total_mib(&text))
            .unwrap_or(1024);
        let data = std::env::var_os("XDG_DATA_HOME")
            .filter(|dir| Path::new(dir).is_absolute())
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local").join("share")))
            .map(|dir| dir.join("lamu"));
        Host { memory_mib, data }
    }
}

impl Settings {
    /// Merges and checks. Reads files and directories, changes nothing.
    pub fn merge(mut sources: Sources, host: &Host) -> Result<Settings, Mistakes> {
        let listen = sources.take("listen", address);
        let listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 9001)));
        let data = sources.take("data", absolute_dir).or_else(|| host.data.clone());
        let data = data.unwrap_or_else(|| {
            sources.missing("data", "there is no home directory to keep data in; name a directory");
            PathBuf::new()
        });
        let names = sources.take("host-names", host_names).unwrap_or_default();
        let account = sources.take("account", account);
        let account = account.unwrap_or_else(|| AccountId::new("000000000000"));
        let region = sources.take("region", region).unwrap_or_else(|| Region::new("us-east-1"));
        let s3_endpoint = sources.take("s3-endpoint", http_url);
        let url_base = sources.take("url-base", |text| text.parse());
        let sandboxes_max = sources.take("sandboxes-max", count(1, 100_000)).unwrap_or(256);
        let memory_mib = sources.take("memory-mib", count(128, 1 << 30)).map(u64::from);
        let package_cache_mib = sources.take("package-cache-mib", count(256, 1 << 30));
        let concurrency = sources.take("concurrency", count(1, 1_000_000));
        let rate_limits = sources.take("rate-limits", rate_limits);
        let cpu_share = sources.take("cpu-share", cpu_share);
        let keep_alive = sources.take("keep-alive-secs", seconds(1, 86_400));
        let age_max = sources.take("age-max-secs", seconds(1, 7 * 86_400));
        let drain = sources.take("drain-secs", seconds(0, 3_600));
        let stream_rate = sources.take("stream-mib-per-sec", count(0, 1 << 20));
        let access_log = sources.take("access-log", |text| Ok(PathBuf::from(text)));
        let runtimes = sources.take_map("runtimes", runtime);
        let keys = people::keys(&mut sources, &account);
        let block_public_policies = sources.take("block-public-policies", flag);
        let egress = egress::read(&mut sources);
        let function_credentials = function_credentials(&mut sources);

        if !listen.ip().is_loopback() && keys.is_empty() {
            sources.refuse(
                "listen",
                format!(
                    "{listen} can be reached from other machines, so callers must sign with keys: \
                     name a file with --keys, or [[keys]] in the configuration file"
                ),
            );
        }
        let (keep_alive, age_max) = (
            keep_alive.unwrap_or(Duration::from_secs(600)),
            age_max.unwrap_or(Duration::from_secs(7_200)),
        );
        if age_max < keep_alive {
            sources.refuse(
                "age-max-secs",
                format!(
                    "{} is less than keep-alive-secs, {}; an environment may not be kept longer \
                     than it may live",
                    age_max.as_secs(),
                    keep_alive.as_secs()
                ),
            );
        }
        sources.finish()?;
        Ok(Settings {
            listen,
            names,
            data,
            account,
            region,
            s3_endpoint,
            egress,
            function_credentials,
            url_base,
            keys,
            block_public_policies: block_public_policies.unwrap_or(false),
            runtimes,
            sandboxes_max,
            memory_mib: memory_mib.unwrap_or(host.memory_mib.max(128)),
            package_cache_mib: package_cache_mib.map_or(4_096, u64::from),
            concurrency: concurrency.unwrap_or(lamu_model::ACCOUNT_CONCURRENCY_DEFAULT),
            rate_limits: rate_limits.unwrap_or(RateLimits::Off),
            cpu_share: cpu_share.unwrap_or(CpuShare::Fair),
            keep_alive,
            age_max,
            drain: drain.unwrap_or(Duration::from_secs(30)),
            // Lambda's own, so that what is slow there is seen to be slow here.
            stream_mib_per_sec: Some(stream_rate.unwrap_or(2)).filter(|rate| *rate > 0),
            access_log,
        })
    }
}

fn function_credentials(sources: &mut Sources) -> Option<Credentials> {
    let text = |text: &str| match text.trim() {
        "" => Err("is empty".to_owned()),
        text => Ok(text.to_owned()),
    };
    let id = sources.take("function-access-key-id", text);
    let secret = sources.take("function-secret-access-key", text);
    let session_token = sources.take("function-session-token", text);
    match (id, secret) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Some(Credentials { access_key_id, secret_access_key, session_token })
        }
        (None, None) if session_token.is_none() => None,
        (Some(_), None) => {
            sources.missing("function-secret-access-key", "is missing beside the access key id");
            None
        }
        (None, _) => {
            sources.missing("function-access-key-id", "is missing beside the secret or token");
            None
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err("the port is missing, for example 127.0.0.1:9001".into());
    }
    Err("not an address with a port, for example 127.0.0.1:9001 or [::1]:9001".into())
}

fn absolute_dir(text: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(text).map_err(|error| format!("not a path: {error}"))?;
    // The directory itself may be missing; what is there of it must be one.
    let existing = path.ancestors().find(|dir| dir.symlink_metadata().is_ok());
    match existing.map(std::fs::metadata) {
        Some(Ok(metadata)) if metadata.is_dir() => Ok(path),
        Some(Ok(_)) => {
            Err(format!("{} is not a directory", existing.unwrap_or(Path::new("/")).display()))
        }
        Some(Err(error)) => Err(error.to_string()),
        None => Err("no part of it exists".into()),
    }
}

fn account(text: &str) -> Result<AccountId, String> {
    if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(AccountId::new(text));
    }
    Err("an account is twelve digits".into())
}

fn region(text: &str) -> Result<Region, String> {
    // us-east-1, us-gov-west-1, eusc-de-east-1: words and one number.
    let parts: Vec<&str> = text.split('-').collect();
    let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    match parts.split_last() {
        Some((number, words))
            if words.len() >= 2
                && words.iter().all(word)
                && number.len() == 1
                && number.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Ok(Region::new(text))
        }
        _ => Err("a region looks like us-east-1".into()),
    }
}

fn host_names(text: &str) -> Result<Vec<String>, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().find(|name| name.is_empty() || !name.chars().all(fits)) {
        Some(name) => Err(format!("{name:?} is not a host name; several are separated by commas")),
        None => Ok(names),
    }
}

fn http_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("not a URL that begins with http:// or https://".into()),
    }
}

fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "neither true nor false".to_owned())
}

fn count(min: u32, max: u32) -> impl Fn(&str) -> Result<u32, String> {
    move |text| match text.parse::<u32>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("not a whole number from {min} to {max}")),
    }
}

fn seconds(min: u32, max: u32) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| count(min, max)(text).map(|secs| Duration::from_secs(secs.into()))
}

fn rate_limits(text: &str) -> Result<RateLimits, String> {
    match text {
        "off" => Ok(RateLimits::Off),
        "aws" => Ok(RateLimits::Aws),
        _ => Err("off or aws".into()),
    }
}

fn cpu_share(text: &str) -> Result<CpuShare, String> {
    match text {
        "fair" => Ok(CpuShare::Fair),
        "aws" => Ok(CpuShare::Aws),
        _ => Err("fair or aws".into()),
    }
}

fn runtime(name: &str, path: &str) -> Result<(Runtime, PathBuf), String> {
    let runtime = Runtime::new(name);
    match runtime.language() {
        Language::Python { .. } | Language::Node { .. } => {}
        Language::Provided => return Err(format!("{name} brings its own bootstrap")),
        Language::Other => {
            return Err(format!("{name} is not served; python3.N and nodejsN.x are"));
        }
    }
    let path = PathBuf::from(path);
    if !path.is_absolute() {
        return Err(format!("{} is not an absolute path", path.display()));
    }
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => {
            Ok((runtime, path))
        }
        Ok(_) => Err(format!("{} is not a program", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn meminfo_total_mib(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host { memory_mib: 8_000, data: Some("/var/lib/lamu".into()) }
    }

    fn merge(sources: Sources) -> Result<Settings, Vec<String>> {
        Settings::merge(sources, &host()).map_err(|mistakes| mistakes.lines())
    }

    #[test]
    fn nothing_said_gives_a_platform_for_this_machine_alone() {
        let settings = merge(Sources::default()).unwrap();

        assert_eq!(settings.listen, "127.0.0.1:9001".parse().unwrap());
        assert_eq!(settings.data, Path::new("/var/lib/lamu"));
        assert_eq!(settings.account, AccountId::new("000000000000"));
        assert_eq!(settings.memory_mib, 8_000);
        assert!(settings.keys.is_empty());
        assert_eq!(settings.rate_limits, RateLimits::Off);
        assert_eq!(settings.cpu_share, CpuShare::Fair);
    }

    #[test]
    fn a_platform_may_limit_as_aws_does() {
        let mut sources = Sources::default();
        sources.file("lamu.toml", "rate_limits = 'aws'\ncpu_share = 'aws'");
        let settings = merge(sources).unwrap();
        assert_eq!(settings.rate_limits, RateLimits::Aws);
        assert_eq!(settings.cpu_share, CpuShare::Aws);

        let mut wrong = Sources::default();
        wrong.flag("rate-limits", "on");
        wrong.flag("cpu-share", "half");
        assert_eq!(
            merge(wrong).unwrap_err(),
            ["--rate-limits on: off or aws", "--cpu-share half: fair or aws"]
        );
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let mut sources = Sources::default();
        sources.flag("listen", "127.0.0.1:1");
        sources.environment("LAMU_LISTEN", "127.0.0.1:2");
        sources.environment("LAMU_REGION", "eu-west-1");
        sources
            .file("lamu.toml", "listen = '127.0.0.1:3'\nregion = 'eu-west-3'\nsandboxes_max = 7");

        let settings = merge(sources).unwrap();

        assert_eq!(settings.listen.port(), 1);
        assert_eq!(settings.region, Region::new("eu-west-1"));
        assert_eq!(settings.sandboxes_max, 7);
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_where_it_stands() {
        let mut sources = Sources::default();
        sources.flag("listen", "127.0.0.1");
        sources.environment("LAMU_ACCOUNT", "42");
        sources
            .file("lamu.toml", "sandboxes_max = 'many'\nsandbox_max = 3\n[runtimes]\ncobol = '/x'");

        let mistakes = merge(sources).unwrap_err();

        assert_eq!(
            mistakes,
            [
                "--listen 127.0.0.1: the port is missing, for example 127.0.0.1:9001",
                "LAMU_ACCOUNT=42 (environment): an account is twelve digits",
                "sandboxes_max = many (lamu.toml): not a whole number from 1 to 100000",
                "runtimes.cobol = /x (lamu.toml): cobol is not served; python3.N and nodejsN.x are",
                "sandbox_max (lamu.toml): no such setting; did you mean sandboxes_max?",
            ]
        );
    }

    #[test]
    fn a_listener_for_other_machines_needs_keys() {
        let mut open = Sources::default();
        open.flag("listen", "0.0.0.0:9001");
        let mistakes = merge(open.clone()).unwrap_err();
        assert!(mistakes[0].starts_with("--listen 0.0.0.0:9001: "), "{mistakes:?}");

        open.file(
            "lamu.toml",
            "[[keys]]\naccess_key_id = 'AKIDEXAMPLE'\nsecret_access_key = 's'\naccount = '123456789012'",
        );
        let settings = merge(open).unwrap();
        let account = settings.keys[0].principal.account.as_ref();
        assert_eq!(account, Some(&AccountId::new("123456789012")));
        assert!(!format!("{settings:?}").contains("secret"), "secrets stay out of logs");
    }

    #[test]
    fn half_a_key_is_a_mistake_of_its_own() {
        let mut sources = Sources::default();
        sources
            .file("lamu.toml", "[[keys]]\naccess_key_id = 'A'\n[[keys]]\nsecret_access_key = 's'");

        assert_eq!(
            merge(sources).unwrap_err(),
            [
                "keys 1 (lamu.toml): secret_access_key is missing",
                "keys 2 (lamu.toml): access_key_id is missing",
            ]
        );
    }

    #[test]
    fn endpoints_come_from_everywhere_and_are_told_to_functions() {
        let mut sources = Sources::default();
        sources.file("lamu.toml", "[[egress]]\nurl = 'http://127.0.0.1:9000'\nservice = 's3'");
        sources.environment("LAMU_EGRESS", "https://sqs.example.com,lambda=self");
        sources.flag("egress", "http://10.0.0.5:80/a=b");

        let settings = merge(sources).unwrap();

        assert_eq!(settings.egress.doors.len(), 4);
        assert_eq!(
            settings.egress.variables,
            [
                ("AWS_ENDPOINT_URL_S3".to_owned(), "http://127.0.0.1:9000".to_owned()),
                ("AWS_ENDPOINT_URL_LAMBDA".to_owned(), "http://127.77.0.2:9001".to_owned()),
            ]
        );
    }

    #[test]
    fn a_wrong_endpoint_says_where_it_stands_and_what_to_do() {
        let mut sources = Sources::default();
        sources.file("lamu.toml", "[[egress]]\nservice = 's3'\n[[egress]]\nurl = 'x'\nport = 1");
        sources.flag("egress", "http://169.254.169.254,http://127.0.0.1:9001");

        let mistakes = merge(sources).unwrap_err();

        assert_eq!(mistakes.len(), 5, "{mistakes:?}");
        assert_eq!(mistakes[0], "egress 1 (lamu.toml): url is missing");
        assert!(mistakes[1].starts_with("egress 2 (lamu.toml): unknown port"), "{mistakes:?}");
        assert!(mistakes[2].starts_with("egress 2 (lamu.toml): not a URL"), "{mistakes:?}");
        assert!(mistakes[3].contains("http://169.254.169.254: 169.254.169.254 is never opened"));
        assert!(mistakes[4].contains("is the Runtime API; name the service"), "{mistakes:?}");
    }

    #[test]
    fn credentials_of_functions_are_whole_and_stay_out_of_what_is_printed() {
        let mut sources = Sources::default();
        sources.environment("LAMU_FUNCTION_ACCESS_KEY_ID", "AKID");
        sources.environment("LAMU_FUNCTION_SECRET_ACCESS_KEY", "hidden");
        let settings = merge(sources).unwrap();
        assert!(!format!("{settings:?}").contains("hidden"));
        assert_eq!(settings.function_credentials.unwrap().secret_access_key, "hidden");

        let mut sources = Sources::default();
        sources.environment("LAMU_FUNCTION_SESSION_TOKEN", "hidden");
        let mistakes = merge(sources).unwrap_err();
        assert_eq!(mistakes, ["--function-access-key-id: is missing beside the secret or token"],);
    }

    #[test]
    fn a_file_that_is_no_toml_says_the_line() {
        let mut sources = Sources::default();
        sources.file("lamu.toml", "listen = \n");

        let mistakes = merge(sources).unwrap_err();

        assert!(mistakes[0].contains("line 1"), "{mistakes:?}");
    }

    #[test]
    fn regions_of_all_partitions_are_understood() {
        for good in ["us-east-1", "us-gov-west-1", "eusc-de-east-1"] {
            assert!(region(good).is_ok(), "{good}");
        }
        for bad in ["", "us", "us-east", "US-EAST-1", "us-east-12"] {
            assert!(region(bad).is_err(), "{bad}");
        }
    }
}
