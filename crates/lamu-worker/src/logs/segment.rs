//! The bytes of one segment file.
//!
//! ```text
//! "lamulog1"  u64 id of the first event  u32 length, group name
//! { u32 length, u8 kind, fields }*
//!   1 stream: name                 streams count from 0 in order
//!   2 event:  u32 stream, u64 time_ms, u64 ingested_ms, text
//!   3 stream made before it was written to: u64 time_ms, name
//!   4 stream that was deleted: what 1 or 3 had; its events are skipped
//! ```
//!
//! Little endian. Ids count on from the first one, over skipped events too.
//! Deleting a stream changes one byte, so it has happened or has not. A file
//! whose end was cut off is valid up to its last whole record. Not here:
//! files.

use std::collections::BTreeMap;

use lamu_link::LogSpan;

const MAGIC: &[u8; 8] = b"lamulog1";
const STREAM: u8 = 1;
const EVENT: u8 = 2;
const STREAM_MADE: u8 = 3;
const STREAM_GONE: u8 = 4;
/// Records are lines and names, both bounded far below.
const RECORD_BYTES_MAX: usize = 1 << 20;

pub fn write_header(out: &mut Vec<u8>, first_id: u64, group: &str) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&first_id.to_le_bytes());
    out.extend_from_slice(&(group.len() as u32).to_le_bytes());
    out.extend_from_slice(group.as_bytes());
}

pub fn write_stream(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(&(1 + name.len() as u32).to_le_bytes());
    out.push(STREAM);
    out.extend_from_slice(name.as_bytes());
}

pub fn write_made_stream(out: &mut Vec<u8>, name: &str, time_ms: u64) {
    out.extend_from_slice(&(9 + name.len() as u32).to_le_bytes());
    out.push(STREAM_MADE);
    out.extend_from_slice(&time_ms.to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

/// Where a stream's deletion is written, and what.
pub fn deletions(bytes: &[u8], name: &str) -> Vec<(u64, u8)> {
    let Some(mut segment) = Segment::open(bytes) else { return Vec::new() };
    segment.by_ref().for_each(drop);
    let named = segment.streams.iter().filter(|stream| stream.name == Some(name));
    named.map(|stream| (stream.kind_at as u64, STREAM_GONE)).collect()
}

pub fn write_event(out: &mut Vec<u8>, stream: u32, time_ms: u64, ingested_ms: u64, text: &[u8]) {
    out.extend_from_slice(&(21 + text.len() as u32).to_le_bytes());
    out.push(EVENT);
    out.extend_from_slice(&stream.to_le_bytes());
    out.extend_from_slice(&time_ms.to_le_bytes());
    out.extend_from_slice(&ingested_ms.to_le_bytes());
    out.extend_from_slice(text);
}

/// An event where it lies in the file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub id: u64,
    pub stream: u32,
    pub time_ms: u64,
    pub ingested_ms: u64,
    pub text: &'a [u8],
}

/// A stream as its record in this segment has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream<'a> {
    /// `None` once it was deleted.
    pub name: Option<&'a str>,
    /// When it was made, if that is in this segment.
    pub made_ms: Option<u64>,
    /// Where the record's kind stands in the file.
    kind_at: usize,
}

/// Reads a segment from its bytes; ends at the first record that is not
/// whole.
#[derive(Debug)]
pub struct Segment<'a> {
    pub group: &'a str,
    pub streams: Vec<Stream<'a>>,
    bytes: &'a [u8],
    at: usize,
    next_id: u64,
}

impl<'a> Segment<'a> {
    /// `None` when these are not a segment's bytes.
    pub fn open(bytes: &'a [u8]) -> Option<Segment<'a>> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (first_id, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let group = std::str::from_utf8(rest.get(..length)?).ok()?;
        let next_id = u64::from_le_bytes(*first_id);
        Some(Segment { group, streams: Vec::new(), bytes, at: 20 + length, next_id })
    }

    /// Bytes read so far, all of them whole records.
    pub fn valid_bytes(&self) -> usize {
        self.at
    }

    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    fn record(&mut self) -> Option<(u8, &'a [u8])> {
        let rest = self.bytes.get(self.at..)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > RECORD_BYTES_MAX {
            return None;
        }
        let (kind, fields) = rest.get(..length)?.split_first()?;
        Some((*kind, fields))
    }
}

impl<'a> Iterator for Segment<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        loop {
            let (kind, fields) = self.record()?;
            let bytes = 5 + fields.len();
            match kind {
                STREAM | STREAM_MADE | STREAM_GONE => {
                    let (made_ms, name) = match kind {
                        STREAM_MADE => {
                            let (made, name) = fields.split_first_chunk::<8>()?;
                            (Some(u64::from_le_bytes(*made)), name)
                        }
                        _ => (None, fields),
                    };
                    let name = match kind {
                        STREAM_GONE => None,
                        _ => Some(std::str::from_utf8(name).ok()?),
                    };
                    self.streams.push(Stream { name, made_ms, kind_at: self.at + 4 });
                    self.at += bytes;
                }
                EVENT => {
                    let (stream, rest) = fields.split_first_chunk::<4>()?;
                    let (time, rest) = rest.split_first_chunk::<8>()?;
                    let (ingested, text) = rest.split_first_chunk::<8>()?;
                    let stream = u32::from_le_bytes(*stream);
                    let name = self.streams.get(stream as usize)?.name;
                    let id = self.next_id;
                    self.next_id += 1;
                    self.at += bytes;
                    if name.is_none() {
                        continue;
                    }
                    return Some(Event {
                        id,
                        stream,
                        time_ms: u64::from_le_bytes(*time),
                        ingested_ms: u64::from_le_bytes(*ingested),
                        text,
                    });
                }
                _ => return None,
            }
        }
    }
}

/// What a segment holds, without the events themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Times of the first and the last event.
    pub span: Option<(u64, u64)>,
    pub streams: BTreeMap<String, Known>,
    /// The id that the next event would get.
    pub next_id: u64,
}

/// A stream as one segment, or several together, know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub created_ms: u64,
    pub events: Option<LogSpan>,
}

impl Known {
    pub fn add(&mut self, other: &Known) {
        self.created_ms = self.created_ms.min(other.created_ms);
        self.events = match (self.events, other.events) {
            (Some(mine), Some(theirs)) => Some(LogSpan {
                first_ms: mine.first_ms.min(theirs.first_ms),
                last_ms: mine.last_ms.max(theirs.last_ms),
                ingested_ms: mine.ingested_ms.max(theirs.ingested_ms),
            }),
            (mine, theirs) => mine.or(theirs),
        };
    }
}

/// Gathers an index while a segment is read.
#[derive(Debug, Default)]
pub struct Indexing {
    span: Option<(u64, u64)>,
    /// Of each stream by its number: when its first event came in, and times.
    streams: Vec<Option<(u64, LogSpan)>>,
}

impl Indexing {
    pub fn see(&mut self, event: &Event<'_>) {
        let time_ms = event.time_ms;
        let (first, last) = self.span.unwrap_or((time_ms, time_ms));
        self.span = Some((first.min(time_ms), last.max(time_ms)));
        let at = event.stream as usize;
        if self.streams.len() <= at {
            self.streams.resize(at + 1, None);
        }
        let ingested_ms = event.ingested_ms;
        let new = (ingested_ms, LogSpan { first_ms: time_ms, last_ms: time_ms, ingested_ms });
        let (_, span) = self.streams[at].get_or_insert(new);
        span.first_ms = span.first_ms.min(time_ms);
        span.last_ms = span.last_ms.max(time_ms);
        span.ingested_ms = span.ingested_ms.max(ingested_ms);
    }

    /// After the segment's last event.
    pub fn finish(self, segment: &Segment<'_>) -> Index {
        let mut streams: BTreeMap<String, Known> = BTreeMap::new();
        for (at, stream) in segment.streams.iter().enumerate() {
            let seen = self.streams.get(at).copied().flatten();
            let created_ms = stream.made_ms.or(seen.map(|(first_in_ms, _)| first_in_ms));
            // A record without an event is one whose writing was cut off.
            let (Some(name), Some(created_ms)) = (stream.name, created_ms) else { continue };
            let known = Known { created_ms, events: seen.map(|(_, span)| span) };
            streams.entry(name.to_owned()).and_modify(|other| other.add(&known)).or_insert(known);
        }
        Index { span: self.span, streams, next_id: segment.next_id() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<u8> {
        let mut bytes = Vec::new();
        write_header(&mut bytes, 100, "/g");
        write_stream(&mut bytes, "s-0");
        write_event(&mut bytes, 0, 5, 6, b"one");
        write_stream(&mut bytes, "s-1");
        write_event(&mut bytes, 1, 3, 6, b"two");
        write_event(&mut bytes, 0, 9, 9, b"");
        bytes
    }

    #[test]
    fn a_segment_reads_back_as_written() {
        let bytes = example();
        let mut segment = Segment::open(&bytes).unwrap();
        let events: Vec<_> =
            segment.by_ref().map(|e| (e.id, e.stream, e.time_ms, e.text)).collect();
        assert_eq!(
            events,
            [(100, 0, 5, &b"one"[..]), (101, 1, 3, &b"two"[..]), (102, 0, 9, &b""[..])]
        );
        assert_eq!((segment.valid_bytes(), segment.next_id()), (bytes.len(), 103));
        let index = index(&bytes);
        let span = index.streams["s-0"].events.unwrap();
        assert_eq!((span.first_ms, span.last_ms, span.ingested_ms), (5, 9, 9));
        assert_eq!(index.streams["s-1"].created_ms, 6);
        assert_eq!((index.span, index.next_id), (Some((3, 9)), 103));
    }

    fn index(bytes: &[u8]) -> Index {
        let mut segment = Segment::open(bytes).unwrap();
        let mut indexing = Indexing::default();
        for event in segment.by_ref() {
            indexing.see(&event);
        }
        indexing.finish(&segment)
    }

    #[test]
    fn a_made_stream_is_known_before_its_first_event() {
        let mut bytes = example();
        write_made_stream(&mut bytes, "s-2", 7);
        let index = index(&bytes);
        assert_eq!(index.streams["s-2"], Known { created_ms: 7, events: None });
    }

    #[test]
    fn a_deleted_stream_takes_its_events_along_and_no_ids() {
        let mut bytes = example();
        for (at, kind) in deletions(&bytes, "s-0") {
            bytes[at as usize] = kind;
        }
        write_stream(&mut bytes, "s-0");
        write_event(&mut bytes, 2, 11, 11, b"again");
        let segment = Segment::open(&bytes).unwrap();
        let events: Vec<_> = segment.map(|e| (e.id, e.text)).collect();
        assert_eq!(events, [(101, &b"two"[..]), (103, &b"again"[..])]);
        let index = index(&bytes);
        assert_eq!(index.streams["s-0"].created_ms, 11);
        assert_eq!(index.next_id, 104);
        assert!(deletions(&bytes, "nobody").is_empty());
    }

    #[test]
    fn a_cut_or_damaged_segment_ends_at_its_last_whole_record() {
        let whole = example();
        for cut in 0..whole.len() {
            let count = Segment::open(&whole[..cut]).map_or(0, |segment| segment.count());
            assert!(count < 3, "at {cut}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 255] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                if let Some(segment) = Segment::open(&damaged) {
                    assert!(segment.count() <= 3);
                }
            }
        }
    }
}
