//! Answers queries from segment files. A file that was dropped meanwhile is
//! skipped: its events are too old to be kept.
//!
//! Not here: which segments there are (`disk`).

use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use lamu_link::{LogEvent, LogQuery, LogStream};

use super::segment::{self, Segment};

/// One answer. CloudWatch answers with at most 1 MiB.
const PAGE_BYTES_MAX: usize = 1 << 20;
const PAGE_COUNT_MAX: usize = 10_000;

/// A segment as the disk knows it when a read begins.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub path: PathBuf,
    /// Times of its first and last event, when they are known.
    pub span: Option<(u64, u64)>,
}

pub fn streams(segments: &[Candidate]) -> io::Result<Vec<LogStream>> {
    let mut streams: BTreeMap<String, LogStream> = BTreeMap::new();
    for candidate in segments {
        let Some(bytes) = read(candidate)? else { continue };
        for found in segment::spans(&bytes) {
            let known = streams.entry(found.name.clone()).or_insert_with(|| found.clone());
            known.first_ms = known.first_ms.min(found.first_ms);
            known.last_ms = known.last_ms.max(found.last_ms);
        }
    }
    let mut streams: Vec<LogStream> = streams.into_values().collect();
    streams.sort_by(|a, b| (a.first_ms, &a.name).cmp(&(b.first_ms, &b.name)));
    Ok(streams)
}

/// The first events of the query in (time, id) order, as many as fit a page.
pub fn events(segments: &[Candidate], query: &LogQuery) -> io::Result<Vec<LogEvent>> {
    let wanted: HashSet<&str> = query.streams.iter().map(String::as_str).collect();
    let mut page = Page::new(query.count_max.min(PAGE_COUNT_MAX));
    for candidate in segments {
        let outside = candidate.span.is_some_and(|(first, last)| {
            last < query.from_ms || first >= query.until_ms || page.is_before(first)
        });
        if outside {
            continue;
        }
        let Some(bytes) = read(candidate)? else { continue };
        let Some(mut segment) = Segment::open(&bytes) else { continue };
        while let Some(event) = segment.next() {
            let key = (event.time_ms, event.id);
            let in_time = (query.from_ms..query.until_ms).contains(&event.time_ms);
            if !in_time || query.after.is_some_and(|after| key <= after) || !page.takes(key) {
                continue;
            }
            let stream = segment.streams[event.stream as usize];
            if !wanted.is_empty() && !wanted.contains(stream) {
                continue;
            }
            page.put(LogEvent {
                id: event.id,
                stream: stream.to_owned(),
                time_ms: event.time_ms,
                ingested_ms: event.ingested_ms,
                message: String::from_utf8_lossy(event.text).into_owned(),
            });
        }
    }
    Ok(page.finish())
}

fn read(candidate: &Candidate) -> io::Result<Option<Vec<u8>>> {
    match fs::read(&candidate.path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The smallest keys seen so far, latest on top, within count and bytes.
struct Page {
    heap: BinaryHeap<Entry>,
    count_max: usize,
    bytes: usize,
    /// Something was left out: only smaller keys are of interest now.
    full: bool,
}

struct Entry(LogEvent);

impl Entry {
    fn key(&self) -> (u64, u64) {
        (self.0.time_ms, self.0.id)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Page {
    fn new(count_max: usize) -> Page {
        Page { heap: BinaryHeap::new(), count_max, bytes: 0, full: count_max == 0 }
    }

    fn is_before(&self, time_ms: u64) -> bool {
        self.full && self.heap.peek().is_none_or(|last| last.0.time_ms < time_ms)
    }

    fn takes(&self, key: (u64, u64)) -> bool {
        !self.full || self.heap.peek().is_some_and(|last| key < last.key())
    }

    fn put(&mut self, event: LogEvent) {
        self.bytes += event.message.len() + event.stream.len();
        self.heap.push(Entry(event));
        while self.heap.len() > self.count_max
            || (self.bytes > PAGE_BYTES_MAX && self.heap.len() > 1)
        {
            self.full = true;
            if let Some(Entry(event)) = self.heap.pop() {
                self.bytes -= event.message.len() + event.stream.len();
            }
        }
    }

    fn finish(self) -> Vec<LogEvent> {
        self.heap.into_sorted_vec().into_iter().map(|entry| entry.0).collect()
    }
}
