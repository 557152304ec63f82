//! Which runtime identifiers may be given to a function ("Managed runtimes" of
//! the execution environment reference).
//!
//! Not here: which are known at all (`lamu_api::check_runtime`), and whether
//! this host can run one (the worker's `prepare`).

use super::refusal::Refusal;

/// Known, and closed for good: Lambda neither creates nor updates with them.
const CLOSED: [&str; 20] = [
    "dotnetcore1.0",
    "dotnetcore2.0",
    "dotnetcore2.1",
    "dotnetcore3.1",
    "go1.x",
    "java8",
    "nodejs",
    "nodejs10.x",
    "nodejs12.x",
    "nodejs14.x",
    "nodejs4.3",
    "nodejs4.3-edge",
    "nodejs6.10",
    "nodejs8.10",
    "provided",
    "python2.7",
    "python3.6",
    "python3.7",
    "ruby2.5",
    "ruby2.7",
];

pub fn check(runtime: &str) -> Result<(), Refusal> {
    lamu_api::check_runtime(runtime)?;
    if CLOSED.contains(&runtime) {
        return Err(Refusal::invalid(format!(
            "The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."
        )));
    }
    if runtime == "custom" {
        return Err(Refusal::Unsupported { what: "Runtime custom with RuntimeConfig" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_open_closed_or_unknown() {
        assert!(check("python3.12").is_ok());
        assert!(check("provided.al2023").is_ok());
        assert!(matches!(check("custom"), Err(Refusal::Unsupported { .. })));
        match check("python3.7") {
            Err(Refusal::Invalid(text)) => {
                assert!(text.starts_with("The runtime parameter of python3.7 is no longer"));
            }
            other => panic!("{other:?}"),
        }
        match check("cobol85") {
            Err(Refusal::Request(error)) => assert!(
                error.message.starts_with(
                    "Value cobol85 at 'runtime' failed to satisfy constraint: Member must"
                ),
                "{error}"
            ),
            other => panic!("{other:?}"),
        }
    }
}
