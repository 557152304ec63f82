//! The command line: one word per thing a person wants done.
//!
//! Not here: what the commands do (a file each), and what settings mean
//! ([`crate::settings`]).

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// AWS Lambda on your own machine: same API, same environment, no account
///
/// Start a platform with `lamu run`, then use boto3, the aws CLI, any AWS SDK,
/// or the commands below, which speak the same public API.
#[derive(Debug, Parser)]
#[command(
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done; 1 the function failed, or doctor found something that \
                  stops lamu; 2 wrong usage or settings; 3 lamu refused, or could not be reached"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<Run>),
    Deploy(Deploy),
    Invoke(Invoke),
    Logs(Logs),
    Url(Url),
    Ls(Ls),
    Rm(Rm),
    Doctor(Doctor),
}

/// Run a platform in this process
///
/// Every role runs here on embedded stores: a whole Lambda on one machine.
/// Functions, versions and aliases are kept under --data and survive a crash;
/// execution environments are made on demand and end with this process.
///
/// Each setting may also stand in the environment or in the configuration
/// file; a flag wins over the environment, and that over the file. All of them
/// are checked before anything starts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lamu run
  lamu run --listen 127.0.0.1:0 --data /tmp/lamu   # a free port, throw-away data
  lamu run --listen 0.0.0.0:9001 --keys /etc/lamu/keys.toml

SIGTERM or SIGINT refuses new calls, lets running ones end within --drain-secs,
and leaves nothing behind. A second signal ends at once.")]
pub struct Run {
    /// Address and port to serve the Lambda API on; port 0 takes a free one
    ///
    /// Without keys only this machine is served, and any signature is taken.
    #[arg(long, value_name = "ADDRESS", long_help = LISTEN)]
    pub listen: Option<String>,

    /// Names this platform is reached by, beside localhost [env: LAMU_HOST_NAMES]
    ///
    /// Without keys a request for another host name is refused: a web page
    /// could have made that name mean this machine.
    #[arg(long, value_name = "NAME,…")]
    pub host_names: Option<String>,

    /// Where functions and logs are kept [default: $XDG_DATA_HOME/lamu] [env: LAMU_DATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,

    /// TOML file with settings [default: $XDG_CONFIG_HOME/lamu/lamu.toml if there] [env: LAMU_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// TOML file with `[[keys]]`: who may call [env: LAMU_KEYS]
    ///
    /// Each has access_key_id, secret_access_key and optionally account. With
    /// any key, every request must be signed with one of them.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,

    /// Account of callers whose key names none [default: 000000000000] [env: LAMU_ACCOUNT]
    #[arg(long, value_name = "DIGITS")]
    pub account: Option<String>,

    /// Region of requests that are not signed for one [default: us-east-1] [env: LAMU_REGION]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,

    /// Fetch S3Bucket and S3Key from here rather than from AWS [env: LAMU_S3_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub s3_endpoint: Option<String>,

    /// Endpoint that functions may reach; repeatable [env: LAMU_EGRESS]
    ///
    /// A URL, or `self` for this API. With a service, as in
    /// s3=http://127.0.0.1:9000, functions are told it as AWS_ENDPOINT_URL_S3.
    /// Without any, functions reach nothing.
    #[arg(long, value_name = "[SERVICE=]URL")]
    pub egress: Vec<String>,

    /// How clients reach function URLs [default: localhost at the listener's port] [env: LAMU_URL_BASE]
    ///
    /// `https://example.com` gives each an own name below that domain;
    /// `https://example.com/lambda-url` a path. Both ways are served whatever
    /// is set here; answers of the API show this one.
    #[arg(long, value_name = "URL")]
    pub url_base: Option<String>,

    /// Interpreter for a runtime, before those found on the host; repeatable [env: LAMU_RUNTIMES]
    #[arg(long, value_name = "RUNTIME=PATH")]
    pub runtime: Vec<String>,

    /// Most execution environments at once [default: 256] [env: LAMU_SANDBOXES_MAX]
    ///
    /// A call that finds none free and no room for another waits, and is
    /// refused with 429 when it waited too long.
    #[arg(long, value_name = "COUNT")]
    pub sandboxes_max: Option<String>,

    /// Memory all environments may be configured for [default: this host's] [env: LAMU_MEMORY_MIB]
    #[arg(long, value_name = "MIB")]
    pub memory_mib: Option<String>,

    /// Unpacked packages kept on disk [default: 4096] [env: LAMU_PACKAGE_CACHE_MIB]
    ///
    /// The least recently used go first; one in use never goes.
    #[arg(long, value_name = "MIB")]
    pub package_cache_mib: Option<String>,

    /// Concurrent executions per account and region [default: 1000] [env: LAMU_CONCURRENCY]
    #[arg(long, value_name = "COUNT")]
    pub concurrency: Option<String>,

    /// Limit requests a second as AWS does: off, or aws [default: off] [env: LAMU_RATE_LIMITS]
    ///
    /// With aws, ten invocations a second for each unit of concurrency; 15
    /// requests a second to the control plane, and 100 of GetFunction.
    #[arg(long, value_name = "off|aws")]
    pub rate_limits: Option<String>,

    /// What memory buys of the CPU: fair, or aws [default: fair] [env: LAMU_CPU_SHARE]
    ///
    /// Always a share in proportion to it when environments contend. With aws
    /// also no more than that, after Init: 1,769 MB are one core.
    #[arg(long, value_name = "fair|aws")]
    pub cpu_share: Option<String>,

    /// How long an idle environment is kept for the next call [default: 600] [env: LAMU_KEEP_ALIVE_SECS]
    #[arg(long, value_name = "SECS")]
    pub keep_alive_secs: Option<String>,

    /// Age at which an environment is replaced however busy [default: 7200] [env: LAMU_AGE_MAX_SECS]
    #[arg(long, value_name = "SECS")]
    pub age_max_secs: Option<String>,

    /// How long running calls may take to end at shutdown [default: 30] [env: LAMU_DRAIN_SECS]
    #[arg(long, value_name = "SECS")]
    pub drain_secs: Option<String>,

    /// How fast a streamed response is sent after its first 6 MiB; 0: unheld [default: 2] [env: LAMU_STREAM_MIB_PER_SEC]
    #[arg(long, value_name = "MIB")]
    pub stream_mib_per_sec: Option<String>,

    /// Append a line of JSON for each request to this file [env: LAMU_ACCESS_LOG]
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<String>,
    /// Refuse policies that let anyone in, true or false [default: false]
    /// [env: LAMU_BLOCK_PUBLIC_POLICIES]
    #[arg(long, value_name = "BOOL")]
    pub block_public_policies: Option<String>,

    /// What to log, as `info` or `lamu_worker=debug,info`; to stderr
    #[arg(long, value_name = "FILTER", env = "LAMU_LOG", default_value = "info")]
    pub log: String,

    /// How log lines look
    #[arg(long, value_enum, env = "LAMU_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

const LISTEN: &str = "\
Address and port to serve the Lambda API on; port 0 takes a free one [default: 127.0.0.1:9001] \
[env: LAMU_LISTEN]

Without keys only this machine is served, and any signature is taken, none included. Any other \
address needs --keys.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Which platform the client commands speak to.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// Lambda endpoint [default: http://127.0.0.1:9001] [env: AWS_ENDPOINT_URL_LAMBDA, AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,

    /// Region to call [default: us-east-1] [env: AWS_REGION, AWS_DEFAULT_REGION]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
}

/// Create a function, or update the one that has its name
///
/// PATH is a directory or a zip. Runtime and handler are found by looking:
/// `bootstrap` is a custom runtime; a Python file with `def lambda_handler` or
/// `def handler`, a Node file that exports `handler`, or a Cargo project that
/// has been built. Of an existing function only what differs is changed.
/// Returns when the function can be invoked.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lamu deploy ./hello                       # named after the directory
  lamu deploy app.zip --name api --runtime python3.12 --handler app.main
  lamu deploy ./hello --env STAGE=test --env LEVEL=debug
  lamu deploy ./hello --layer arn:aws:lambda:us-east-1:000000000000:layer:tools:3
  curl \"$(lamu deploy ./hello --url)\"")]
pub struct Deploy {
    /// Directory or zip with the code
    pub path: PathBuf,

    /// Function name [default: the name of PATH]
    #[arg(long)]
    pub name: Option<String>,

    /// Runtime identifier, such as python3.12, nodejs20.x or provided.al2023
    #[arg(long)]
    pub runtime: Option<String>,

    /// What to call, as FILE.FUNCTION
    #[arg(long)]
    pub handler: Option<String>,

    /// Memory limit; the share of CPU grows with it
    #[arg(long, value_name = "MIB")]
    pub memory: Option<u32>,

    /// Longest time one invocation may take
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u32>,

    /// Environment variable; repeatable. Replaces all variables the function has
    #[arg(long = "env", value_name = "KEY=VALUE")]
    pub environment: Vec<String>,

    /// ARN of a layer version; repeatable, later ones win. Replaces all layers the function has
    #[arg(long = "layer", value_name = "ARN")]
    pub layers: Vec<String>,
    /// Print the function's URL rather than its ARN, and make one when there is none
    ///
    /// A new one is public: whoever can reach it may call the function.
    #[arg(long)]
    pub url: bool,

    /// Execution role; recorded, not assumed
    #[arg(long, value_name = "ARN", default_value = "arn:aws:iam::000000000000:role/lamu")]
    pub role: String,

    #[command(flatten)]
    pub target: Target,
}

/// Invoke a function and print what it returns
///
/// The response goes to stdout as it is. When the function fails, its error
/// goes to stderr and the exit code is 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lamu invoke hello '{\"name\":\"Ada\"}'
  lamu invoke hello @event.json --tail
  jq -n '{id: 7}' | lamu invoke hello - --qualifier prod")]
pub struct Invoke {
    /// Function name or ARN
    pub name: String,

    /// Event as JSON, @FILE, or - for stdin
    #[arg(default_value = "{}")]
    pub payload: String,

    /// Version or alias
    #[arg(long)]
    pub qualifier: Option<String>,

    /// Print the last 4 KiB of this call's log to stderr
    #[arg(long)]
    pub tail: bool,

    /// Print where the time went to stderr
    #[arg(long)]
    pub timeline: bool,

    #[command(flatten)]
    pub target: Target,
}

/// Print what a function has logged
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lamu logs hello
  lamu logs hello -f --since 10m")]
pub struct Logs {
    /// Function name
    pub name: String,

    /// Keep printing what comes, until interrupted
    #[arg(short, long)]
    pub follow: bool,

    /// How far back to begin, as 30s, 10m, 2h or 7d; everything when left out
    #[arg(long, value_name = "AGE")]
    pub since: Option<String>,

    #[command(flatten)]
    pub target: Target,
}

/// Print a function's URL, and make one when there is none
///
/// Whoever can reach the URL may call the function, web pages too, unless
/// --auth AWS_IAM asks for signatures.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  curl \"$(lamu url hello)\"
  lamu url hello --qualifier prod --auth AWS_IAM")]
pub struct Url {
    /// Function name or ARN
    pub name: String,

    /// Alias that the URL leads to; $LATEST when left out
    #[arg(long, value_name = "ALIAS")]
    pub qualifier: Option<String>,

    /// Who may call: anyone, or who signs [default of a new one: NONE]
    #[arg(long, value_parser = ["NONE", "AWS_IAM"])]
    pub auth: Option<String>,

    #[command(flatten)]
    pub target: Target,
}

/// List functions
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: lamu ls --region eu-west-1")]
pub struct Ls {
    /// Show provisioned concurrency too: what is allocated of what is asked for
    #[arg(long)]
    pub provisioned: bool,

    #[command(flatten)]
    pub target: Target,
}

/// Delete functions with all their versions and aliases
///
/// Calls that are running end normally. There is no way back.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: lamu rm hello hello-2")]
pub struct Rm {
    /// Function names
    #[arg(required = true)]
    pub names: Vec<String>,

    #[command(flatten)]
    pub target: Target,
}

/// Say what this host can do, and what to do about the rest
///
/// Looks at privileges, cgroups, namespaces, seccomp, Landlock, KVM and
/// interpreters. Changes nothing. Exits with 1 when something is missing that
/// lamu cannot run without.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: lamu doctor")]
pub struct Doctor {}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
            assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
        }
    }
}
