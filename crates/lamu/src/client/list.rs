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
        for function in page["Functions"].as_array().into_iter().flatten() {
            let mut row = row(function);
            if ls.provisioned {
                row.push(provisioned(&connection, &row[0])?);
            }
            rows.push(row);
        }
        match page["NextMarker"].as_str() {
            Some(next) if marker.as_deref() != Some(next) => marker = Some(next.to_owned()),
            _ => break,
        }
    }
    print!("{}", table(&rows, ls.provisioned));
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

type Row = Vec<String>;

fn row(function: &Value) -> Row {
    let text = |name: &str| function[name].as_str().unwrap_or("-").to_owned();
    let number = |name: &str, unit: &str| match function[name].as_u64() {
        Some(number) => format!("{number}{unit}"),
        None => "-".to_owned(),
    };
    vec![
        text("FunctionName"),
        text("Runtime"),
        number("MemorySize", " MB"),
        number("Timeout", " s"),
        number("CodeSize", " B"),
        text("LastModified"),
    ]
}

/// What is allocated of what is asked for, for each version and alias.
fn provisioned(connection: &Connection, name: &str) -> anyhow::Result<String> {
    let path = format!("/2019-09-30/functions/{}/provisioned-concurrency?List=ALL", segment(name));
    let page = connection.ask(Ask::get(path))?.json()?;
    Ok(provisioned_of(&page))
}

fn provisioned_of(page: &Value) -> String {
    let configs = page["ProvisionedConcurrencyConfigs"].as_array().into_iter().flatten();
    let shown: Vec<String> = configs
        .map(|config| {
            let arn = config["FunctionArn"].as_str().unwrap_or_default();
            let qualifier = arn.rsplit(':').next().unwrap_or_default();
            let figure = |name: &str| config[name].as_u64().unwrap_or(0);
            let allocated = figure("AllocatedProvisionedConcurrentExecutions");
            let requested = figure("RequestedProvisionedConcurrentExecutions");
            format!("{qualifier} {allocated}/{requested}")
        })
        .collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(", ") }
}

fn table(rows: &[Row], provisioned: bool) -> String {
    let mut head = vec!["FUNCTION", "RUNTIME", "MEMORY", "TIMEOUT", "CODE", "MODIFIED"];
    if provisioned {
        head.push("PROVISIONED");
    }
    let head: Row = head.into_iter().map(str::to_owned).collect();
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
        let table = table(&rows, false);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "FUNCTION  RUNTIME     MEMORY  TIMEOUT  CODE  MODIFIED");
        assert_eq!(lines[1], "a         python3.12  128 MB  3 s      10 B  now");
        assert_eq!(lines[2], "longer    -           -       -        -     -");
    }

    #[test]
    fn provisioned_concurrency_is_a_column_of_its_own() {
        let config = |qualifier: &str, allocated: u32| {
            json!({"FunctionArn": format!("arn:aws:lambda:us-east-1:0:function:f:{qualifier}"),
                "AllocatedProvisionedConcurrentExecutions": allocated,
                "RequestedProvisionedConcurrentExecutions": 3})
        };
        let page = json!({"ProvisionedConcurrencyConfigs": [config("2", 1), config("prod", 3)]});
        assert_eq!(provisioned_of(&page), "2 1/3, prod 3/3");
        assert_eq!(provisioned_of(&json!({})), "-");
        let mut row = row(&json!({"FunctionName": "f"}));
        row.push("prod 3/3".to_owned());
        let table = table(&[row], true);
        assert!(table.lines().next().unwrap().ends_with("PROVISIONED"), "{table}");
        assert!(table.lines().nth(1).unwrap().ends_with("prod 3/3"), "{table}");
    }
}
