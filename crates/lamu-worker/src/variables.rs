//! The environment variables of a function: what Lambda sets, what the user
//! sets, and who wins.
//!
//! Source: execution environment reference, section 9. AWS_LAMBDA_RUNTIME_API
//! is init's, which chose the address. Not here: the checks of the API on what
//! a user may set; a reserved name that came through is ignored.

use std::collections::BTreeMap;

use lamu_model::{InitializationType, Language, LogFormat, LogLevel, VersionSpec};

use crate::config::Credentials;

/// Every variable the runtime starts with, sorted by name.
pub fn variables(
    spec: &VersionSpec,
    initialization: InitializationType,
    stream: &str,
    credentials: &Credentials,
    endpoints: &[(String, String)],
) -> Vec<(String, String)> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        all.insert(name.to_owned(), value.to_owned());
    };

    // What a user's variable of the same name replaces.
    set("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin");
    set(
        "LD_LIBRARY_PATH",
        "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    );
    set("LANG", "en_US.UTF-8");
    set("TZ", ":UTC");
    set("PWD", "/var/task");
    set("SHLVL", "0");
    set("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR");
    set("AWS_XRAY_DAEMON_ADDRESS", "169.254.100.1:2000");
    set("_AWS_XRAY_DAEMON_ADDRESS", "169.254.100.1");
    set("_AWS_XRAY_DAEMON_PORT", "2000");
    match spec.log.format {
        LogFormat::Text => set("AWS_LAMBDA_LOG_FORMAT", "Text"),
        LogFormat::Json => {
            set("AWS_LAMBDA_LOG_FORMAT", "JSON");
            set("AWS_LAMBDA_LOG_LEVEL", level_name(spec.log.application_level));
        }
    }
    match spec.runtime.language() {
        Language::Python { .. } => set("PYTHONPATH", "/var/runtime"),
        Language::Node { major } => set(
            "NODE_PATH",
            &format!(
                "/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
            ),
        ),
        Language::Provided | Language::Other => {}
    }
    for (name, url) in endpoints {
        set(name, url);
    }
    for (name, value) in &spec.environment {
        if !is_reserved(name) {
            set(name, value);
        }
    }

    // What it does not.
    set("_HANDLER", &spec.handler);
    set("AWS_REGION", spec.region.as_str());
    set("AWS_DEFAULT_REGION", spec.region.as_str());
    if spec.runtime.is_managed() {
        set("AWS_EXECUTION_ENV", &format!("AWS_Lambda_{}", spec.runtime));
    }
    set("AWS_LAMBDA_FUNCTION_NAME", spec.name.as_str());
    set("AWS_LAMBDA_FUNCTION_VERSION", &spec.version.to_string());
    set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &spec.memory_mib.to_string());
    set("AWS_LAMBDA_INITIALIZATION_TYPE", initialization.as_str());
    set("AWS_LAMBDA_LOG_GROUP_NAME", &spec.log.group);
    set("AWS_LAMBDA_LOG_STREAM_NAME", stream);
    set("AWS_ACCESS_KEY_ID", &credentials.access_key_id);
    set("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key);
    if let Some(token) = &credentials.session_token {
        set("AWS_SESSION_TOKEN", token);
    }
    set("LAMBDA_TASK_ROOT", "/var/task");
    set("LAMBDA_RUNTIME_DIR", "/var/runtime");
    all.into_iter().collect()
}

/// Names the platform keeps for itself, whether or not it sets them.
fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "_HANDLER"
            | "_X_AMZN_TRACE_ID"
            | "AWS_REGION"
            | "AWS_DEFAULT_REGION"
            | "AWS_EXECUTION_ENV"
            | "AWS_LAMBDA_INITIALIZATION_TYPE"
            | "AWS_LAMBDA_LOG_GROUP_NAME"
            | "AWS_LAMBDA_LOG_STREAM_NAME"
            | "AWS_ACCESS_KEY"
            | "AWS_ACCESS_KEY_ID"
            | "AWS_SECRET_ACCESS_KEY"
            | "AWS_SESSION_TOKEN"
            | "AWS_LAMBDA_RUNTIME_API"
            | "LAMBDA_TASK_ROOT"
            | "LAMBDA_RUNTIME_DIR"
            | "AWS_LAMBDA_MAX_CONCURRENCY"
            | "_LAMBDA_TELEMETRY_LOG_FD"
    ) || name.starts_with("AWS_LAMBDA_FUNCTION_")
        || name.starts_with("AWS_LAMBDA_METADATA_")
        || name.starts_with("_LAMU_")
        // No program could be told of these.
        || name.is_empty()
        || name.contains(['=', '\0'])
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "TRACE",
        LogLevel::Debug => "DEBUG",
        LogLevel::Info => "INFO",
        LogLevel::Warn => "WARN",
        LogLevel::Error => "ERROR",
        LogLevel::Fatal => "FATAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use lamu_model::Runtime;

    fn of(spec: &VersionSpec) -> BTreeMap<String, String> {
        let initialization = InitializationType::ProvisionedConcurrency;
        let credentials = Credentials::local("123456789012");
        let s3 = ("AWS_ENDPOINT_URL_S3".to_owned(), "http://127.0.0.1:9000".to_owned());
        variables(spec, initialization, "2026/11/03/[$LATEST]ab", &credentials, &[s3])
            .into_iter()
            .collect()
    }

    #[test]
    fn endpoints_are_told_unless_the_user_names_another() {
        let mut spec = testing::spec();
        assert_eq!(of(&spec)["AWS_ENDPOINT_URL_S3"], "http://127.0.0.1:9000");
        spec.environment.insert("AWS_ENDPOINT_URL_S3".into(), "http://127.0.0.1:1".into());
        assert_eq!(of(&spec)["AWS_ENDPOINT_URL_S3"], "http://127.0.0.1:1");
    }

    #[test]
    fn a_managed_runtime_sees_what_lambda_sets() {
        let mut spec = testing::spec();
        spec.runtime = Runtime::new("python3.12");
        let all = of(&spec);
        let is = |name: &str, value: &str| assert_eq!(all.get(name).unwrap(), value, "{name}");
        is("_HANDLER", "app.handler");
        is("AWS_EXECUTION_ENV", "AWS_Lambda_python3.12");
        is("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128");
        is("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/03/[$LATEST]ab");
        is("AWS_LAMBDA_LOG_FORMAT", "Text");
        is("AWS_LAMBDA_INITIALIZATION_TYPE", "provisioned-concurrency");
        is("AWS_ACCESS_KEY_ID", "123456789012");
        is("AWS_SESSION_TOKEN", "lamu");
        is("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin");
        is("TZ", ":UTC");
        is("PYTHONPATH", "/var/runtime");
        for absent in ["HOME", "NODE_PATH", "AWS_LAMBDA_LOG_LEVEL", "AWS_LAMBDA_RUNTIME_API"] {
            assert!(!all.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn a_provided_runtime_has_no_execution_env() {
        let all = of(&testing::spec());
        assert!(!all.contains_key("AWS_EXECUTION_ENV") && !all.contains_key("PYTHONPATH"));
    }

    #[test]
    fn users_win_except_over_reserved_names() {
        let mut spec = testing::spec();
        for (name, value) in [
            ("PATH", "/mine"),
            ("TZ", "Europe/Berlin"),
            ("AWS_REGION", "mars-1"),
            ("AWS_LAMBDA_FUNCTION_NAME", "other"),
            ("_LAMBDA_TELEMETRY_LOG_FD", "3"),
            ("A", "1"),
            ("B=C", "2"),
        ] {
            spec.environment.insert(name.into(), value.into());
        }
        let all = of(&spec);
        assert_eq!(
            (all["PATH"].as_str(), all["TZ"].as_str(), all["A"].as_str()),
            ("/mine", "Europe/Berlin", "1")
        );
        assert_eq!(all["AWS_REGION"], "us-east-1");
        assert_eq!(all["AWS_LAMBDA_FUNCTION_NAME"], "f");
        assert!(!all.contains_key("B=C") && !all.contains_key("_LAMBDA_TELEMETRY_LOG_FD"));
    }

    #[test]
    fn json_logs_name_their_level_and_node_its_modules() {
        let mut spec = testing::spec();
        spec.runtime = Runtime::new("nodejs20.x");
        spec.log.format = LogFormat::Json;
        let all = of(&spec);
        assert_eq!(all["AWS_LAMBDA_LOG_LEVEL"], "INFO");
        assert!(all["NODE_PATH"].starts_with("/opt/nodejs/node20/node_modules:"));
    }
}
