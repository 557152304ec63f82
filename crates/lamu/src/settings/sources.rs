//! Where settings come from: flags, environment, one TOML file. Each value is
//! remembered with its origin, so that a mistake can say where it stands.
//!
//! A setting has one name in three spellings: `--sandboxes-max`,
//! `LAMU_SANDBOXES_MAX`, `sandboxes_max = …`.
//!
//! Not here: what the values must look like ([`super`]).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Every setting there is, by its flag's name.
const NAMES: [&str; 24] = [
    "listen",
    "host-names",
    "data",
    "account",
    "region",
    "s3-endpoint",
    "egress",
    "function-access-key-id",
    "function-secret-access-key",
    "function-session-token",
    "url-base",
    "sandboxes-max",
    "memory-mib",
    "package-cache-mib",
    "concurrency",
    "rate-limits",
    "cpu-share",
    "keep-alive-secs",
    "age-max-secs",
    "drain-secs",
    "stream-mib-per-sec",
    "access-log",
    "block-public-policies",
    "runtimes",
];

/// The text of every setting that was given, still unchecked.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    flags: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    file: Option<(String, toml::Table)>,
    /// Entries of each list, by the list's name.
    lists: BTreeMap<&'static str, Vec<Entry>>,
    policies: Vec<NamedPolicy>,
    /// Origins of the values in force, for mistakes found late.
    used: BTreeMap<&'static str, Origin>,
    mistakes: Vec<String>,
}

/// Lists that either file may hold, each entry written as `[[name]]`.
const LISTS: [&str; 3] = ["accounts", "principals", "keys"];

/// Where it stands, the directory of its file, its name and what it is.
pub type NamedPolicy = (Origin, PathBuf, String, toml::Value);

/// One `[[…]]` of a list.
#[derive(Clone, Debug)]
pub struct Entry {
    pub origin: Origin,
    members: toml::Table,
}

impl Entry {
    /// A member that is text and not empty.
    pub fn text(&mut self, sources: &mut Sources, name: &str) -> Option<String> {
        match self.members.remove(name)? {
            value @ (toml::Value::Table(_) | toml::Value::Array(_)) => {
                sources.refuse_at(&self.origin, format!("{name} must be text, not {value}"));
                None
            }
            value => Some(text_of(&value)).filter(|text| !text.is_empty()),
        }
    }

    /// A member that is a list of texts, or one text.
    pub fn texts(&mut self, sources: &mut Sources, name: &str) -> Vec<String> {
        let text = |value: &toml::Value| value.as_str().map(str::to_owned);
        let read = match self.members.remove(name) {
            None => Some(Vec::new()),
            Some(toml::Value::Array(values)) => values.iter().map(text).collect(),
            Some(value) => text(&value).map(|text| vec![text]),
        };
        read.unwrap_or_else(|| {
            sources.refuse_at(&self.origin, format!("{name} must be a list of texts"));
            Vec::new()
        })
    }

    /// Everything has been taken: what is left has no meaning. `has` says what
    /// would have.
    pub fn finish(&mut self, sources: &mut Sources, has: &str) {
        let unknown: Vec<String> =
            std::mem::take(&mut self.members).into_iter().map(|(k, _)| k).collect();
        if !unknown.is_empty() {
            sources.refuse_at(&self.origin, format!("unknown {}; {has}", unknown.join(", ")));
        }
    }
}

/// Everything that is wrong with the settings, one line each.
#[derive(Debug)]
pub struct Mistakes(Vec<String>);

impl Mistakes {
    #[cfg(test)]
    pub fn lines(self) -> Vec<String> {
        self.0
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("one setting is wrong:")?,
            n => write!(f, "{n} settings are wrong:")?,
        }
        for line in &self.0 {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Where a value stands, worded for the person who wrote it there.
#[derive(Clone, Debug)]
pub struct Origin(String);

impl Origin {
    /// The same thing, in the file that it names.
    pub fn within(&self, file: &str) -> Origin {
        let what = self.0.split(" (").next().unwrap_or(&self.0);
        Origin(format!("{what} ({file})"))
    }
}

impl Sources {
    pub fn flag(&mut self, name: &str, value: &str) {
        self.flags.insert(name.to_owned(), value.to_owned());
    }

    /// Takes in one variable of the process; others than ours are left alone.
    pub fn environment(&mut self, name: &str, value: &str) {
        let Some(setting) = name.strip_prefix("LAMU_") else { return };
        let setting = setting.to_lowercase().replace('_', "-");
        // An empty variable is how shells unset one.
        if NAMES.contains(&setting.as_str()) && !value.is_empty() {
            self.environment.insert(setting, value.to_owned());
        }
    }

    pub fn file(&mut self, name: &str, text: &str) {
        if let Some(mut table) = self.parse(name, text) {
            self.gather_people(name, &mut table);
            self.gather("egress", name, &mut table);
            self.file = Some((name.to_owned(), table));
        }
    }

    /// Takes in a file that holds keys, and who they are of.
    pub fn keys_file(&mut self, name: &str, text: &str) {
        if let Some(mut table) = self.parse(name, text) {
            self.gather_people(name, &mut table);
            for other in table.keys() {
                self.mistakes.push(format!(
                    "{other} ({name}): a file of keys holds only [[keys]], [[principals]], [[accounts]] and [policies]"
                ));
            }
        }
    }

    /// Reads a file that must be there.
    pub fn read(&mut self, path: &Path, take: fn(&mut Sources, &str, &str)) {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => take(self, &name, &text),
            Err(error) => self.mistakes.push(format!("{name}: {error}")),
        }
    }

    /// The checked value of one setting, if it was given and is right.
    pub fn take<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, origin) = self.find(name)?;
        self.used.insert(name, origin.clone());
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.refuse_at(&origin, why);
                None
            }
        }
    }

    /// A setting of several named values: a table of the file, or `a=b,c=d`.
    pub fn take_map<K: Ord, V>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str, &str) -> Result<(K, V), String>,
    ) -> BTreeMap<K, V> {
        let mut entries: Vec<(Origin, String, String)> = Vec::new();
        let table = self.file.as_mut().and_then(|(_, table)| table.remove(name));
        match (table, &self.file) {
            (Some(toml::Value::Table(table)), Some((file, _))) => {
                for (key, value) in table {
                    let value = text_of(&value);
                    let origin = Origin(format!("{name}.{key} = {value} ({file})"));
                    entries.push((origin, key, value));
                }
            }
            (Some(_), Some((file, _))) => {
                self.mistakes.push(format!("{name} ({file}): must be a table, [{name}]"));
            }
            _ => {}
        }
        let typed = [
            (self.environment.remove(name), format!("LAMU_{} (environment)", name.to_uppercase())),
            (self.flags.remove(name), format!("--{}", name.trim_end_matches('s'))),
        ];
        for (text, place) in typed {
            for part in text.iter().flat_map(|text| text.split(',')) {
                let origin = Origin(format!("{place} {part}"));
                match part.split_once('=') {
                    Some((key, value)) => entries.push((origin, key.to_owned(), value.to_owned())),
                    None => self.refuse_at(&origin, "must look like NAME=VALUE".into()),
                }
            }
        }
        // Later ones, which come from stronger sources, replace earlier ones.
        let mut map = BTreeMap::new();
        for (origin, key, value) in entries {
            match parse(&key, &value) {
                Ok((key, value)) => {
                    map.insert(key, value);
                }
                Err(why) => self.refuse_at(&origin, why),
            }
        }
        map
    }

    /// The entries of a list, from all files.
    pub fn take_list(&mut self, name: &str) -> Vec<Entry> {
        self.lists.remove(name).unwrap_or_default()
    }

    /// Endpoints from everywhere: `[[egress]]` of the file, and `SERVICE=URL`
    /// or `URL` typed or in the environment.
    pub fn take_egress(&mut self) -> Vec<Entry> {
        let mut entries = self.take_list("egress");
        let typed = [
            (self.environment.remove("egress"), "LAMU_EGRESS (environment)"),
            (self.flags.remove("egress"), "--egress"),
        ];
        for (text, place) in typed {
            for part in text.iter().flat_map(|text| text.split(',')).map(str::trim) {
                let (service, url) = match part.split_once('=') {
                    // A URL may have one too.
                    Some((service, url)) if !service.contains(':') => (Some(service), url),
                    _ => (None, part),
                };
                let mut members = toml::Table::from_iter([("url".to_owned(), url.into())]);
                members.extend(service.map(|service| ("service".to_owned(), service.into())));
                entries.push(Entry { origin: Origin(format!("{place} {part}")), members });
            }
        }
        entries
    }

    pub fn take_policies(&mut self) -> Vec<NamedPolicy> {
        std::mem::take(&mut self.policies)
    }

    /// A setting that has no default here and was not given.
    pub fn missing(&mut self, name: &str, why: &str) {
        if !self.used.contains_key(name) {
            self.mistakes.push(format!("--{name}: {why}"));
        }
    }

    /// The value in force, though it reads well, cannot be.
    pub fn refuse(&mut self, name: &'static str, why: String) {
        let origin = self.used.get(name).cloned().unwrap_or(Origin(format!("--{name}")));
        self.refuse_at(&origin, why);
    }

    pub fn refuse_at(&mut self, origin: &Origin, why: String) {
        self.mistakes.push(format!("{}: {why}", origin.0));
    }

    /// Everything has been taken: what is left in the file has no meaning.
    pub fn finish(mut self) -> Result<(), Mistakes> {
        if let Some((file, table)) = &self.file {
            for key in table.keys() {
                let hint = match nearest(key) {
                    Some(name) => format!("; did you mean {name}?"),
                    None => String::new(),
                };
                self.mistakes.push(format!("{key} ({file}): no such setting{hint}"));
            }
        }
        if self.mistakes.is_empty() { Ok(()) } else { Err(Mistakes(self.mistakes)) }
    }

    fn parse(&mut self, name: &str, text: &str) -> Option<toml::Table> {
        match text.parse::<toml::Table>() {
            Ok(table) => Some(table),
            Err(error) => {
                let line = error
                    .span()
                    .map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
                self.mistakes.push(format!("{name}, line {line}: {}", error.message()));
                None
            }
        }
    }

    /// The tables written as `[[list]]`.
    fn gather(&mut self, list: &'static str, name: &str, table: &mut toml::Table) {
        match table.remove(list) {
            None => {}
            Some(toml::Value::Array(entries)) if entries.iter().all(toml::Value::is_table) => {
                for (at, entry) in entries.into_iter().enumerate() {
                    let members = entry.as_table().cloned().unwrap_or_default();
                    let origin = Origin(format!("{list} {} ({name})", at + 1));
                    self.lists.entry(list).or_default().push(Entry { origin, members });
                }
            }
            Some(_) => {
                let what = format!("{list} ({name}): write each of them as [[{list}]]");
                self.mistakes.push(what);
            }
        }
    }

    fn gather_people(&mut self, name: &str, table: &mut toml::Table) {
        for list in LISTS {
            self.gather(list, name, table);
        }
        match table.remove("policies") {
            None => {}
            Some(toml::Value::Table(policies)) => {
                let directory = Path::new(name).parent().unwrap_or(Path::new("")).to_owned();
                for (policy, value) in policies {
                    let origin = Origin(format!("policies.{policy} ({name})"));
                    self.policies.push((origin, directory.clone(), policy, value));
                }
            }
            Some(_) => {
                self.mistakes.push(format!("policies ({name}): must be a table, [policies]"))
            }
        }
    }

    fn find(&mut self, name: &str) -> Option<(String, Origin)> {
        let file_key = name.replace('-', "_");
        let secret = name.contains("secret") || name.contains("token");
        let shown = |text: &str| if secret { "…".to_owned() } else { text.to_owned() };
        // Taken out of the file even when a stronger source speaks, so that
        // what remains there at the end is what nobody knows.
        let filed = self.file.as_mut().and_then(|(file, table)| {
            table.remove(&file_key).map(|value| (text_of(&value), file.clone()))
        });
        if let Some(text) = self.flags.remove(name) {
            let origin = Origin(format!("--{name} {}", shown(&text)));
            return Some((text, origin));
        }
        if let Some(text) = self.environment.remove(name) {
            let variable = file_key.to_uppercase();
            let origin = Origin(format!("LAMU_{variable}={} (environment)", shown(&text)));
            return Some((text, origin));
        }
        filed.map(|(text, file)| {
            let origin = Origin(format!("{file_key} = {} ({file})", shown(&text)));
            (text, origin)
        })
    }
}

fn text_of(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The setting, as the file spells it, that `typed` was most likely meant for.
fn nearest(typed: &str) -> Option<String> {
    let lists = LISTS.iter().chain(&["policies"]).map(|name| (*name).to_owned());
    let known = NAMES.iter().map(|name| name.replace('-', "_")).chain(lists);
    let typed = typed.replace('-', "_");
    known
        .map(|name| (distance(&typed, &name), name))
        .min()
        .filter(|(distance, name)| *distance * 3 <= name.len())
        .map(|(_, name)| name)
}

/// Levenshtein's, over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
