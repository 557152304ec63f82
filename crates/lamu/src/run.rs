//! `lamu run`: reads the settings, starts the platform, waits for the signal
//! to end it.
//!
//! Not here: what a setting must look like ([`crate::settings`]), starting
//! and ending the roles ([`crate::platform`]).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::cli::Run;
use crate::platform::Platform;
use crate::settings::{Host, Mistakes, Settings, Sources};
use crate::telemetry;

pub fn run(run: &Run) -> anyhow::Result<ExitCode> {
    let settings = match settle(run) {
        Ok(settings) => settings,
        Err(mistakes) => {
            eprintln!("lamu: {mistakes}");
            return Ok(ExitCode::from(crate::EXIT_USAGE));
        }
    };
    let set = telemetry::start(&run.log, run.log_format);
    set.map_err(anyhow::Error::msg).context("set up logging")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("lamu")
        .enable_all()
        .build()
        .context("start")?;
    runtime.block_on(serve(settings))
    // Dropping the runtime ends every task, and with the last of them the
    // driver and all it has made.
}

async fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    let drain = settings.drain;
    // Before anything is started: a signal during the start ends it in order.
    let mut signals = Signals::listen().context("listen for signals")?;
    let platform = Platform::start(settings).await.context("could not start")?;
    let (endpoint, region) = (platform.endpoint(), platform.region());
    // For people and for scripts: one line, the endpoint its fourth word.
    println!(
        "lamu is ready at {endpoint}   use it with: export AWS_ENDPOINT_URL_LAMBDA={endpoint} \
         AWS_DEFAULT_REGION={region}"
    );
    let name = signals.next().await;
    info!(signal = name, deadline = ?drain, "draining; a second signal ends at once");
    tokio::select! {
        () = platform.drain(drain) => {
            info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        name = signals.next() => {
            warn!(signal = name, "ending at once");
            platform.end().await;
            Ok(ExitCode::from(crate::EXIT_FAILED))
        }
    }
}

/// Gathers the sources and makes settings of them.
fn settle(run: &Run) -> Result<Settings, Mistakes> {
    let mut sources = Sources::default();
    for (name, value) in std::env::vars() {
        sources.environment(&name, &value);
    }
    let named = |flag: &Option<PathBuf>, variable: &str| {
        let given = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
        flag.clone().or(given)
    };
    match named(&run.config, "LAMU_CONFIG") {
        Some(path) => sources.read(&path, Sources::file),
        None => {
            if let Some(path) = default_config().filter(|path| path.is_file()) {
                sources.read(&path, Sources::file);
            }
        }
    }
    if let Some(path) = named(&run.keys, "LAMU_KEYS") {
        sources.read(&path, Sources::keys_file);
    }
    let flags = [
        ("listen", &run.listen),
        ("host-names", &run.host_names),
        ("data", &run.data),
        ("account", &run.account),
        ("region", &run.region),
        ("s3-endpoint", &run.s3_endpoint),
        ("url-base", &run.url_base),
        ("sandboxes-max", &run.sandboxes_max),
        ("memory-mib", &run.memory_mib),
        ("package-cache-mib", &run.package_cache_mib),
        ("concurrency", &run.concurrency),
        ("rate-limits", &run.rate_limits),
        ("cpu-share", &run.cpu_share),
        ("keep-alive-secs", &run.keep_alive_secs),
        ("age-max-secs", &run.age_max_secs),
        ("drain-secs", &run.drain_secs),
        ("stream-mib-per-sec", &run.stream_mib_per_sec),
        ("access-log", &run.access_log),
        ("block-public-policies", &run.block_public_policies),
    ];
    for (name, value) in flags {
        if let Some(value) = value {
            sources.flag(name, value);
        }
    }
    if !run.egress.is_empty() {
        sources.flag("egress", &run.egress.join(","));
    }
    if !run.runtime.is_empty() {
        sources.flag("runtimes", &run.runtime.join(","));
    }
    if let Err(why) = telemetry::filter_of(&run.log) {
        sources.refuse("log", why);
    }
    Settings::merge(sources, &Host::here())
}

fn default_config() -> Option<PathBuf> {
    let set = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let dir = set
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(dir.join("lamu").join("lamu.toml"))
}

/// The signals that end a platform.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
