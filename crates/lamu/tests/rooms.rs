//! The rooms and their arrows: the table in ARCHITECTURE.md holds against what
//! cargo sees, and `unsafe` stays in its two rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const ARCHITECTURE: &str = include_str!("../../../ARCHITECTURE.md");

#[test]
fn every_arrow_between_rooms_stands_in_the_table() {
    let table = table();
    for (room, uses) in arrows(&["null", "build"]) {
        let allowed = table.get(&room).unwrap_or_else(|| panic!("{room} is not in the table"));
        let beyond: Vec<_> = uses.difference(allowed).collect();
        assert!(beyond.is_empty(), "{room} uses {beyond:?}, which its row does not allow");
    }
}

#[test]
fn tests_follow_the_arrows_too() {
    // A test may play another role through its doorway, and so see what its
    // room may use; what is never seen stays unseen.
    let table = table();
    for (room, uses) in arrows(&["dev"]) {
        let beyond: Vec<_> = uses.difference(&table[&room]).collect();
        assert!(beyond.is_empty(), "the tests of {room} use {beyond:?}");
    }
}

#[test]
fn the_table_names_every_room_and_no_other() {
    let rooms: BTreeSet<String> = arrows(&["null"]).into_keys().collect();
    let named: BTreeSet<String> = table().into_keys().collect();
    assert_eq!(rooms, named);
}

#[test]
fn arrows_go_one_way() {
    let table = table();
    for (room, uses) in &table {
        for used in uses {
            assert!(!table[used].contains(room), "{room} and {used} use each other");
        }
    }
}

#[test]
fn rooms_of_pure_rules_know_no_runtime_and_no_store() {
    for package in packages() {
        let room = room_of(&package);
        if ["model", "guest", "api"].contains(&room.as_str()) {
            let outside: Vec<String> = dependencies(&package, &["null"]).collect();
            for never in ["tokio", "rusqlite", "hyper"] {
                assert!(!outside.iter().any(|name| name == never), "{room} sees {never}");
            }
        }
    }
}

#[test]
fn unsafe_lives_in_sandbox_and_init() {
    for file in sources() {
        let room = crate_of(&file);
        if ["lamu-sandbox", "lamu-init"].contains(&room.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (at, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let marks = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "(unsafe_code)"];
            let found = marks.iter().find(|mark| code.contains(**mark) && !code.contains('"'));
            assert!(found.is_none(), "{}:{}: {line}", file.display(), at + 1);
        }
    }
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let said = first.starts_with("//!") || first.starts_with("// Generated");
        assert!(said, "{} has no header", file.display());
    }
}

/// Room -> rooms it may use, from ARCHITECTURE.md.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let section = ARCHITECTURE.split("## The rooms and their arrows").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let all: Vec<Vec<String>> = rows
        .map(|row| row.split('|').skip(1).map(|cell| cell.trim().to_owned()).collect())
        .collect();
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split(',').map(|name| name.trim().trim_matches('`').to_owned()).collect()
    };
    let mut table = BTreeMap::new();
    for row in &all {
        let uses = if row[1] == "nothing" { BTreeSet::new() } else { names(&row[1]) };
        for room in names(&row[0]) {
            table.insert(room, uses.clone());
        }
    }
    assert!(table.len() >= 11, "the table has lost rows: {table:?}");
    table
}

/// Room -> rooms it uses by dependencies of these kinds.
fn arrows(kinds: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let packages = packages();
    let of = |package: &Value| -> BTreeSet<String> {
        dependencies(package, kinds)
            .filter(|name| name.starts_with("lamu"))
            .map(|name| name.trim_start_matches("lamu-").to_owned())
            .collect()
    };
    packages.iter().map(|package| (room_of(package), of(package))).collect()
}

fn room_of(package: &Value) -> String {
    package["name"].as_str().unwrap().trim_start_matches("lamu-").to_owned()
}

fn dependencies(package: &Value, kinds: &[&str]) -> impl Iterator<Item = String> {
    let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    let all = package["dependencies"].as_array().unwrap().clone();
    all.into_iter()
        .filter(move |dependency| {
            kinds.iter().any(|kind| *kind == dependency["kind"].as_str().unwrap_or("null"))
        })
        .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace())
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Every Rust file of the rooms' sources.
fn sources() -> Vec<PathBuf> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    for room in std::fs::read_dir(workspace().join("crates")).unwrap() {
        let src = room.unwrap().path().join("src");
        if src.is_dir() {
            walk(&src, &mut files);
        }
    }
    assert!(files.len() > 40, "the sources have moved");
    files
}

/// The name of the folder below `crates` that a file lies in.
fn crate_of(file: &Path) -> String {
    let below = file.strip_prefix(workspace().join("crates")).unwrap();
    below.components().next().unwrap().as_os_str().to_string_lossy().into_owned()
}
