//! Log lines of the platform itself: to stderr, as text or JSON.
//!
//! Not here: what functions log (`lamu_worker::logs`), metrics.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Sets up logging for the process. `filter` is a level or a list of
/// `target=level`.
pub fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = filter_of(filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| error.to_string())
}

/// Checks a filter without using it.
pub fn filter_of(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(filter).map_err(|error| format!("not a log filter: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_checked_before_it_is_used() {
        assert!(filter_of("info,lamu_worker=debug").is_ok());
        assert!(filter_of("lamu_worker=loud").is_err());
    }
}
