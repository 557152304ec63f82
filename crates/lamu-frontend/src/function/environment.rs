//! The user's environment variables: which names are the platform's, and how
//! much fits ("Environment variables" of the execution environment reference).

use std::collections::BTreeMap;

use lamu_model::ENVIRONMENT_BYTES_MAX;

use super::refusal::Refusal;

const RESERVED: [&str; 16] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
    "AWS_LAMBDA_MAX_CONCURRENCY",
];
const RESERVED_PREFIXES: [&str; 2] = ["AWS_LAMBDA_FUNCTION_", "AWS_LAMBDA_METADATA_"];

/// Refuses variables that Lambda refuses.
pub fn check(variables: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let reserved: Vec<&str> =
        variables.keys().map(String::as_str).filter(|name| is_reserved(name)).collect();
    if !reserved.is_empty() {
        return Err(Refusal::invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: {}",
            reserved.join(", ")
        )));
    }
    let measured = serde_json::to_string(variables).map_err(|error| {
        Refusal::Internal(format!("environment variables do not serialize: {error}"))
    })?;
    if measured.len() > ENVIRONMENT_BYTES_MAX {
        return Err(Refusal::invalid(format!(
            "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {measured}"
        )));
    }
    // What a process environment cannot hold would otherwise fail every Init.
    if variables.values().any(|value| value.contains('\0')) {
        return Err(Refusal::invalid("Environment variable values cannot contain NUL characters."));
    }
    Ok(())
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn refusal(pairs: &[(&str, &str)]) -> String {
        match check(&variables(pairs)) {
            Err(Refusal::Invalid(text)) => text,
            other => panic!("{pairs:?}: {other:?}"),
        }
    }

    #[test]
    fn reserved_names_are_all_named_in_the_refusal() {
        let text = refusal(&[("AWS_REGION", "x"), ("OK", "y"), ("_HANDLER", "z")]);
        assert!(text.ends_with("Reserved keys used in this request: AWS_REGION, _HANDLER"));
        assert!(refusal(&[("AWS_LAMBDA_FUNCTION_NAME", "x")]).contains("reserved keys"));
    }

    #[test]
    fn four_kilobytes_of_json_fit_and_one_byte_more_does_not() {
        let filler = "x".repeat(ENVIRONMENT_BYTES_MAX - r#"{"K":""}"#.len());
        assert!(check(&variables(&[("K", &filler)])).is_ok());
        let text = refusal(&[("K", &(filler + "x"))]);
        assert!(text.contains(r#"exceeded the 4KB limit. String measured: {"K":"xx"#), "{text}");
    }

    #[test]
    fn ordinary_variables_pass() {
        assert!(check(&variables(&[("AWS_LAMBDA_EXEC_WRAPPER", "/opt/x"), ("A", "")])).is_ok());
    }
}
