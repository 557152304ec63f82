//! The writer thread: groups of requests, one commit each, and the watchers.
//!
//! Not here: who may open the file (`sqlite.rs`), SQL (`table.rs`).

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::table;
use crate::metadata::{Change, Document, Expect, MetadataError, Revision};
use crate::sqlite;

/// Writes in one transaction: past this a longer group saves no more flushes
/// worth having, and makes the first of it wait for the last.
pub const GROUP_MAX: usize = 128;

/// Changes a watcher may be behind. It holds them in memory, and one that far
/// behind is better off reading the present state anew.
pub const BEHIND_MAX: usize = 1_024;

/// Watches at once: each change is offered to every one of them.
const WATCHERS_MAX: usize = 256;

pub type Answer<T> = oneshot::Sender<Result<T, MetadataError>>;

#[derive(Debug)]
pub enum Request {
    Write {
        write: Write,
        answer: Answer<Revision>,
    },
    Watch {
        prefix: String,
        answer: Answer<mpsc::Receiver<Change>>,
    },
    /// Stops the writer at a known point, with its connection in hand.
    #[cfg(test)]
    Hold(sqlite::hold::Hold),
}

/// A put, or a delete when there is no value.
#[derive(Debug)]
pub struct Write {
    pub key: String,
    pub value: Option<Bytes>,
    pub expect: Expect,
}

/// Serves until every sender is gone, then closes the connection.
pub fn run(connection: Connection, revision: Revision, inbox: mpsc::Receiver<Request>) {
    let writer = Writer { connection, revision, watchers: Vec::new() };
    writer.serve(inbox);
}

struct Writer {
    connection: Connection,
    /// The last one given to a committed change.
    revision: Revision,
    watchers: Vec<Watcher>,
}

struct Watcher {
    prefix: String,
    changes: mpsc::Sender<Change>,
}

/// What became of the writes of one transaction, in their order.
struct Decided {
    outcomes: Vec<Result<Revision, MetadataError>>,
    changes: Vec<Change>,
    revision: Revision,
}

impl Writer {
    fn serve(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut next = None;
        while let Some(request) = next.take().or_else(|| inbox.blocking_recv()) {
            match request {
                Request::Write { write, answer } => {
                    let mut group = vec![(write, answer)];
                    while group.len() < GROUP_MAX {
                        match inbox.try_recv() {
                            Ok(Request::Write { write, answer }) => group.push((write, answer)),
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.write(group);
                }
                Request::Watch { prefix, answer } => {
                    // Nobody to answer is nobody to watch.
                    let _ = answer.send(self.watch(prefix));
                }
                #[cfg(test)]
                Request::Hold(hold) => hold.run(&self.connection),
            }
        }
    }

    fn write(&mut self, group: Vec<(Write, Answer<Revision>)>) {
        let (writes, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let outcomes = sqlite::together_or_apart(&writes, |writes| self.commit(writes));
        for (outcome, answer) in outcomes.into_iter().zip(answers) {
            // A caller that left does not undo what is written.
            let _ = answer.send(outcome);
        }
    }

    /// All of `writes` in one transaction. An error means none of them is
    /// stored; a conflict is the outcome of one write and no error here.
    fn commit(
        &mut self,
        writes: &[Write],
    ) -> Result<Vec<Result<Revision, MetadataError>>, MetadataError> {
        let connection = &self.connection;
        let decided = sqlite::transaction(connection, || {
            let decided = decide(connection, self.revision, writes)?;
            if !decided.changes.is_empty() {
                table::set_revision(connection, decided.revision)?;
            }
            Ok(decided)
        })
        .map_err(|error| table::sqlite("write", error))?;
        self.revision = decided.revision;
        self.tell(&decided.changes);
        Ok(decided.outcomes)
    }

    fn tell(&mut self, changes: &[Change]) {
        self.watchers.retain(|watcher| {
            changes.iter().filter(|change| key(change).starts_with(&watcher.prefix)).all(|change| {
                // Full: it fell behind. Closed: it left. Either way it is over,
                // and a dropped sender says so.
                watcher.changes.try_send(change.clone()).is_ok()
            })
        });
    }

    fn watch(&mut self, prefix: String) -> Result<mpsc::Receiver<Change>, MetadataError> {
        self.watchers.retain(|watcher| !watcher.changes.is_closed());
        if self.watchers.len() >= WATCHERS_MAX {
            let source = format!("there are {WATCHERS_MAX} watches already").into();
            return Err(MetadataError::Unavailable { step: "watch".into(), source });
        }
        let present = table::scan(&self.connection, &prefix, None, usize::MAX)?;
        // Room for the present state, so handing it over never waits.
        let (changes, receiver) = mpsc::channel(present.len() + 1 + BEHIND_MAX);
        for change in present.into_iter().map(Change::Put).chain([Change::Caught]) {
            if changes.try_send(change).is_err() {
                unreachable!("the channel was made large enough and its receiver is here");
            }
        }
        self.watchers.push(Watcher { prefix, changes });
        Ok(receiver)
    }
}

fn decide(
    connection: &Connection,
    mut revision: Revision,
    writes: &[Write],
) -> rusqlite::Result<Decided> {
    let mut outcomes = Vec::with_capacity(writes.len());
    let mut changes = Vec::with_capacity(writes.len());
    for Write { key, value, expect } in writes {
        let present = table::revision_of(connection, key)?;
        if !is_met(*expect, present) {
            outcomes.push(Err(MetadataError::Conflict { key: key.clone() }));
            continue;
        }
        let next = Revision(revision.0 + 1);
        match value {
            Some(value) => {
                let (key, value) = (key.clone(), value.clone());
                let document = Document { key, value, revision: next };
                table::put(connection, &document)?;
                changes.push(Change::Put(document));
            }
            None if present.is_some() => {
                table::delete(connection, key)?;
                changes.push(Change::Deleted { key: key.clone(), revision: next });
            }
            None => {
                outcomes.push(Ok(revision));
                continue;
            }
        }
        revision = next;
        outcomes.push(Ok(next));
    }
    Ok(Decided { outcomes, changes, revision })
}

fn is_met(expect: Expect, present: Option<Revision>) -> bool {
    match expect {
        Expect::Anything => true,
        Expect::Absent => present.is_none(),
        Expect::At(revision) => present == Some(revision),
    }
}

fn key(change: &Change) -> &str {
    match change {
        Change::Put(document) => &document.key,
        Change::Deleted { key, .. } => key,
        Change::Caught => "",
    }
}
