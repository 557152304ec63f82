//! Which program serves a runtime identifier on this host, and how it is
//! started inside.
//!
//! `provided.*` brings its own. For `python3.*` and `nodejs*` an interpreter
//! of exactly that version (Python's minor, Node's major) is looked for once,
//! asked what it is, and remembered; our own bootstrap runs on it.
//!
//! ```text
//!  inside             on the host
//!  /var/runtime       <data>/runtimes/<digest>/python, node   (embedded here)
//!  /var/lang          the interpreter's prefix, when it is not below /usr
//! ```
//!
//! Not here: the bootstraps themselves (the crate's directory `runtimes/`),
//! environment variables (`variables`).

mod bootstraps;
mod search;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lamu_guest::{Command, Entry};
use lamu_link::BootError;
use lamu_model::{Language, Runtime};
use lamu_sandbox::Mount;
use tokio::sync::Mutex;
use tracing::info;

use self::bootstraps::Bootstraps;
pub use self::search::{Interpreter, Search};

/// How long a runtime stays missing before it is looked for again, so that
/// one installed meanwhile is found without a restart.
const MISSING_FOR: Duration = Duration::from_secs(5);

/// How a function's runtime is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    pub entry: Entry,
    /// Beyond code and layers.
    pub mounts: Vec<Mount>,
    pub telemetry_fd: bool,
    /// The build of the interpreter, as INIT_START names it; absent when the
    /// package is the runtime.
    pub build: Option<String>,
}

/// The runtimes of one host.
#[derive(Debug)]
pub struct Runtimes {
    search: Search,
    bootstraps: Bootstraps,
    found: Mutex<HashMap<Runtime, Arc<Mutex<Option<Known>>>>>,
}

#[derive(Clone, Debug)]
struct Known {
    found: Result<Arc<Interpreter>, String>,
    at: Instant,
}

impl Runtimes {
    /// Writes the bootstraps below `dir`.
    pub fn open(dir: &Path, configured: BTreeMap<String, PathBuf>) -> io::Result<Runtimes> {
        Ok(Runtimes {
            search: Search::of_this_host(configured),
            bootstraps: Bootstraps::write(dir)?,
            found: Mutex::default(),
        })
    }

    /// How to start `runtime` for a function with these variables.
    pub async fn launch(
        &self,
        runtime: &Runtime,
        environment: &BTreeMap<String, String>,
    ) -> Result<Launch, BootError> {
        let language = runtime.language();
        if language == Language::Provided {
            return Ok(provided());
        }
        let interpreter = self.interpreter(runtime).await?;
        let wrapper = environment.contains_key("AWS_LAMBDA_EXEC_WRAPPER");
        Ok(managed(language, &interpreter, &self.bootstraps, wrapper))
    }

    async fn interpreter(&self, runtime: &Runtime) -> Result<Arc<Interpreter>, BootError> {
        // One lock a runtime: a slow interpreter holds up nobody else's.
        let place = self.found.lock().await.entry(runtime.clone()).or_default().clone();
        let mut known = place.lock().await;
        let usable = known.as_ref().filter(|k| k.found.is_ok() || k.at.elapsed() < MISSING_FOR);
        let found = match usable {
            Some(known) => known.found.clone(),
            None => {
                let found = self.look_for(runtime).await;
                *known = Some(Known { found: found.clone(), at: Instant::now() });
                found
            }
        };
        found.map_err(|advice| BootError::RuntimeMissing { runtime: runtime.clone(), advice })
    }

    async fn look_for(&self, runtime: &Runtime) -> Result<Arc<Interpreter>, String> {
        let interpreter = self.search.find(runtime).await?;
        info!(%runtime, program = %interpreter.program.display(), version = %interpreter.version, "interpreter found");
        if matches!(runtime.language(), Language::Python { .. }) {
            self.bootstraps.compile(&interpreter.program).await;
        }
        Ok(Arc::new(interpreter))
    }

    /// What of these runtimes this host can serve; for `lamu doctor`.
    pub async fn survey(
        &self,
        runtimes: &[Runtime],
    ) -> Vec<(Runtime, Result<Arc<Interpreter>, BootError>)> {
        let mut all = Vec::new();
        for runtime in runtimes {
            all.push((runtime.clone(), self.interpreter(runtime).await));
        }
        all
    }
}

fn provided() -> Launch {
    Launch {
        entry: Entry::FirstOf(vec!["/var/task/bootstrap".into(), "/opt/bootstrap".into()]),
        mounts: Vec::new(),
        telemetry_fd: false,
        build: None,
    }
}

fn managed(
    language: Language,
    interpreter: &Interpreter,
    bootstraps: &Bootstraps,
    wrapper: bool,
) -> Launch {
    let (program, prefix) = inside(interpreter);
    let mut mounts = Vec::new();
    if let Some(prefix) = prefix {
        mounts.push(Mount { sources: vec![prefix], target: "/var/lang".into() });
    }
    let (dir, args): (_, &[&str]) = match language {
        Language::Node { .. } => (bootstraps.node(), &["/var/runtime/bootstrap.cjs"]),
        // Without site; the bootstrap adds site-packages itself.
        _ => (bootstraps.python(), &["-S", "/var/runtime/bootstrap.py"]),
    };
    mounts.push(Mount { sources: vec![dir.to_owned()], target: "/var/runtime".into() });
    let mut command = Command { program, args: args.iter().map(|arg| (*arg).to_owned()).collect() };
    if wrapper {
        // Through a shell as on Lambda, so that a missing wrapper is an exit
        // with status 127 there and here.
        let mut args = vec![
            "-c".to_owned(),
            "exec \"$AWS_LAMBDA_EXEC_WRAPPER\" \"$@\"".to_owned(),
            "bootstrap".to_owned(),
            command.program,
        ];
        args.append(&mut command.args);
        command = Command { program: "/bin/sh".to_owned(), args };
    }
    Launch {
        entry: Entry::Exec(command),
        mounts,
        telemetry_fd: true,
        build: Some(build(language, &interpreter.version)),
    }
}

/// Where the interpreter is inside, and what of the host must be mounted at
/// `/var/lang` for that. The userland below `/usr` is there already.
fn inside(interpreter: &Interpreter) -> (String, Option<PathBuf>) {
    if interpreter.program.starts_with("/usr") {
        return (interpreter.program.to_string_lossy().into_owned(), None);
    }
    let relative = interpreter.program.strip_prefix(&interpreter.prefix);
    let program = Path::new("/var/lang").join(relative.unwrap_or(Path::new("bin/missing")));
    (program.to_string_lossy().into_owned(), Some(interpreter.prefix.clone()))
}

/// `python:3.11.v7` for CPython 3.11.7, `nodejs:20.v20.2` for Node 20.20.2.
fn build(language: Language, version: &str) -> String {
    let mut parts = version.splitn(3, '.');
    let mut part = || parts.next().unwrap_or("0");
    let (major, minor, patch) = (part(), part(), part());
    match language {
        Language::Node { .. } => format!("nodejs:{major}.v{minor}.{patch}"),
        _ => format!("python:{major}.{minor}.v{patch}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpreter(program: &str, prefix: &str, version: &str) -> Interpreter {
        Interpreter { program: program.into(), prefix: prefix.into(), version: version.into() }
    }

    fn bootstraps() -> (tempfile::TempDir, Bootstraps) {
        let dir = tempfile::tempdir().unwrap();
        let bootstraps = Bootstraps::write(dir.path()).unwrap();
        (dir, bootstraps)
    }

    #[test]
    fn an_interpreter_of_the_system_is_called_where_it_is() {
        let (_dir, bootstraps) = bootstraps();
        let node = interpreter("/usr/bin/node", "/usr", "20.20.2");
        let launch = managed(Language::Node { major: 20 }, &node, &bootstraps, false);
        let Entry::Exec(command) = &launch.entry else { panic!("{launch:?}") };
        assert_eq!(command.program, "/usr/bin/node");
        assert_eq!(launch.mounts.len(), 1);
        assert_eq!(launch.mounts[0].target, Path::new("/var/runtime"));
        assert_eq!(launch.build.as_deref(), Some("nodejs:20.v20.2"));
    }

    #[test]
    fn one_from_elsewhere_is_mounted_at_var_lang() {
        let (_dir, bootstraps) = bootstraps();
        let python = interpreter("/home/x/py/bin/python3.11", "/home/x/py", "3.11.7");
        let launch = managed(Language::Python { minor: 11 }, &python, &bootstraps, false);
        let Entry::Exec(command) = &launch.entry else { panic!("{launch:?}") };
        assert_eq!(command.program, "/var/lang/bin/python3.11");
        assert_eq!(launch.mounts[0].sources, [PathBuf::from("/home/x/py")]);
        assert_eq!(launch.build.as_deref(), Some("python:3.11.v7"));
    }

    #[test]
    fn a_wrapper_gets_the_whole_command() {
        let (_dir, bootstraps) = bootstraps();
        let python = interpreter("/usr/bin/python3.11", "/usr", "3.11.2");
        let launch = managed(Language::Python { minor: 11 }, &python, &bootstraps, true);
        let Entry::Exec(command) = launch.entry else { panic!() };
        assert_eq!(command.program, "/bin/sh");
        assert_eq!(
            command.args[2..],
            ["bootstrap", "/usr/bin/python3.11", "-S", "/var/runtime/bootstrap.py"]
        );
    }

    #[tokio::test]
    async fn a_runtime_that_is_not_here_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let runtimes = Runtimes::open(dir.path(), BTreeMap::new()).unwrap();
        for id in ["python3.4", "nodejs4.x", "java21"] {
            let error = runtimes.launch(&Runtime::new(id), &BTreeMap::new()).await.unwrap_err();
            let BootError::RuntimeMissing { runtime, advice } = error else { panic!("{error}") };
            assert_eq!(runtime.as_str(), id);
            assert!(advice.len() > 20, "{advice}");
        }
    }
}
