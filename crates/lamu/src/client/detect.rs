//! Finds out what kind of function lies in a directory: its runtime, its
//! handler, and which bytes to send.
//!
//! Looks and says what it saw; it never guesses between two.
//! Not here: packing ([`super::archive`]) and talking to the platform.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub runtime: String,
    pub handler: String,
    pub code: Code,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Code {
    /// The whole directory.
    Dir(PathBuf),
    /// One program, to be sent as `bootstrap`.
    Program(PathBuf),
}

/// Python files that hold the handler by habit, before others.
const PYTHON_USUAL: [&str; 5] = ["lambda_function", "app", "main", "handler", "index"];
const NODE_USUAL: [&str; 4] = ["index", "app", "main", "handler"];

/// Looks at `dir`. What the caller has fixed is not looked for.
pub fn detect(dir: &Path, runtime: Option<&str>, handler: Option<&str>) -> anyhow::Result<Found> {
    if let (Some(runtime), Some(handler)) = (runtime, handler) {
        return Ok(found(runtime, handler, Code::Dir(dir.into())));
    }
    let provided = runtime.is_none_or(|runtime| runtime.starts_with("provided"));
    if provided && dir.join("bootstrap").exists() {
        let runtime = runtime.unwrap_or("provided.al2023");
        return Ok(found(runtime, handler.unwrap_or("bootstrap"), Code::Dir(dir.into())));
    }
    if provided && dir.join("Cargo.toml").is_file() {
        let runtime = runtime.unwrap_or("provided.al2023");
        let program = cargo_program(dir)?;
        return Ok(found(runtime, handler.unwrap_or("bootstrap"), Code::Program(program)));
    }
    let mut candidates = Vec::new();
    if runtime.is_none_or(|runtime| runtime.starts_with("python")) {
        candidates.extend(python_handlers(dir)?.into_iter().map(|handler| ("python", handler)));
    }
    if runtime.is_none_or(|runtime| runtime.starts_with("nodejs")) {
        candidates.extend(node_handlers(dir)?.into_iter().map(|handler| ("nodejs", handler)));
    }
    let (language, found_handler) = match candidates.as_slice() {
        [] => match (runtime, handler) {
            (None, Some(_)) => {
                bail!("cannot tell the runtime of {}: name it with --runtime", dir.display())
            }
            _ => bail!(
                "found no handler in {}: neither bootstrap, nor a Python file with def \
                 lambda_handler or def handler, nor a Node file that exports handler, nor \
                 Cargo.toml; name it with --runtime and --handler",
                dir.display()
            ),
        },
        [(language, only)] => (*language, only.clone()),
        several => match usual(several) {
            Some((language, handler)) => (language, handler),
            None => {
                let names: Vec<&str> = several.iter().map(|(_, handler)| &**handler).collect();
                bail!("several handlers are possible: {}; choose with --handler", names.join(", "))
            }
        },
    };
    let runtime = match runtime {
        Some(runtime) => runtime.to_owned(),
        None => installed(language)?,
    };
    Ok(found(&runtime, handler.unwrap_or(&found_handler), Code::Dir(dir.into())))
}

/// A function name out of a path: its last part without `.zip`, and with what
/// a name may not hold replaced.
pub fn name_of(path: &Path) -> anyhow::Result<String> {
    let path = path.canonicalize().with_context(|| path.display().to_string())?;
    let stem = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let stem = stem.unwrap_or_default();
    let stem = stem.strip_suffix(".zip").unwrap_or(&stem);
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name: String = stem.chars().map(|c| if fits(c) { c } else { '-' }).take(64).collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() {
        bail!("cannot make a function name of {}: give one with --name", path.display());
    }
    Ok(name)
}

fn found(runtime: &str, handler: &str, code: Code) -> Found {
    Found { runtime: runtime.to_owned(), handler: handler.to_owned(), code }
}

fn usual(candidates: &[(&'static str, String)]) -> Option<(&'static str, String)> {
    PYTHON_USUAL.iter().chain(&NODE_USUAL).find_map(|stem| {
        let mut of_stem = candidates
            .iter()
            .filter(|(_, handler)| handler.rsplit_once('.').is_some_and(|(file, _)| file == *stem));
        // Two of one name in two languages are still a guess.
        of_stem.next().filter(|_| of_stem.next().is_none()).cloned()
    })
}

fn python_handlers(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut handlers = Vec::new();
    for (stem, text) in files(dir, &["py"])? {
        let function = ["lambda_handler", "handler"].into_iter().find(|function| {
            text.lines().any(|line| line.starts_with(&format!("def {function}(")))
        });
        handlers.extend(function.map(|function| format!("{stem}.{function}")));
    }
    Ok(handlers)
}

fn node_handlers(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut handlers = Vec::new();
    for (stem, text) in files(dir, &["js", "mjs", "cjs"])? {
        let exports = [
            "exports.handler",
            "export const handler",
            "export async function handler",
            "export function handler",
            "export { handler",
            "export {handler",
        ];
        if exports.iter().any(|export| text.contains(export)) {
            handlers.push(format!("{stem}.handler"));
        }
    }
    Ok(handlers)
}

/// Stem and text of the files directly in `dir` that end so, sorted.
fn files(dir: &Path, extensions: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !extension.is_some_and(|extension| extensions.contains(&extension)) || !path.is_file() {
            continue;
        }
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        // A file that is no text holds no handler.
        if let Ok(text) = fs::read_to_string(&path) {
            files.push((stem.to_owned(), text));
        }
    }
    files.sort();
    Ok(files)
}

/// The runtime identifier of the interpreter on this machine, which is most
/// likely the one the platform has too.
fn installed(language: &str) -> anyhow::Result<String> {
    let (program, argument) = match language {
        "python" => ("python3", "--version"),
        _ => ("node", "--version"),
    };
    let advice = "name the runtime with --runtime";
    let output = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("ask {program} for its version; {advice}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    runtime_of(language, text.trim())
        .with_context(|| format!("{program} says {text:?} of its version; {advice}"))
}

fn runtime_of(language: &str, version: &str) -> Option<String> {
    match language {
        "python" => {
            let mut parts = version.strip_prefix("Python 3.")?.split('.');
            Some(format!("python3.{}", parts.next()?.parse::<u32>().ok()?))
        }
        _ => {
            let major = version.strip_prefix('v')?.split('.').next()?.parse::<u32>().ok()?;
            Some(format!("nodejs{major}.x"))
        }
    }
}

/// The newest build of a Cargo project: cargo-lambda's, else cargo's own.
fn cargo_program(dir: &Path) -> anyhow::Result<PathBuf> {
    let manifest = dir.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
    let table: toml::Table = text.parse().with_context(|| manifest.display().to_string())?;
    let package = table.get("package").and_then(|package| package.get("name"));
    let Some(package) = package.and_then(toml::Value::as_str) else {
        bail!("{} has no package; deploy one of its members", manifest.display());
    };
    let built = [
        dir.join("target/lambda").join(package).join("bootstrap"),
        dir.join("target/release").join(package),
    ];
    let newest = built
        .into_iter()
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .max();
    match newest {
        Some((_, path)) => Ok(path),
        None => bail!(
            "{package} has not been built: run `cargo build --release` in {} first",
            dir.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_bootstrap_is_a_custom_runtime() {
        let dir = dir(&[("bootstrap", "#!/bin/sh"), ("app.py", "def handler(e, c): pass")]);
        let found = detect(dir.path(), None, None).unwrap();
        assert_eq!(found.runtime, "provided.al2023");
        assert_eq!(found.code, Code::Dir(dir.path().into()));
    }

    #[test]
    fn a_python_handler_is_found_by_its_definition() {
        let dir = dir(&[
            (
                "lambda_function.py",
                "import json\n\ndef lambda_handler(event, context):\n    pass\n",
            ),
            ("other.py", "def handler(event, context): pass"),
            ("helper.py", "def help(): pass"),
        ]);
        let found = detect(dir.path(), Some("python3.12"), None).unwrap();
        assert_eq!(found.handler, "lambda_function.lambda_handler");
        assert_eq!(found.runtime, "python3.12");
    }

    #[test]
    fn two_unusual_handlers_are_not_guessed_between() {
        let dir = dir(&[
            ("orders.py", "def handler(event, context): pass"),
            ("users.py", "def handler(event, context): pass"),
        ]);
        let error = detect(dir.path(), Some("python3.12"), None).unwrap_err().to_string();
        assert!(error.contains("orders.handler, users.handler"), "{error}");
    }

    #[test]
    fn a_node_handler_is_found_by_its_export() {
        let dir = dir(&[("index.mjs", "export const handler = async () => 1;")]);
        let found = detect(dir.path(), Some("nodejs20.x"), None).unwrap();
        assert_eq!(found.handler, "index.handler");
    }

    #[test]
    fn a_cargo_project_sends_its_newest_build() {
        let dir = dir(&[("Cargo.toml", "[package]\nname = 'hello'\n")]);
        let error = detect(dir.path(), None, None).unwrap_err().to_string();
        assert!(error.contains("cargo build --release"), "{error}");

        let program = dir.path().join("target/release/hello");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "ELF").unwrap();
        let found = detect(dir.path(), None, None).unwrap();
        assert_eq!(found.code, Code::Program(program));
    }

    #[test]
    fn an_interpreter_names_its_runtime() {
        assert_eq!(runtime_of("python", "Python 3.11.2"), Some("python3.11".into()));
        assert_eq!(runtime_of("nodejs", "v20.20.2"), Some("nodejs20.x".into()));
        assert_eq!(runtime_of("python", "Python 2.7"), None);
    }

    #[test]
    fn a_name_keeps_what_names_may_hold() {
        let dir = dir(&[("my app.v2.zip", "")]);
        assert_eq!(name_of(&dir.path().join("my app.v2.zip")).unwrap(), "my-app-v2");
    }
}
