//! The tables of the metadata file, and every SQL statement about them.
//!
//! Not here: when they run and in which transaction (`writer.rs`).

use std::path::Path;

use bytes::Bytes;
use lamu_model::Digest;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::metadata::{Document, MetadataError, Revision};
use crate::sqlite::{self as file, Schema};

const SCHEMA: Schema = Schema {
    // "lamu" in ASCII.
    application: 0x6c61_6d75,
    number: 1,
    shrinks: false,
    tables: TABLES,
};

const TABLES: &str = "
    CREATE TABLE document (
        key      TEXT PRIMARY KEY NOT NULL,
        revision INTEGER NOT NULL,
        value    BLOB NOT NULL,
        checksum BLOB NOT NULL
    ) STRICT;
    CREATE TABLE counter (
        one      INTEGER PRIMARY KEY CHECK (one = 1),
        revision INTEGER NOT NULL
    ) STRICT;
    INSERT INTO counter VALUES (1, 0);
";

pub fn open_to_write(path: &Path) -> Result<Connection, MetadataError> {
    Ok(file::open_to_write(path, SCHEMA)?)
}

pub fn open_to_read(path: &Path) -> Result<Connection, MetadataError> {
    Ok(file::open_to_read(path)?)
}

/// Reads every page and every row once, and returns the last revision given.
pub fn check_all(connection: &Connection, path: &Path) -> Result<Revision, MetadataError> {
    let failed = |error| sqlite("check its file", error);
    // The quick check would not compare the index of keys with the rows.
    let report: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if report != "ok" {
        return Err(damaged(format!("{}: {report}", path.display())));
    }
    let last = revision(connection)?;
    let mut all = connection
        .prepare("SELECT key, revision, value, checksum FROM document")
        .map_err(failed)?;
    let mut rows = all.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let document = document(row)?;
        if document.revision > last {
            let what = format!("{} is newer than the store's last revision", document.key);
            return Err(damaged(what));
        }
    }
    Ok(last)
}

pub fn set_revision(connection: &Connection, revision: Revision) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE counter SET revision = ?1 WHERE one = 1")?
        .execute([revision.0])
        .map(|_| ())
}

pub fn get(connection: &Connection, key: &str) -> Result<Option<Document>, MetadataError> {
    let failed = |error| sqlite("read a document", error);
    let mut one = connection
        .prepare_cached("SELECT key, revision, value, checksum FROM document WHERE key = ?1")
        .map_err(failed)?;
    let mut rows = one.query([key]).map_err(failed)?;
    rows.next().map_err(failed)?.map(document).transpose()
}

pub fn scan(
    connection: &Connection,
    prefix: &str,
    after: Option<&str>,
    count: usize,
) -> Result<Vec<Document>, MetadataError> {
    let failed = |error| sqlite("read documents", error);
    // SQLite compares TEXT by its bytes, as `str` does.
    let mut range = connection
        .prepare_cached(
            "SELECT key, revision, value, checksum FROM document
             WHERE key >= ?1 AND key > ?2 ORDER BY key LIMIT ?3",
        )
        .map_err(failed)?;
    let limit = i64::try_from(count).unwrap_or(i64::MAX);
    let mut rows = range.query(params![prefix, after.unwrap_or(""), limit]).map_err(failed)?;
    let mut documents = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let document = document(row)?;
        if !document.key.starts_with(prefix) {
            break;
        }
        documents.push(document);
    }
    Ok(documents)
}

/// The revision a document is at, without reading its value.
pub fn revision_of(connection: &Connection, key: &str) -> rusqlite::Result<Option<Revision>> {
    connection
        .prepare_cached("SELECT revision FROM document WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
        .map(|revision| revision.map(Revision))
}

pub fn put(connection: &Connection, document: &Document) -> rusqlite::Result<()> {
    let Document { key, value, revision } = document;
    connection
        .prepare_cached(
            "INSERT INTO document (key, revision, value, checksum) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key) DO UPDATE SET revision = ?2, value = ?3, checksum = ?4",
        )?
        .execute(params![key, revision.0, &value[..], checksum(key, *revision, value)])
        .map(|_| ())
}

pub fn delete(connection: &Connection, key: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM document WHERE key = ?1")?.execute([key]).map(|_| ())
}

/// Says what a failed statement means to the caller.
pub fn sqlite(step: &str, error: rusqlite::Error) -> MetadataError {
    file::of_sqlite(step, error).into()
}

fn revision(connection: &Connection) -> Result<Revision, MetadataError> {
    let revision = connection
        .query_row("SELECT revision FROM counter WHERE one = 1", [], |row| row.get(0))
        .optional()
        .map_err(|error| sqlite("read its revision", error))?;
    revision.map(Revision).ok_or_else(|| damaged("its revision is missing".into()))
}

fn document(row: &Row<'_>) -> Result<Document, MetadataError> {
    let failed = |error| sqlite("read a document", error);
    let key: String = row.get(0).map_err(failed)?;
    let revision = Revision(row.get(1).map_err(failed)?);
    let value: Vec<u8> = row.get(2).map_err(failed)?;
    let stored: Vec<u8> = row.get(3).map_err(failed)?;
    if stored != checksum(&key, revision, &value) {
        return Err(damaged(format!("{key} is not what was written")));
    }
    Ok(Document { key, value: Bytes::from(value), revision })
}

/// Eight bytes find accidental damage; nobody is kept from forging them.
fn checksum(key: &str, revision: Revision, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 9 + value.len());
    bytes.extend_from_slice(key.as_bytes());
    // Keys have no NUL, so no key and value can be mistaken for another pair.
    bytes.push(0);
    bytes.extend_from_slice(&revision.0.to_be_bytes());
    bytes.extend_from_slice(value);
    Digest::of(&bytes).0[..8].to_vec()
}

fn damaged(what: String) -> MetadataError {
    MetadataError::Damaged { what }
}
