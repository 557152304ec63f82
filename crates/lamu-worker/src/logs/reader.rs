//! Answers queries from segment files. A file that was dropped meanwhile is
//! skipped: its events are too old to be kept.
//!
//! Segments are read from the end that is asked for, and those that cannot
//! hold anything of the answer are not read. What a reading learns of a
//! segment is handed back, so that the next one knows more. Not here: which
//! segments there are (`disk`).

use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use lamu_link::{LogEnd, LogEvent, LogPage, LogPlace, LogQuery, LogStream, StreamChoice};

use super::segment::{Index, Indexing, Known, Segment};

/// One answer. CloudWatch answers with at most 1 MiB.
const PAGE_BYTES_MAX: usize = 1 << 20;
const PAGE_COUNT_MAX: usize = 10_000;

/// A group as the disk knows it when a read begins.
#[derive(Clone, Debug)]
pub struct View {
    /// In the order of their ids.
    pub segments: Vec<Candidate>,
    /// Events before are no more.
    pub from_ms: u64,
    /// The id of the next event, when it is known.
    pub next_id: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Candidate {
    pub path: PathBuf,
    pub first_id: u64,
    /// Of the segment after it.
    pub next_first_id: Option<u64>,
    /// Times of its first and last event, when they are known.
    pub span: Option<(u64, u64)>,
    pub index: Option<Arc<Index>>,
}

/// First ids, sizes and indexes of segments that were read whole.
pub type Learned = Vec<(u64, u64, Arc<Index>)>;

/// All streams of a group, by name.
pub fn streams(view: &View) -> io::Result<(Vec<LogStream>, Learned)> {
    let mut streams: BTreeMap<String, Known> = BTreeMap::new();
    let mut learned = Learned::new();
    for candidate in &view.segments {
        let Some(index) = index(candidate, &mut learned)? else { continue };
        for (name, found) in &index.streams {
            match streams.get_mut(name) {
                Some(known) => known.add(found),
                None => {
                    streams.insert(name.clone(), *found);
                }
            }
        }
    }
    let kept = |known: &Known| {
        let last_ms = known.events.map_or(known.created_ms, |events| events.last_ms);
        last_ms >= view.from_ms
    };
    let streams = streams.into_iter().filter(|(_, known)| kept(known));
    let streams = streams.map(|(name, known)| {
        let mut events = known.events;
        if let Some(events) = &mut events {
            events.first_ms = events.first_ms.max(view.from_ms);
        }
        LogStream { name, created_ms: known.created_ms, events }
    });
    Ok((streams.collect(), learned))
}

/// Whether there is such a stream; the newest segment is asked first.
pub fn has_stream(view: &View, name: &str) -> io::Result<(bool, Learned)> {
    let mut learned = Learned::new();
    for candidate in view.segments.iter().rev() {
        if let Some(index) = index(candidate, &mut learned)?
            && index.streams.contains_key(name)
        {
            return Ok((true, learned));
        }
    }
    Ok((false, learned))
}

fn index(candidate: &Candidate, learned: &mut Learned) -> io::Result<Option<Arc<Index>>> {
    if let Some(index) = &candidate.index {
        return Ok(Some(index.clone()));
    }
    let Some(bytes) = read(candidate)? else { return Ok(None) };
    let Some(mut segment) = Segment::open(&bytes) else { return Ok(None) };
    let mut indexing = Indexing::default();
    for event in segment.by_ref() {
        indexing.see(&event);
    }
    let index = Arc::new(indexing.finish(&segment));
    learned.push((candidate.first_id, bytes.len() as u64, index.clone()));
    Ok(Some(index))
}

/// The events of the query, as many as fit a page.
pub fn events(view: &View, query: &LogQuery) -> io::Result<(LogPage, Learned)> {
    let streams = Choice::of(&query.streams);
    let from_ms = query.from_ms.max(view.from_ms);
    let mut page = Page::new(query.end, query.count_max.min(PAGE_COUNT_MAX));
    let mut learned = Learned::new();
    let mut next_id = view.next_id.unwrap_or(0);
    let mut order: Vec<&Candidate> = view.segments.iter().collect();
    if query.end == LogEnd::Newest {
        order.reverse();
    }
    for candidate in order {
        let newest = candidate.next_first_id.is_none() && view.next_id.is_none();
        let outside = candidate.span.is_some_and(|(first, last)| {
            last < from_ms
                || first >= query.until_ms
                || query.after.is_some_and(|(after_ms, _)| last < after_ms)
                || query.before.is_some_and(|(before_ms, _)| first > before_ms)
                || page.is_past(first, last)
        });
        let older = candidate.next_first_id.zip(query.newer_than).is_some_and(
            |(next_first_id, newer_than)| next_first_id <= newer_than.saturating_add(1),
        );
        let up_to_date = query.newer_than.is_some_and(|newer_than| {
            view.next_id.is_some_and(|next_id| next_id <= newer_than.saturating_add(1))
        });
        let strange = candidate.index.as_ref().is_some_and(|index| !streams.any_of(index));
        if (outside || older || up_to_date || strange) && !(newest && candidate.index.is_none()) {
            if let Some(index) = &candidate.index {
                next_id = next_id.max(index.next_id);
            }
            continue;
        }
        let Some(bytes) = read(candidate)? else { continue };
        let Some(mut segment) = Segment::open(&bytes) else { continue };
        let mut indexing = Indexing::default();
        while let Some(event) = segment.next() {
            indexing.see(&event);
            let place = (event.time_ms, event.id);
            let wanted = (from_ms..query.until_ms).contains(&event.time_ms)
                && query.after.is_none_or(|after| place > after)
                && query.before.is_none_or(|before| place < before)
                && query.newer_than.is_none_or(|id| event.id > id);
            let Some(stream) = segment.streams[event.stream as usize].name else { continue };
            if !wanted || !streams.has(stream) {
                continue;
            }
            let takes = page.takes(place);
            if !takes && page.more {
                continue;
            }
            let message = String::from_utf8_lossy(event.text);
            if !query.pattern.matches(&message) {
                continue;
            }
            if !takes {
                page.more = true;
                continue;
            }
            page.put(LogEvent {
                id: event.id,
                stream: stream.to_owned(),
                time_ms: event.time_ms,
                ingested_ms: event.ingested_ms,
                message: message.into_owned(),
            });
        }
        next_id = next_id.max(segment.next_id());
        let index = indexing.finish(&segment);
        learned.push((candidate.first_id, bytes.len() as u64, Arc::new(index)));
    }
    let (events, more) = page.finish();
    Ok((LogPage { events, more, newest_id: next_id.saturating_sub(1) }, learned))
}

fn read(candidate: &Candidate) -> io::Result<Option<Vec<u8>>> {
    match fs::read(&candidate.path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which streams are wanted, quick to ask.
enum Choice<'a> {
    All,
    Named(HashSet<&'a str>),
    Prefixed(&'a [String]),
}

impl<'a> Choice<'a> {
    fn of(choice: &'a StreamChoice) -> Choice<'a> {
        match choice {
            StreamChoice::All => Choice::All,
            StreamChoice::Named(names) => Choice::Named(names.iter().map(String::as_str).collect()),
            StreamChoice::Prefixed(prefixes) => Choice::Prefixed(prefixes),
        }
    }

    fn has(&self, stream: &str) -> bool {
        match self {
            Choice::All => true,
            Choice::Named(names) => names.contains(stream),
            Choice::Prefixed(prefixes) => {
                prefixes.iter().any(|prefix| stream.starts_with(prefix.as_str()))
            }
        }
    }

    fn any_of(&self, index: &Index) -> bool {
        match self {
            Choice::All => true,
            Choice::Named(names) => names.iter().any(|name| index.streams.contains_key(*name)),
            Choice::Prefixed(_) => index.streams.keys().any(|name| self.has(name)),
        }
    }
}

/// The events nearest to one end seen so far, the farthest on top, within
/// count and bytes.
struct Page {
    end: LogEnd,
    heap: BinaryHeap<Entry>,
    count_max: usize,
    bytes: usize,
    /// No room is left: only nearer ones are of interest now.
    full: bool,
    /// Something was left out.
    more: bool,
}

/// Ordered by its distance from the end.
struct Entry {
    rank: LogPlace,
    event: LogEvent,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
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
        self.rank.cmp(&other.rank)
    }
}

impl Page {
    fn new(end: LogEnd, count_max: usize) -> Page {
        let full = count_max == 0;
        Page { end, heap: BinaryHeap::new(), count_max, bytes: 0, full, more: false }
    }

    fn rank(&self, (time_ms, id): LogPlace) -> LogPlace {
        match self.end {
            LogEnd::Oldest => (time_ms, id),
            LogEnd::Newest => (u64::MAX - time_ms, u64::MAX - id),
        }
    }

    /// Whether nothing within these times can belong here any more. As long
    /// as nothing was left out, whether there is more is still to be found.
    fn is_past(&self, first_ms: u64, last_ms: u64) -> bool {
        let nearest = match self.end {
            LogEnd::Oldest => self.rank((first_ms, 0)),
            LogEnd::Newest => self.rank((last_ms, u64::MAX)),
        };
        self.more && !self.takes_rank(nearest)
    }

    fn takes(&self, place: LogPlace) -> bool {
        self.takes_rank(self.rank(place))
    }

    fn takes_rank(&self, rank: LogPlace) -> bool {
        !self.full || self.heap.peek().is_some_and(|farthest| rank < farthest.rank)
    }

    fn put(&mut self, event: LogEvent) {
        let rank = self.rank((event.time_ms, event.id));
        self.bytes += cost(&event);
        self.heap.push(Entry { rank, event });
        while self.heap.len() > self.count_max
            || (self.bytes > PAGE_BYTES_MAX && self.heap.len() > 1)
        {
            (self.full, self.more) = (true, true);
            if let Some(Entry { event, .. }) = self.heap.pop() {
                self.bytes -= cost(&event);
            }
        }
        self.full |= self.heap.len() >= self.count_max;
    }

    /// In the order of time, and whether there was more.
    fn finish(self) -> (Vec<LogEvent>, bool) {
        let sorted = self.heap.into_sorted_vec().into_iter().map(|entry| entry.event);
        let mut events: Vec<LogEvent> = sorted.collect();
        if self.end == LogEnd::Newest {
            events.reverse();
        }
        (events, self.more)
    }
}

/// The service counts 26 bytes an event beside its message.
fn cost(event: &LogEvent) -> usize {
    event.message.len() + 26
}
