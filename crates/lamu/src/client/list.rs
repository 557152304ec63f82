//! `lamu ls` and `lamu rm`.

use std::process::ExitCode;

use serde_json::Value;

use crate::cli::{Ls, Rm};
use crate::client::Connection;
use crate::client::connection::{Ask, segment};

const FUNCTIONS: &str = "/2015-03-31/functions";

/// One line a function, sorted by name as the platform lists them.
pub fn list(ls: &Ls) -> anyhow::Result<()> {
    let connection = Connection::new(&ls.target);
    let mut rows = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let path = match &marker {
            None => FUNCTIONS.to_owned(),
            Some(marker) => format!("{FUNCTIONS}?Marker={}", segment(marker)),
        };
        let page = connection.ask(Ask::get(path))?.json()?;
        rows.extend(page["Functions"].as_array().into_iter().flatten().map(row));
        match page["NextMarker"].as_str() {
            Some(next) if marker.as_deref() != Some(next) => marker = Some(next.to_owned()),
            _ => break,
        }
    }
    print!("{}", table(&rows));
    Ok(())
}

/// Deletes each; one that cannot be deleted does not keep the others.
pub fn remove(rm: &Rm) -> anyhow::Result<ExitCode> {
    let connection = Connection::new(&rm.target);
    let mut failed = false;
    for name in &rm.names {
        match connection.ask(Ask::delete(format!("{FUNCTIONS}/{}", segment(name)))) {
            Ok(_) => eprintln!("deleted {name}"),
            Err(error) => {
                eprintln!("{name}: {error:#}");
                failed = true;
            }
        }
    }
    Ok(if failed { ExitCode::from(crate::EXIT_REFUSED) } else { ExitCode::SUCCESS })
}

type Row = [String; 6];

fn row(function: &Value) -> Row {
    let text = |name: &str| function[name].as_str().unwrap_or("-").to_owned();
    let number = |name: &str, unit: &str| match function[name].as_u64() {
        Some(number) => format!("{number}{unit}"),
        None => "-".to_owned(),
    };
    [
        text("FunctionName"),
        text("Runtime"),
        number("MemorySize", " MB"),
        number("Timeout", " s"),
        number("CodeSize", " B"),
        text("LastModified"),
    ]
}

fn table(rows: &[Row]) -> String {
    let head = ["FUNCTION", "RUNTIME", "MEMORY", "TIMEOUT", "CODE", "MODIFIED"].map(str::to_owned);
    let all: Vec<&Row> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in all {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn functions_stand_in_columns() {
        let rows = [
            row(&json!({"FunctionName": "a", "Runtime": "python3.12", "MemorySize": 128,
                "Timeout": 3, "CodeSize": 10, "LastModified": "now"})),
            row(&json!({"FunctionName": "longer"})),
        ];
        let table = table(&rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "FUNCTION  RUNTIME     MEMORY  TIMEOUT  CODE  MODIFIED");
        assert_eq!(lines[1], "a         python3.12  128 MB  3 s      10 B  now");
        assert_eq!(lines[2], "longer    -           -       -        -     -");
    }
}
