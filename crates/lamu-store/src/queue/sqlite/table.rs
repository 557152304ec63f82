//! The tables of a queue's file, and every SQL statement about them.
//!
//! An event is a small row that changes and a body that does not, apart, so
//! that holding back a large event writes a small row. Each body has a
//! checksum over what was sent: SQLite finds a damaged page structure, but not
//! a flipped bit inside a value.
//!
//! Not here: when they run and in which transaction (`writer`).

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use lamu_model::{Digest, RequestId};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::holds::Mark;
use crate::queue::{Event, NewEvent, QueueError, Seen, SeenState, Shard};
use crate::sqlite::{self, Schema};

const SCHEMA: Schema = Schema {
    // "lamq" in ASCII.
    application: 0x6c61_6d71,
    number: 1,
    // A backlog may have been of gigabytes.
    shrinks: true,
    tables: TABLES,
};

// What is read often comes before what may be long, which lies on pages of its
// own. The index by lane is also the order of sending within it.
const TABLES: &str = "
    CREATE TABLE event (
        event    INTEGER PRIMARY KEY AUTOINCREMENT,
        shard    INTEGER NOT NULL,
        due_ms   INTEGER NOT NULL,
        id       TEXT NOT NULL,
        lane     TEXT NOT NULL,
        sent_ms  INTEGER NOT NULL,
        bytes    INTEGER NOT NULL,
        note     BLOB NOT NULL
    ) STRICT;
    CREATE INDEX event_due ON event (shard, due_ms, event);
    CREATE INDEX event_lane ON event (lane, event);
    CREATE TABLE dead (
        event    INTEGER PRIMARY KEY,
        shard    INTEGER NOT NULL,
        id       TEXT NOT NULL,
        lane     TEXT NOT NULL,
        sent_ms  INTEGER NOT NULL,
        died_ms  INTEGER NOT NULL,
        bytes    INTEGER NOT NULL,
        why      TEXT NOT NULL,
        note     BLOB NOT NULL
    ) STRICT;
    CREATE INDEX dead_lane ON dead (lane, event);
    CREATE INDEX dead_age ON dead (died_ms, event);
    CREATE TABLE body (
        event    INTEGER PRIMARY KEY,
        body     BLOB NOT NULL,
        checksum BLOB NOT NULL
    ) STRICT;
";

/// What an event takes beside its body, about.
const ROW_BYTES: u64 = 256;

/// Whose an event was, when it has left its table.
#[derive(Debug)]
pub struct Left {
    pub event: i64,
    pub shard: Shard,
    pub lane: String,
    pub bytes: u64,
}

/// What is in the file when it is opened.
#[derive(Debug)]
pub struct Count {
    pub shard: Shard,
    pub lane: String,
    pub events: u64,
    pub bytes: u64,
}

pub fn open(path: &Path) -> Result<Connection, QueueError> {
    let connection = sqlite::open_to_write(path, SCHEMA)?;
    // The rows that decide what is due are read whole; bodies, of which there
    // may be gigabytes, have their checksums and are held against them when
    // they are received.
    for table in ["event", "dead"] {
        let report: String = connection
            .query_row(&format!("PRAGMA integrity_check('{table}')"), [], |row| row.get(0))
            .map_err(|error| failed("check its file", error))?;
        if report != "ok" {
            return Err(QueueError::Damaged { what: format!("{}: {report}", path.display()) });
        }
    }
    Ok(connection)
}

pub fn count(connection: &Connection, dead: bool) -> rusqlite::Result<Vec<Count>> {
    let table = if dead { "dead" } else { "event" };
    connection
        .prepare(&format!(
            "SELECT shard, lane, count(*), sum(bytes) FROM {table} GROUP BY shard, lane"
        ))?
        .query_map([], |row| {
            Ok(Count {
                shard: Shard(row.get(0)?),
                lane: text(row, 1)?,
                events: row.get(2)?,
                bytes: row.get(3)?,
            })
        })?
        .collect()
}

/// Events of shards that there are no more move to those that there are.
pub fn fold_shards(connection: &Connection, shards: u16) -> rusqlite::Result<()> {
    for table in ["event", "dead"] {
        connection.execute(
            &format!("UPDATE {table} SET shard = shard % ?1 WHERE shard >= ?1"),
            [shards],
        )?;
    }
    Ok(())
}

/// Takes back what was written while the clock was ahead: an event would else
/// wait for that time to come, or be younger than nothing.
pub fn clamp_times(
    connection: &Connection,
    now_ms: u64,
    delay_max: Duration,
) -> rusqlite::Result<()> {
    let due_ms_max = now_ms + delay_max.as_millis() as u64;
    for (table, column, max) in [
        ("event", "due_ms", due_ms_max),
        ("event", "sent_ms", now_ms),
        ("dead", "sent_ms", now_ms),
        ("dead", "died_ms", now_ms),
    ] {
        let clamp = format!("UPDATE {table} SET {column} = ?1 WHERE {column} > ?1");
        connection.execute(&clamp, [max])?;
    }
    Ok(())
}

/// What an event counts for when it comes; its note, and the reason when it is
/// dead, count too.
pub fn size(event: &NewEvent) -> u64 {
    event.body.len() as u64 + ROW_BYTES
}

pub fn insert(
    connection: &Connection,
    shard: Shard,
    event: &NewEvent,
    now_ms: u64,
    due_ms: u64,
) -> rusqlite::Result<()> {
    let NewEvent { id, lane, body, .. } = event;
    connection
        .prepare_cached(
            "INSERT INTO event (shard, due_ms, id, lane, sent_ms, note, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, x'', ?6)",
        )?
        .execute(params![shard.0, due_ms, id.as_str(), lane, now_ms, size(event)])?;
    connection
        .prepare_cached("INSERT INTO body (event, body, checksum) VALUES (?1, ?2, ?3)")?
        .execute(params![connection.last_insert_rowid(), &body[..], checksum(id, lane, body)])
        .map(drop)
}

/// Removes a live event; `None` when there is none.
pub fn remove(connection: &Connection, event: i64) -> rusqlite::Result<Option<Left>> {
    let left = connection
        .prepare_cached("DELETE FROM event WHERE event = ?1 RETURNING event, shard, lane, bytes")?
        .query_row([event], left)
        .optional()?;
    if left.is_some() {
        remove_body(connection, event)?;
    }
    Ok(left)
}

/// The event as it is now, and its bytes before; `None` when there is none.
pub fn reschedule(
    connection: &Connection,
    event: i64,
    due_ms: u64,
    note: &[u8],
) -> rusqlite::Result<Option<(Left, u64)>> {
    let before = connection
        .prepare_cached("SELECT bytes FROM event WHERE event = ?1")?
        .query_row([event], |row| row.get(0))
        .optional()?;
    let Some(before) = before else { return Ok(None) };
    connection
        .prepare_cached(
            "UPDATE event
             SET due_ms = ?2, bytes = bytes - length(note) + length(?3), note = ?3
             WHERE event = ?1 RETURNING event, shard, lane, bytes",
        )?
        .query_row(params![event, due_ms, note], left)
        .map(|left| Some((left, before)))
}

/// Moves a live event to the dead: what has left, and its bytes there.
pub fn bury(
    connection: &Connection,
    event: i64,
    now_ms: u64,
    why: &str,
) -> rusqlite::Result<Option<(Left, u64)>> {
    connection
        .prepare_cached(
            "INSERT INTO dead (event, shard, id, lane, sent_ms, died_ms, why, note, bytes)
             SELECT event, shard, id, lane, sent_ms, ?2, ?3, note, bytes + ?4
             FROM event WHERE event = ?1",
        )?
        .execute(params![event, now_ms, why, why.len()])?;
    let left = connection
        .prepare_cached("DELETE FROM event WHERE event = ?1 RETURNING event, shard, lane, bytes")?
        .query_row([event], left)
        .optional()?;
    Ok(left.map(|left| {
        let bytes = left.bytes + why.len() as u64;
        (left, bytes)
    }))
}

/// Removes the one that has been dead for the longest.
pub fn remove_oldest_dead(connection: &Connection) -> rusqlite::Result<Option<Left>> {
    let left = connection
        .prepare_cached(
            "DELETE FROM dead
             WHERE event = (SELECT event FROM dead ORDER BY died_ms, event LIMIT 1)
             RETURNING event, shard, lane, bytes",
        )?
        .query_row([], left)
        .optional()?;
    if let Some(left) = &left {
        remove_body(connection, left.event)?;
    }
    Ok(left)
}

/// Events of a lane after one number and up to another: at most `count`, and no
/// more once they have `bytes_max`.
pub fn of_lane(
    connection: &Connection,
    dead: bool,
    lane: &str,
    (after, upto): (i64, i64),
    (count, bytes_max): (usize, u64),
) -> rusqlite::Result<Vec<Left>> {
    let table = if dead { "dead" } else { "event" };
    connection
        .prepare_cached(&format!(
            "SELECT event, shard, lane, bytes FROM {table}
             WHERE lane = ?1 AND event > ?2 AND event <= ?3 ORDER BY event LIMIT ?4"
        ))?
        .query_map(params![lane, after, upto, count], left)
        .and_then(|rows| within(bytes_max, rows, |left| left.bytes))
}

/// The highest number that was given to an event.
pub fn last_event(connection: &Connection) -> rusqlite::Result<i64> {
    let last = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'event'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(0))
}

/// Moves a dead event back, without its note; its bytes there.
pub fn revive(connection: &Connection, event: i64, due_ms: u64) -> rusqlite::Result<u64> {
    let bytes = connection
        .prepare_cached(
            "INSERT INTO event (event, shard, due_ms, id, lane, sent_ms, note, bytes)
             SELECT event, shard, ?2, id, lane, sent_ms, x'',
                    bytes - length(note) - length(CAST(why AS BLOB))
             FROM dead WHERE event = ?1 RETURNING bytes",
        )?
        .query_row(params![event, due_ms], |row| row.get(0))?;
    connection.prepare_cached("DELETE FROM dead WHERE event = ?1")?.execute([event])?;
    Ok(bytes)
}

pub fn remove_dead(connection: &Connection, event: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM dead WHERE event = ?1")?.execute([event])?;
    remove_body(connection, event)
}

/// Events of `shard` beyond `mark` that are due, in order.
pub fn due(
    connection: &Connection,
    shard: Shard,
    mark: Mark,
    now_ms: u64,
    count: usize,
) -> rusqlite::Result<Vec<Mark>> {
    connection
        .prepare_cached(
            "SELECT due_ms, event FROM event
             WHERE shard = ?1 AND (due_ms, event) > (?2, ?3) AND due_ms <= ?4
             ORDER BY due_ms, event LIMIT ?5",
        )?
        .query_map(params![shard.0, mark.due_ms, mark.event, now_ms, count], |row| {
            Ok(Mark { due_ms: row.get(0)?, event: row.get(1)? })
        })?
        .collect()
}

/// When the next event of `shard` beyond `mark` is due.
pub fn next_due_ms(
    connection: &Connection,
    shard: Shard,
    mark: Mark,
) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached(
            "SELECT due_ms FROM event WHERE shard = ?1 AND (due_ms, event) > (?2, ?3)
             ORDER BY due_ms, event LIMIT 1",
        )?
        .query_row(params![shard.0, mark.due_ms, mark.event], |row| row.get(0))
        .optional()
}

/// A live event with its body, whole; `None` when there is none.
pub fn read(connection: &Connection, event: i64) -> Result<Option<Event>, QueueError> {
    let found = connection
        .prepare_cached(
            "SELECT id, lane, sent_ms, note, body, checksum
             FROM event LEFT JOIN body USING (event) WHERE event = ?1",
        )
        .and_then(|mut one| one.query_row([event], self::event).optional())
        .map_err(|error| failed("read an event", error))?;
    match found {
        Some((event, true)) => Ok(Some(event)),
        Some((event, false)) => {
            let what = format!("event {} is not what was sent", event.id);
            Err(QueueError::Damaged { what })
        }
        None => Ok(None),
    }
}

pub fn lane_of(connection: &Connection, event: i64) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT lane FROM event WHERE event = ?1")?
        .query_row([event], |row| text(row, 0))
        .optional()
}

pub fn oldest_sent_ms(connection: &Connection, lane: &str) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT sent_ms FROM event WHERE lane = ?1 ORDER BY event LIMIT 1")?
        .query_row([lane], |row| row.get(0))
        .optional()
}

/// Events as they lie there, in the order of sending; a damaged one keeps the
/// others from nobody.
pub fn look(
    connection: &Connection,
    dead: bool,
    lane: Option<&str>,
    after: i64,
    (count, bytes_max): (usize, u64),
) -> rusqlite::Result<Vec<Seen>> {
    let (table, state) = if dead { ("dead", "died_ms, why") } else { ("event", "due_ms, ''") };
    let of_lane = if lane.is_some() { "lane = ?1" } else { "?1 IS NULL" };
    connection
        .prepare_cached(&format!(
            "SELECT id, lane, sent_ms, note, body, checksum, event, {state}
             FROM {table} LEFT JOIN body USING (event)
             WHERE {of_lane} AND event > ?2 ORDER BY event LIMIT ?3"
        ))?
        .query_map(params![lane, after, count], |row| {
            let at_ms = row.get(7)?;
            let state = match dead {
                true => SeenState::Dead { why: text(row, 8)?, since_ms: at_ms },
                false => SeenState::Waiting { due_ms: at_ms },
            };
            let (event, whole) = event(row)?;
            Ok(Seen { position: row.get(6)?, event, state, damaged: !whole })
        })
        .and_then(|rows| within(bytes_max, rows, |seen| seen.event.body.len() as u64))
}

/// What comes before there are `bytes_max`, and the one that makes them so many.
fn within<T>(
    bytes_max: u64,
    rows: impl Iterator<Item = rusqlite::Result<T>>,
    bytes: impl Fn(&T) -> u64,
) -> rusqlite::Result<Vec<T>> {
    let mut taken = Vec::new();
    let mut taken_bytes = 0;
    for row in rows {
        let row = row?;
        taken_bytes += bytes(&row);
        taken.push(row);
        if taken_bytes >= bytes_max {
            break;
        }
    }
    Ok(taken)
}

/// Gives at most `count` free pages back to the disk, but keeps `kept` for what
/// comes next; whether there are more to give.
pub fn shrink(connection: &Connection, count: u32, kept: u32) -> rusqlite::Result<bool> {
    let free: u32 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    let Some(beyond) = free.checked_sub(kept).filter(|beyond| *beyond > 0) else {
        return Ok(false);
    };
    let count = count.min(beyond);
    // A page goes with each step.
    let mut shrink = connection.prepare(&format!("PRAGMA incremental_vacuum({count})"))?;
    let mut steps = shrink.query([])?;
    while steps.next()?.is_some() {}
    Ok(beyond > count)
}

/// Says what a failed statement means to the caller.
pub fn failed(step: &str, error: rusqlite::Error) -> QueueError {
    sqlite::of_sqlite(step, error).into()
}

/// Of columns id, lane, sent_ms, note, body, checksum; and whether it is what
/// was sent. The last two are NULL where there is no body.
fn event(row: &Row<'_>) -> rusqlite::Result<(Event, bool)> {
    let body: Option<Vec<u8>> = row.get(4)?;
    let stored: Option<Vec<u8>> = row.get(5)?;
    let event = Event {
        id: RequestId::new(text(row, 0)?),
        lane: text(row, 1)?,
        sent_ms: row.get(2)?,
        note: Bytes::from(row.get::<_, Vec<u8>>(3)?),
        body: Bytes::from(body.unwrap_or_default()),
    };
    let whole =
        stored.is_some_and(|stored| stored == checksum(&event.id, &event.lane, &event.body));
    Ok((event, whole))
}

/// A text as well as it can be read: damage must not hide the event.
fn text(row: &Row<'_>, at: usize) -> rusqlite::Result<String> {
    match row.get_ref(at)? {
        ValueRef::Text(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        // Says what is wrong.
        _ => row.get(at),
    }
}

/// Of columns event, shard, lane, bytes.
fn left(row: &Row<'_>) -> rusqlite::Result<Left> {
    Ok(Left {
        event: row.get(0)?,
        shard: Shard(row.get(1)?),
        lane: text(row, 2)?,
        bytes: row.get(3)?,
    })
}

fn remove_body(connection: &Connection, event: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM body WHERE event = ?1")?.execute([event]).map(drop)
}

/// Eight bytes find accidental damage; nobody is kept from forging them. Times
/// are not in it: those of a clock that was wrong are put right.
fn checksum(id: &RequestId, lane: &str, body: &[u8]) -> Vec<u8> {
    let (id, lane) = (id.as_str().as_bytes(), lane.as_bytes());
    let mut bytes = Vec::with_capacity(id.len() + lane.len() + body.len() + 16);
    for part in [id, lane] {
        // With its length, so that no two can be mistaken for another two.
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes.extend_from_slice(body);
    Digest::of(&bytes).0[..8].to_vec()
}
