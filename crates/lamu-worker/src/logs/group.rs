//! One group on disk: its document and its segments, of which the last one is
//! written to.
//!
//! Not here: which groups there are and what they may hold together (`disk`),
//! the bytes of a segment (`segment`).

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use tracing::warn;

use super::document::{Document, Flush, make_dir};
use super::reader::{Candidate, View};
use super::segment::{self, Index, Indexing, Segment};

/// Streams that one segment may hold. Bounds what is in memory of the segment
/// that is written to, and of its index.
const SEGMENT_STREAMS_MAX: usize = 8_192;

/// A write is at most about this large, so that a refused one costs little.
const WRITE_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub struct Group {
    pub dir: PathBuf,
    pub document: Document,
    /// In order of ids; the last one is written to.
    pub segments: Vec<Part>,
    tail: Option<Tail>,
}

#[derive(Debug)]
pub struct Part {
    pub path: PathBuf,
    pub first_id: u64,
    pub bytes: u64,
    /// When it was last written, for the choice of what to drop.
    pub last_ms: u64,
    pub span: Option<(u64, u64)>,
    /// What was learned of it by reading; gone when it is written to.
    pub index: Option<Arc<Index>>,
}

/// A line on its way into a segment.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub stream: &'a str,
    pub time_ms: u64,
    pub text: &'a [u8],
}

/// What writing on needs to know of the last segment.
#[derive(Debug)]
struct Tail {
    file: File,
    next_id: u64,
    /// Numbers of the streams in this segment.
    streams: HashMap<String, u32>,
    /// How many numbers are taken, those of deleted streams too.
    numbers: u32,
}

impl Group {
    pub fn new(dir: PathBuf, document: Document) -> Group {
        Group { dir, document, segments: Vec::new(), tail: None }
    }

    /// A group found in a directory; `None` when there is none in it.
    pub fn find(dir: PathBuf) -> io::Result<Option<Group>> {
        let mut segments = Vec::new();
        let document = Document::load(&dir);
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let path = entry.path();
            let id = path.file_stem().and_then(|id| id.to_str()?.parse::<u64>().ok());
            let log = path.extension().is_some_and(|extension| extension == "log");
            let Some(first_id) = id.filter(|_| log) else { continue };
            let meta = entry.metadata()?;
            let age = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let last_ms = age.as_millis() as u64;
            let span =
                document.as_ref().and_then(|document| document.spans.get(&first_id)).copied();
            segments.push(Part { path, first_id, bytes: meta.len(), last_ms, span, index: None });
        }
        segments.sort_by_key(|part| part.first_id);
        let document = match (document, segments.first()) {
            (Some(document), _) => document,
            (None, None) => return Ok(None),
            (None, Some(first)) => {
                // The name is also inside, because a long one does not fit a
                // directory's.
                let mut head = Vec::new();
                File::open(&first.path)?.take(4_096).read_to_end(&mut head)?;
                let Some(segment) = Segment::open(&head) else { return Ok(None) };
                let name = segment.group.to_owned();
                Document { name, created_ms: first.first_id >> 20, ..Document::default() }
            }
        };
        Ok(Some(Group { dir, document, segments, tail: None }))
    }

    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|part| part.bytes).sum()
    }

    pub fn is_open(&self) -> bool {
        self.tail.is_some()
    }

    /// After a failed write nothing is known of the file's end.
    pub fn close(&mut self) {
        self.tail = None;
    }

    pub fn view(&self, now_ms: u64) -> View {
        let next = self.segments.iter().skip(1).map(|part| Some(part.first_id));
        let candidates = self.segments.iter().zip(next.chain([None]));
        View {
            segments: candidates
                .map(|(part, next_first_id)| Candidate {
                    path: part.path.clone(),
                    first_id: part.first_id,
                    next_first_id,
                    span: part.span,
                    index: part.index.clone(),
                })
                .collect(),
            from_ms: self.document.cutoff_ms(now_ms),
            next_id: self.tail.as_ref().map(|tail| tail.next_id),
        }
    }

    /// Takes in what a reader learned of a segment that is still the same.
    pub fn learn(&mut self, first_id: u64, bytes: u64, index: &Arc<Index>) -> bool {
        let part = self.segments.iter_mut().find(|part| part.first_id == first_id);
        let Some(part) = part.filter(|part| part.bytes == bytes && part.index.is_none()) else {
            return false;
        };
        part.span = index.span;
        part.index = Some(index.clone());
        true
    }

    /// Writes the first of these, as many as one write takes, and says how
    /// many. `room` is asked before anything is written.
    pub fn write(
        &mut self,
        entries: &[Entry<'_>],
        now_ms: u64,
        segment_bytes_max: u64,
        scratch: &mut Vec<u8>,
        room: impl Fn(usize) -> io::Result<()>,
    ) -> io::Result<usize> {
        let (part, tail) = self.tail(now_ms, segment_bytes_max)?;
        scratch.clear();
        let mut written = 0;
        for Entry { stream, time_ms, text } in entries {
            let used = part.bytes + scratch.len() as u64;
            if written > 0 && (used >= segment_bytes_max || scratch.len() >= WRITE_BYTES_MAX) {
                break;
            }
            let number = match tail.streams.get(*stream) {
                Some(number) => *number,
                None => {
                    segment::write_stream(scratch, stream);
                    tail.add(stream)
                }
            };
            segment::write_event(scratch, number, *time_ms, now_ms, text);
            tail.next_id += 1;
            let (first, last) = part.span.unwrap_or((*time_ms, *time_ms));
            part.span = Some((first.min(*time_ms), last.max(*time_ms)));
            written += 1;
        }
        room(scratch.len())?;
        tail.file.write_all(scratch)?;
        part.bytes += scratch.len() as u64;
        part.last_ms = now_ms;
        part.index = None;
        Ok(written)
    }

    /// Writes that a stream is there, durably. Returns the growth.
    pub fn make_stream(
        &mut self,
        stream: &str,
        now_ms: u64,
        segment_bytes_max: u64,
    ) -> io::Result<i64> {
        let before = self.bytes() as i64;
        let (part, tail) = self.tail(now_ms, segment_bytes_max)?;
        let mut record = Vec::new();
        segment::write_made_stream(&mut record, stream, now_ms);
        tail.add(stream);
        tail.file.write_all(&record)?;
        tail.file.sync_data()?;
        part.bytes += record.len() as u64;
        part.last_ms = now_ms;
        part.index = None;
        super::document::sync_dir(&self.dir)?;
        Ok(self.bytes() as i64 - before)
    }

    /// Hides a stream and its events, durably; whether there was one.
    pub fn delete_stream(&mut self, stream: &str) -> io::Result<bool> {
        if let Some(tail) = &mut self.tail {
            tail.streams.remove(stream);
        }
        let mut found = false;
        for part in &mut self.segments {
            let bytes = match fs::read(&part.path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let deletions = segment::deletions(&bytes, stream);
            if deletions.is_empty() {
                continue;
            }
            found = true;
            part.index = None;
            // Not opened for appending, which would ignore the place.
            let file = OpenOptions::new().write(true).open(&part.path)?;
            for (at, kind) in deletions {
                file.write_all_at(&[kind], at)?;
            }
            file.sync_data()?;
        }
        Ok(found)
    }

    /// Removes the oldest segment; its size.
    pub fn drop_oldest(&mut self) -> Option<u64> {
        if self.segments.is_empty() {
            return None;
        }
        let part = self.segments.remove(0);
        if self.segments.is_empty() {
            self.tail = None;
        }
        self.document.spans.remove(&part.first_id);
        match fs::remove_file(&part.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%error, path = %part.path.display(), "old log could not be removed");
            }
            _ => {}
        }
        Some(part.bytes)
    }

    /// Whether every event of the oldest segment is too old to be kept.
    pub fn oldest_has_expired(&self, now_ms: u64) -> bool {
        let cutoff_ms = self.document.cutoff_ms(now_ms);
        self.segments.first().is_some_and(|part| {
            // Of one that was not read yet, the last write is known.
            let last_ms = part.span.map_or(part.last_ms, |(_, last_ms)| last_ms);
            last_ms < cutoff_ms
        })
    }

    /// The open end of the last segment with room, made when there is none.
    fn tail(&mut self, now_ms: u64, segment_bytes_max: u64) -> io::Result<(&mut Part, &mut Tail)> {
        if self.tail.is_none()
            && let Some(part) = self.segments.last_mut()
        {
            self.tail = reopen(part)?;
            if self.tail.is_none() {
                // Not readable as a segment: writing goes on in a new one.
                warn!(path = %part.path.display(), "a log file is damaged");
            }
        }
        let age_ms_max = self.document.segment_age_ms_max();
        let full = self.segments.last().is_none_or(|part| {
            part.bytes >= segment_bytes_max
                || now_ms.saturating_sub(part.first_id >> 20) > age_ms_max
        });
        let crowded =
            self.tail.as_ref().is_none_or(|tail| tail.numbers as usize >= SEGMENT_STREAMS_MAX);
        if full || crowded {
            // Ids made from the time grow even over groups that were dropped
            // and came back.
            let next_id = self.tail.as_ref().map_or(0, |tail| tail.next_id);
            if let Some(part) = self.segments.last()
                && let Some(span) = part.span
            {
                self.document.spans.insert(part.first_id, span);
                self.document.save(&self.dir, Flush::Yes)?;
            }
            let first_id = next_id.max(now_ms << 20);
            let (part, tail) = create(&self.dir, &self.document.name, first_id, now_ms)?;
            self.segments.push(part);
            self.tail = Some(tail);
        }
        let last = self.segments.last_mut().zip(self.tail.as_mut());
        last.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Tail {
    fn add(&mut self, stream: &str) -> u32 {
        let number = self.numbers;
        self.numbers += 1;
        self.streams.insert(stream.to_owned(), number);
        number
    }
}

fn create(dir: &Path, group: &str, first_id: u64, now_ms: u64) -> io::Result<(Part, Tail)> {
    make_dir(dir)?;
    let path = dir.join(format!("{first_id:020}.log"));
    let mut file = OpenOptions::new().append(true).create_new(true).open(&path)?;
    let mut header = Vec::new();
    segment::write_header(&mut header, first_id, group);
    if let Err(error) = file.write_all(&header) {
        // Half a header would be a damaged file for ever.
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    let bytes = header.len() as u64;
    let part = Part { path, first_id, bytes, last_ms: now_ms, span: None, index: None };
    Ok((part, Tail { file, next_id: first_id, streams: HashMap::new(), numbers: 0 }))
}

/// Reads the segment through and cuts off what a crash left half written.
fn reopen(part: &mut Part) -> io::Result<Option<Tail>> {
    let mut file = match OpenOptions::new().read(true).append(true).open(&part.path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let Some(mut segment) = Segment::open(&bytes) else { return Ok(None) };
    let mut indexing = Indexing::default();
    for event in segment.by_ref() {
        indexing.see(&event);
    }
    part.bytes = segment.valid_bytes() as u64;
    if segment.valid_bytes() < bytes.len() {
        file.set_len(part.bytes)?;
    }
    let numbered = segment.streams.iter().enumerate();
    let streams = numbered.filter_map(|(at, stream)| Some((stream.name?.to_owned(), at as u32)));
    let (next_id, numbers) = (segment.next_id(), segment.streams.len() as u32);
    let tail = Tail { file, next_id, streams: streams.collect(), numbers };
    part.span = indexing.finish(&segment).span;
    Ok(Some(tail))
}
