//! The bytes of one segment file.
//!
//! ```text
//! "lamulog1"  u64 id of the first event  u32 length, group name
//! { u32 length, u8 kind, fields }*
//!   1 stream: name                 streams count from 0 in order
//!   2 event:  u32 stream, u64 time_ms, u64 ingested_ms, text
//! ```
//!
//! Little endian. Ids count on from the first one. A file whose end was cut
//! off is valid up to its last whole record. Not here: files.

use lamu_link::LogStream;

const MAGIC: &[u8; 8] = b"lamulog1";
const STREAM: u8 = 1;
const EVENT: u8 = 2;
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

/// Reads a segment from its bytes; ends at the first record that is not
/// whole.
#[derive(Debug)]
pub struct Segment<'a> {
    pub group: &'a str,
    pub streams: Vec<&'a str>,
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
                STREAM => {
                    self.streams.push(std::str::from_utf8(fields).ok()?);
                    self.at += bytes;
                }
                EVENT => {
                    let (stream, rest) = fields.split_first_chunk::<4>()?;
                    let (time, rest) = rest.split_first_chunk::<8>()?;
                    let (ingested, text) = rest.split_first_chunk::<8>()?;
                    let stream = u32::from_le_bytes(*stream);
                    if stream as usize >= self.streams.len() {
                        return None;
                    }
                    let id = self.next_id;
                    self.next_id += 1;
                    self.at += bytes;
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

/// First and last event of each stream, in the order of first writing.
pub fn spans(bytes: &[u8]) -> Vec<LogStream> {
    let Some(mut segment) = Segment::open(bytes) else { return Vec::new() };
    let mut spans: Vec<Option<(u64, u64)>> = Vec::new();
    for event in segment.by_ref() {
        let at = event.stream as usize;
        if spans.len() <= at {
            spans.resize(at + 1, None);
        }
        let (first, last) = spans[at].unwrap_or((event.time_ms, event.time_ms));
        spans[at] = Some((first.min(event.time_ms), last.max(event.time_ms)));
    }
    let named = segment.streams.iter().zip(spans);
    let named = named.filter_map(|(name, span)| {
        let (first_ms, last_ms) = span?;
        Some(LogStream { name: (*name).to_owned(), first_ms, last_ms })
    });
    named.collect()
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
        let spans = spans(&bytes);
        assert_eq!((spans[0].first_ms, spans[0].last_ms, spans.len()), (5, 9, 2));
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
