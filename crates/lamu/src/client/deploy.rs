//! `lamu deploy`: a directory or zip becomes a function that can be invoked.
//!
//! Not here: finding out what it is ([`super::detect`]).

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::cli::Deploy;
use crate::client::archive::{pack_bootstrap, pack_dir};
use crate::client::connection::{Ask, segment};
use crate::client::detect::{Code, detect, name_of};
use crate::client::url::show_or_make;
use crate::client::{Connection, Refused};

const FUNCTIONS: &str = "/2015-03-31/functions";
/// Settling takes as long as unpacking 250 MB does, seconds on a slow disk.
const SETTLE_MAX: Duration = Duration::from_secs(120);
const SETTLE_POLL: Duration = Duration::from_millis(50);

/// Prints the function's ARN, or its URL when asked for.
pub fn deploy(deploy: &Deploy) -> anyhow::Result<()> {
    let connection = Connection::new(&deploy.target);
    let name = match &deploy.name {
        Some(name) => name.clone(),
        None => name_of(&deploy.path)?,
    };
    let environment = parse_environment(&deploy.environment)?;
    let package = package(deploy)?;
    let path = format!("{FUNCTIONS}/{}", segment(&name));
    let existing = match connection.ask(Ask::get(format!("{path}/configuration"))) {
        Ok(answer) => Some(answer.json()?),
        Err(error) if refused_with(&error, 404) => None,
        Err(error) => return Err(error),
    };
    let wanted = wanted(deploy, &package, environment);
    let arn = match existing {
        None => create(&connection, &name, &package, wanted, &deploy.role)?,
        Some(existing) => update(&connection, &path, &package, wanted, &existing)?,
    };
    match deploy.url {
        true => println!("{}", show_or_make(&connection, &name, None, None)?),
        false => println!("{arn}"),
    }
    Ok(())
}

/// What will be sent, and what was found out about it.
struct Package {
    zip: Vec<u8>,
    runtime: Option<String>,
    handler: Option<String>,
}

fn package(deploy: &Deploy) -> anyhow::Result<Package> {
    let path = &deploy.path;
    let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
    if !metadata.is_dir() {
        let zip = fs::read(path).with_context(|| path.display().to_string())?;
        if !zip.starts_with(b"PK") {
            bail!("{} is neither a directory nor a zip", path.display());
        }
        let (runtime, handler) = (deploy.runtime.clone(), deploy.handler.clone());
        return Ok(Package { zip, runtime, handler });
    }
    let found = detect(path, deploy.runtime.as_deref(), deploy.handler.as_deref())?;
    let zip = match &found.code {
        Code::Dir(dir) => pack_dir(dir)?,
        Code::Program(program) => {
            eprintln!("packing {} as bootstrap", program.display());
            pack_bootstrap(program)?
        }
    };
    eprintln!("{} with handler {}, {} bytes zipped", found.runtime, found.handler, zip.len());
    Ok(Package { zip, runtime: Some(found.runtime), handler: Some(found.handler) })
}

fn parse_environment(pairs: &[String]) -> anyhow::Result<Option<Map<String, Value>>> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut variables = Map::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            bail!("--env {pair}: must look like KEY=VALUE");
        };
        variables.insert(key.to_owned(), value.into());
    }
    Ok(Some(variables))
}

/// The configuration members that the command line or the code decide.
fn wanted(
    deploy: &Deploy,
    package: &Package,
    environment: Option<Map<String, Value>>,
) -> Map<String, Value> {
    let mut wanted = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            wanted.insert(name.to_owned(), value);
        }
    };
    set("Runtime", package.runtime.clone().map(Value::from));
    set("Handler", package.handler.clone().map(Value::from));
    set("MemorySize", deploy.memory.map(Value::from));
    set("Timeout", deploy.timeout.map(Value::from));
    set("Layers", (!deploy.layers.is_empty()).then(|| json!(deploy.layers)));
    set("Environment", environment.map(|variables| json!({"Variables": variables})));
    wanted
}

fn create(
    connection: &Connection,
    name: &str,
    package: &Package,
    mut wanted: Map<String, Value>,
    role: &str,
) -> anyhow::Result<String> {
    for (member, flag) in [("Runtime", "--runtime"), ("Handler", "--handler")] {
        if !wanted.contains_key(member) {
            bail!("a new function from a zip needs {flag}");
        }
    }
    wanted.insert("FunctionName".to_owned(), name.into());
    wanted.insert("Role".to_owned(), role.into());
    wanted.insert("Code".to_owned(), json!({"ZipFile": BASE64.encode(&package.zip)}));
    let answer = connection.ask(Ask::send("POST", FUNCTIONS.to_owned(), &wanted.into()))?;
    let created = answer.json()?;
    settle(connection, &format!("{FUNCTIONS}/{}", segment(name)))?;
    eprintln!("created {name}");
    arn_of(&created)
}

fn update(
    connection: &Connection,
    path: &str,
    package: &Package,
    wanted: Map<String, Value>,
    existing: &Value,
) -> anyhow::Result<String> {
    settle(connection, path)?;
    let mut changed = Vec::new();
    let digest = BASE64.encode(Sha256::digest(&package.zip));
    if existing["CodeSha256"] != digest {
        let body = json!({"ZipFile": BASE64.encode(&package.zip)});
        connection.ask(Ask::send("PUT", format!("{path}/code"), &body))?;
        settle(connection, path)?;
        changed.push("code".to_owned());
    }
    let differing: Map<String, Value> =
        wanted.into_iter().filter(|(name, value)| as_wanted(existing, name) != *value).collect();
    if !differing.is_empty() {
        changed.extend(differing.keys().cloned());
        connection.ask(Ask::send("PUT", format!("{path}/configuration"), &differing.into()))?;
        settle(connection, path)?;
    }
    match changed.as_slice() {
        [] => eprintln!("nothing has changed"),
        changed => eprintln!("updated {}", changed.join(", ")),
    }
    arn_of(existing)
}

/// A member of a configuration as it would be asked for.
fn as_wanted(existing: &Value, name: &str) -> Value {
    match (name, existing[name].as_array()) {
        ("Layers", Some(layers)) => layers.iter().map(|layer| layer["Arn"].clone()).collect(),
        _ => existing[name].clone(),
    }
}

/// Waits until the function can be invoked and updated.
fn settle(connection: &Connection, path: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let state = connection.ask(Ask::get(format!("{path}/configuration")))?.json()?;
        match (state["State"].as_str(), state["LastUpdateStatus"].as_str()) {
            (Some("Failed"), _) => bail!("the function failed: {}", reason(&state, "StateReason")),
            (_, Some("Failed")) => {
                bail!("the update failed: {}", reason(&state, "LastUpdateStatusReason"));
            }
            (Some("Active"), Some("Successful") | None) => return Ok(()),
            _ if begun.elapsed() > SETTLE_MAX => {
                bail!("the function has not settled within {SETTLE_MAX:?}");
            }
            _ => std::thread::sleep(SETTLE_POLL),
        }
    }
}

fn reason<'a>(state: &'a Value, member: &str) -> &'a str {
    state[member].as_str().unwrap_or("no reason given")
}

fn arn_of(configuration: &Value) -> anyhow::Result<String> {
    let arn = configuration["FunctionArn"].as_str().context("the answer names no function")?;
    Ok(arn.to_owned())
}

fn refused_with(error: &anyhow::Error, status: u16) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == status)
}
