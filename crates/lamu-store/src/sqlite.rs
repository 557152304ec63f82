//! What the SQLite files of this crate have in common: who may open one, how,
//! and what a failed statement means.
//!
//! Not here: tables and statements (beside each store).

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Readers never wait for the writer in WAL mode, but may for the short moment
/// in which the WAL is reset or recovered.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// What a checkpoint leaves of a WAL that a burst of writes made longer.
pub const WAL_BYTES_KEPT: u64 = 16 * 1024 * 1024;

/// Why a file cannot be used. Each store has these in its own error.
#[derive(Debug)]
pub enum FileError {
    Unavailable { step: String, source: Source },
    Invalid { what: String },
    Damaged { what: String },
}

/// What a file is and the shape of its tables. Others are refused.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Tells one store's file from another's, and from anybody else's.
    pub application: i32,
    pub number: i32,
    /// Pages that have become free can be given back to the disk.
    pub shrinks: bool,
    pub tables: &'static str,
}

/// Makes the directory and the empty file where they are missing, and takes
/// the lock that keeps every other process out.
pub fn prepare(path: &Path) -> Result<File, FileError> {
    let at = |doing: &str, path: &Path| format!("{doing} {}", path.display());
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(directory)
        .map_err(|source| unavailable(at("create", directory), source))?;

    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    // What is in it users told nobody else: owner only. SQLite gives its side
    // files the mode of the database.
    let open = |path: &Path| {
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
    };
    let lock = open(&lock_path).map_err(|source| unavailable(at("open", &lock_path), source))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let step = format!("lock {}", lock_path.display());
            return Err(unavailable(step, "another lamu process uses this data directory"));
        }
        Err(TryLockError::Error(source)) => {
            return Err(unavailable(at("lock", &lock_path), source));
        }
    }
    open(path).map_err(|source| unavailable(at("open", path), source))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| unavailable(at("flush", directory), source))?;
    Ok(lock)
}

/// Opens a prepared file to write, each commit flushed, and makes its tables
/// when it is empty.
pub fn open_to_write(path: &Path, schema: Schema) -> Result<Connection, FileError> {
    let failed = |error| of_sqlite("open its file", error);
    let open = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_MAX)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    };
    let connection = open().map_err(failed)?;
    make_tables(&connection, path, schema)?;
    connection
        .pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))
        .map_err(failed)?;
    Ok(connection)
}

pub fn open_to_read(path: &Path) -> Result<Connection, FileError> {
    let open = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_MAX)?;
        Ok(connection)
    };
    open().map_err(|error| of_sqlite("open its file", error))
}

/// Does `work` in one transaction: all of it, durable when this returns, or
/// nothing. One in which nothing changes writes nothing.
pub fn transaction<T>(
    connection: &Connection,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let attempt = || -> rusqlite::Result<T> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let done = work()?;
        connection.execute_batch("COMMIT")?;
        Ok(done)
    };
    attempt().inspect_err(|_| {
        // Some errors have ended the transaction already.
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "could not roll back");
        }
    })
}

/// Writes of a group that share a commit and its flush: together, or each for
/// itself where that fails. One that is too large for the disk must not fail the
/// others, of which some may make room.
pub fn together_or_apart<W, T, E>(
    writes: &[W],
    mut commit: impl FnMut(&[W]) -> Result<Vec<Result<T, E>>, E>,
) -> Vec<Result<T, E>> {
    match commit(writes) {
        Ok(outcomes) => outcomes,
        Err(error) if writes.len() == 1 => vec![Err(error)],
        Err(_) => writes
            .iter()
            .map(|write| commit(std::slice::from_ref(write)).and_then(|mut one| one.remove(0)))
            .collect(),
    }
}

/// Says what a failed statement means to the caller.
pub fn of_sqlite(step: &str, error: rusqlite::Error) -> FileError {
    match (&error, error.sqlite_error_code()) {
        // The SQL is ours and known to be right: the tables are not ours.
        (rusqlite::Error::SqlInputError { .. }, _)
        | (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) => {
            FileError::Damaged { what: error.to_string() }
        }
        // A value that is not of its column's kind: SQLite does not write such.
        (
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..),
            _,
        ) => FileError::Damaged { what: error.to_string() },
        _ => FileError::Unavailable { step: step.into(), source: error.into() },
    }
}

/// Makes what an empty file lacks, and refuses a file that is not ours.
fn make_tables(connection: &Connection, path: &Path, schema: Schema) -> Result<(), FileError> {
    let failed = |error| of_sqlite("prepare its file", error);
    let number = |name: &str| -> Result<i32, FileError> {
        connection.pragma_query_value(None, name, |row| row.get(0)).map_err(failed)
    };
    let (owner, found) = (number("application_id")?, number("user_version")?);
    let objects: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    let path = path.display();
    let Schema { application, number, shrinks, tables } = schema;
    if (owner, found, objects) == (0, 0, 0) {
        if shrinks {
            // Heard only before anything is written.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
        }
        // The mode is a property of the file and stays with it.
        let mode: String = connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(failed)?;
        if mode != "wal" {
            let what = format!("{path} is on a file system that cannot hold a write-ahead log");
            return Err(FileError::Invalid { what });
        }
        let create = format!(
            "BEGIN IMMEDIATE; PRAGMA application_id = {application};
             PRAGMA user_version = {number}; {tables} COMMIT;"
        );
        return connection.execute_batch(&create).map_err(failed);
    }
    if owner != application {
        let what = format!("{path} is a SQLite file, but not this store's");
        return Err(FileError::Invalid { what });
    }
    if found != number {
        let what = format!(
            "{path} has schema {found}, and this lamu knows only schema {number}: start the \
             version of lamu that wrote it"
        );
        return Err(FileError::Invalid { what });
    }
    Ok(())
}

pub fn unavailable(step: impl Into<String>, source: impl Into<Source>) -> FileError {
    FileError::Unavailable { step: step.into(), source: source.into() }
}

#[cfg(test)]
pub mod hold {
    //! Lets a test run code on a writer thread.

    use std::fmt;

    use rusqlite::Connection;

    pub struct Hold(Box<dyn FnOnce(&Connection) + Send>);

    impl Hold {
        pub fn new(work: impl FnOnce(&Connection) + Send + 'static) -> Hold {
            Hold(Box::new(work))
        }

        pub fn run(self, connection: &Connection) {
            (self.0)(connection);
        }
    }

    impl fmt::Debug for Hold {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Hold")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_fails_leaves_nothing_and_no_transaction() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY)").unwrap();
        let insert = |number: i64| connection.execute("INSERT INTO t VALUES (?1)", [number]);
        transaction(&connection, || insert(1)).unwrap();
        let failed = transaction(&connection, || insert(2).and_then(|_| insert(1)));
        assert!(failed.is_err());
        assert!(connection.is_autocommit());
        let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        assert_eq!(connection.query_row("SELECT count(*) FROM t", [], count).unwrap(), 1);
    }

    #[test]
    fn a_group_that_fails_is_written_one_by_one() {
        let commit = |writes: &[u8]| match writes.iter().sum::<u8>() {
            sum @ 0..10 => Ok(writes.iter().map(|write| Ok(sum - write)).collect()),
            sum => Err(sum),
        };
        assert_eq!(together_or_apart(&[1, 2], commit), [Ok(2), Ok(1)]);
        assert_eq!(together_or_apart(&[1, 12, 3], commit), [Ok(0), Err(12), Ok(0)]);
        assert_eq!(together_or_apart(&[12], commit), [Err(12)]);
    }
}
