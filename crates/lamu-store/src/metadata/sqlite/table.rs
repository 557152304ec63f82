//! The tables of the metadata file, and every SQL statement about them.
//!
//! Not here: when they run and in which transaction (`writer.rs`).

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use lamu_model::Digest;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};

use crate::metadata::{Document, MetadataError, Revision};

/// "lamu" in ASCII: tells our file from any other SQLite file.
const APPLICATION_ID: i32 = 0x6c61_6d75;

/// The shape of the tables below.
const SCHEMA: i32 = 1;

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

/// Readers never wait for the writer in WAL mode, but may for the short moment
/// in which the WAL is reset or recovered.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// What a checkpoint leaves of a WAL that a burst of writes made longer.
const WAL_BYTES_KEPT: u64 = 16 * 1024 * 1024;

pub fn open_to_write(path: &Path) -> Result<Connection, MetadataError> {
    let open = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_MAX)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    };
    let connection = open().map_err(|error| sqlite("open its file", error))?;
    make_tables(&connection, path)?;
    connection
        .pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))
        .map_err(|error| sqlite("open its file", error))?;
    Ok(connection)
}

pub fn open_to_read(path: &Path) -> Result<Connection, MetadataError> {
    let open = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_MAX)?;
        Ok(connection)
    };
    open().map_err(|error| sqlite("open its file", error))
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
    match (&error, error.sqlite_error_code()) {
        // The SQL is ours and known to be right: the tables are not ours.
        (rusqlite::Error::SqlInputError { .. }, _)
        | (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) => {
            damaged(error.to_string())
        }
        _ => MetadataError::Unavailable { step: step.into(), source: error.into() },
    }
}

/// Makes what an empty file lacks, and refuses a file that is not ours.
fn make_tables(connection: &Connection, path: &Path) -> Result<(), MetadataError> {
    let failed = |error| sqlite("prepare its file", error);
    let number = |name: &str| -> Result<i32, MetadataError> {
        connection.pragma_query_value(None, name, |row| row.get(0)).map_err(failed)
    };
    let (application, schema) = (number("application_id")?, number("user_version")?);
    let objects: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    let path = path.display();
    if (application, schema, objects) == (0, 0, 0) {
        // The mode is a property of the file and stays with it.
        let mode: String = connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(failed)?;
        if mode != "wal" {
            let what = format!("{path} is on a file system that cannot hold a write-ahead log");
            return Err(MetadataError::Invalid { what });
        }
        let create = format!(
            "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID};
             PRAGMA user_version = {SCHEMA}; {TABLES} COMMIT;"
        );
        return connection.execute_batch(&create).map_err(failed);
    }
    if application != APPLICATION_ID {
        let what = format!("{path} is a SQLite file, but not one of lamu's");
        return Err(MetadataError::Invalid { what });
    }
    if schema != SCHEMA {
        let what = format!(
            "{path} has schema {schema}, and this lamu knows only schema {SCHEMA}: start the \
             version of lamu that wrote it"
        );
        return Err(MetadataError::Invalid { what });
    }
    Ok(())
}

fn revision(connection: &Connection) -> Result<Revision, MetadataError> {
    let revision = connection
        .query_row("SELECT revision FROM counter WHERE one = 1", [], |row| row.get(0))
        .optional()
        .map_err(|error| sqlite("read its revision", error))?;
    revision.map(Revision).ok_or_else(|| damaged("its revision is missing".into()))
}

fn document(row: &Row<'_>) -> Result<Document, MetadataError> {
    let failed = |error: rusqlite::Error| match error {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..) => damaged(error.to_string()),
        error => sqlite("read a document", error),
    };
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
