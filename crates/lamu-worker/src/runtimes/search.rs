//! Finds an interpreter and asks it what it is.
//!
//! Looked through in this order: what the operator configured (then nothing
//! else), PATH, the usual system places, the homes of version managers (pyenv,
//! uv, asdf; nvm, fnm). The program itself says its version and where it
//! really is, so shims of version managers work.
//!
//! Not here: how it is started inside.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lamu_model::{Language, Runtime};
use tokio::process::Command;
use tokio::time::timeout;

/// A healthy interpreter answers in 30 ms.
const ASK_SECS_MAX: u64 = 10;
/// Programs asked for one runtime. Each costs a process.
const ASKED_MAX: usize = 24;

/// An interpreter of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its real path.
    pub program: PathBuf,
    /// The directory with its `bin` and `lib`.
    pub prefix: PathBuf,
    /// `3.11.7`
    pub version: String,
}

#[derive(Clone, Debug)]
pub struct Search {
    configured: BTreeMap<String, PathBuf>,
    path: OsString,
    home: Option<PathBuf>,
}

impl Search {
    pub fn of_this_host(configured: BTreeMap<String, PathBuf>) -> Search {
        let path = env::var_os("PATH").unwrap_or_default();
        let home = env::var_os("HOME").map(PathBuf::from);
        Search { configured, path, home }
    }

    /// The interpreter for `runtime`, or advice.
    pub async fn find(&self, runtime: &Runtime) -> Result<Interpreter, String> {
        let language = runtime.language();
        if let Some(program) = self.configured.get(runtime.as_str()) {
            return ask(language, program).await.ok_or_else(|| {
                format!("{}, which is configured for it, does not run", program.display())
            });
        }
        let (name, candidates) = match language {
            Language::Python { minor } => (format!("Python 3.{minor}"), self.pythons(minor)),
            Language::Node { major } => (format!("Node.js {major}"), self.nodes(major)),
            Language::Provided | Language::Other => {
                return Err("lamu runs provided.*, python3.* and nodejs*; a function in another \
                            language runs as provided.al2023 with its own bootstrap"
                    .to_owned());
            }
        };
        let mut others = Vec::new();
        for candidate in candidates.into_iter().take(ASKED_MAX) {
            let Some(found) = ask(language, &candidate).await else { continue };
            if serves(language, &found.version) && is_reachable(&found) {
                return Ok(found);
            }
            others.push(format!("{} is {}", candidate.display(), found.version));
        }
        let seen =
            if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
        Err(format!(
            "install {name} so that it is in PATH, or set the path of one for {runtime} under \
             [runtimes] in lamu's configuration{seen}"
        ))
    }

    fn pythons(&self, minor: u32) -> Vec<PathBuf> {
        let name = format!("python3.{minor}");
        let mut all = self.in_path(&[&name]);
        for (dir, prefix) in [
            (".pyenv/versions", format!("3.{minor}.")),
            (".local/share/uv/python", format!("cpython-3.{minor}.")),
            (".asdf/installs/python", format!("3.{minor}.")),
        ] {
            all.extend(self.managed(dir, &prefix, &format!("bin/{name}")));
        }
        all.extend(self.in_path(&["python3"]));
        all
    }

    fn nodes(&self, major: u32) -> Vec<PathBuf> {
        let mut all = self.in_path(&[&format!("node{major}"), "node", "nodejs"]);
        for (dir, prefix, program) in [
            (".nvm/versions/node", format!("v{major}."), "bin/node"),
            (".local/share/fnm/node-versions", format!("v{major}."), "installation/bin/node"),
            (".asdf/installs/nodejs", format!("{major}."), "bin/node"),
        ] {
            all.extend(self.managed(dir, &prefix, program));
        }
        all
    }

    fn in_path(&self, names: &[&str]) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> = env::split_paths(&self.path).collect();
        dirs.extend(["/usr/local/bin", "/usr/bin"].map(PathBuf::from));
        let mut all = Vec::new();
        for name in names {
            for dir in dirs.iter().filter(|dir| dir.is_absolute()) {
                let program = dir.join(name);
                if program.is_file() && !all.contains(&program) {
                    all.push(program);
                }
            }
        }
        all
    }

    /// `~/<dir>/<prefix>*/<program>`, the newest version first.
    fn managed(&self, dir: &str, prefix: &str, program: &str) -> Vec<PathBuf> {
        let Some(home) = &self.home else { return Vec::new() };
        let Ok(entries) = fs::read_dir(home.join(dir)) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(prefix))
            .collect();
        names.sort_by_key(|name| std::cmp::Reverse(numbers(name)));
        let programs = names.iter().map(|name| home.join(dir).join(name).join(program));
        programs.filter(|program| program.is_file()).collect()
    }
}

/// Whether what it needs can be mounted: it is below `/usr`, or below its own
/// prefix, and that is not the whole host.
fn is_reachable(found: &Interpreter) -> bool {
    found.program.starts_with("/usr")
        || (found.program.starts_with(&found.prefix) && found.prefix.components().count() > 2)
}

fn serves(language: Language, version: &str) -> bool {
    match (language, numbers(version).as_slice()) {
        (Language::Python { minor }, [3, found, ..]) => u64::from(minor) == *found,
        (Language::Node { major }, [found, ..]) => u64::from(major) == *found,
        _ => false,
    }
}

/// `v20.20.2` is 20, 20, 2.
fn numbers(text: &str) -> Vec<u64> {
    let parts = text.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

/// Three lines: version, real path, prefix. `None` when it does not say so.
async fn ask(language: Language, program: &Path) -> Option<Interpreter> {
    let mut command = Command::new(program);
    match language {
        Language::Python { .. } => command.args([
            "-I",
            "-S",
            "-c",
            "import sys, os; print('%d.%d.%d' % sys.version_info[:3]); \
             print(os.path.realpath(sys.executable)); print(os.path.realpath(sys.base_prefix))",
        ]),
        _ => command.args([
            "-p",
            "const p = require('fs').realpathSync(process.execPath); \
             [process.versions.node, p, require('path').dirname(require('path').dirname(p))].join('\\n')",
        ]),
    };
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    // What the operator's shell has set for it is not for functions.
    command.env_remove("NODE_OPTIONS");
    let output = timeout(Duration::from_secs(ASK_SECS_MAX), command.output()).await.ok()?.ok()?;
    if !output.status.success() {
        return None;
    }
    read_answer(&String::from_utf8(output.stdout).ok()?)
}

fn read_answer(answer: &str) -> Option<Interpreter> {
    let mut lines = answer.lines();
    let version = lines.next()?.to_owned();
    let program = PathBuf::from(lines.next()?);
    let prefix = PathBuf::from(lines.next()?);
    let whole = program.is_absolute() && prefix.is_absolute() && !numbers(&version).is_empty();
    whole.then_some(Interpreter { program, prefix, version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake(dir: &Path, version: &str) {
        fs::create_dir_all(dir).unwrap();
        let name = dir.join("python3.77");
        let text =
            format!("#!/bin/sh\necho {version}\necho {0}\necho /usr\n", "/usr/bin/python3.77");
        fs::write(&name, text).unwrap();
        fs::set_permissions(&name, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn search(dir: &Path, path: &str) -> Search {
        Search {
            configured: BTreeMap::new(),
            path: dir.join(path).into_os_string(),
            home: Some(dir.to_owned()),
        }
    }

    #[tokio::test]
    async fn the_version_must_be_the_one_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        fake(&dir.path().join("bin"), "3.76.1");
        let advice = search(dir.path(), "bin").find(&Runtime::new("python3.77")).await.unwrap_err();
        assert!(advice.contains("Python 3.77") && advice.contains("is 3.76.1"), "{advice}");
    }

    #[tokio::test]
    async fn version_managers_are_looked_into_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["3.77.9", "3.77.10"] {
            fake(&dir.path().join(".pyenv/versions").join(version).join("bin"), version);
        }
        let found = search(dir.path(), "bin").find(&Runtime::new("python3.77")).await.unwrap();
        assert_eq!(found.version, "3.77.10");
    }

    #[tokio::test]
    async fn what_is_configured_is_taken_whatever_its_version() {
        let dir = tempfile::tempdir().unwrap();
        fake(&dir.path().join("bin"), "3.70.0");
        let mut search = search(dir.path(), "nowhere");
        let program = dir.path().join("bin/python3.77");
        search.configured.insert("python3.12".to_owned(), program);
        let found = search.find(&Runtime::new("python3.12")).await.unwrap();
        assert_eq!(found.version, "3.70.0");
        search.configured.insert("python3.12".to_owned(), "/nowhere/python".into());
        assert!(search.find(&Runtime::new("python3.12")).await.is_err());
    }

    #[test]
    fn answers_that_are_none_are_not_taken() {
        assert!(read_answer("3.11.7\n/usr/bin/python3.11\n/usr\n").is_some());
        for bad in ["", "3.11.7", "3.11.7\nrelative\n/usr", "hello\n/a\n/b"] {
            assert_eq!(read_answer(bad), None, "{bad:?}");
        }
    }
}
