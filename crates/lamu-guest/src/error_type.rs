//! The error types that a function names, as logs and metrics record them.
//!
//! Init and host hold to one rule: init says what it recorded, and the host does
//! not believe it.

/// `Runtime.X` and `Function.X` as they are, anything else as unknown (Runtime
/// API reference, "Errors": `(Runtime|Function)\.[A-Z][a-zA-Z]+`).
pub fn recorded_error_type(given: &str) -> String {
    let name = given.strip_prefix("Runtime.").or_else(|| given.strip_prefix("Function."));
    let known = name.is_some_and(|name| {
        name.len() >= 2
            && name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|byte| byte.is_ascii_alphabetic())
    });
    if known {
        given.to_owned()
    } else if given.starts_with("Function.") {
        "Function.Unknown".to_owned()
    } else {
        "Runtime.Unknown".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_types_outside_the_rule_are_unknown() {
        for (given, recorded) in [
            ("Runtime.ImportModuleError", "Runtime.ImportModuleError"),
            ("Function.Broken", "Function.Broken"),
            ("Function.not!", "Function.Unknown"),
            ("Function.", "Function.Unknown"),
            ("Runtime.X1", "Runtime.Unknown"),
            ("Runtime.X", "Runtime.Unknown"),
            ("Runtime.lower", "Runtime.Unknown"),
            ("ValueError", "Runtime.Unknown"),
            ("", "Runtime.Unknown"),
        ] {
            assert_eq!(recorded_error_type(given), recorded, "{given}");
        }
    }
}
