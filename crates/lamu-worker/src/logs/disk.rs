//! The segment files of all groups, and the bounds on them.
//!
//! ```text
//! <dir>/<account>/<region>/<group, escaped>/<first id, 20 digits>.log
//! ```
//!
//! Nothing but names and sizes is read at the start; a group's last segment
//! is read when the group is written to again. Only the store's thread
//! changes anything. Not here: the bytes inside (`segment`).

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use lamu_model::{AccountId, Digest, Region};
use tracing::warn;

use super::reader::Candidate;
use super::segment::{self, Segment};
use super::sink::Batch;
use super::{GroupName, LogLimits};

/// Groups kept open for writing; the others open again when they are written
/// to, which reads their last segment.
const OPEN_MAX: usize = 128;
/// Longest directory name made of a group's own name.
const NAME_BYTES_MAX: usize = 200;

#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    limits: LogLimits,
    groups: BTreeMap<GroupName, Group>,
    total_bytes: u64,
    open: usize,
    /// Bytes of one group in one batch; kept for its memory.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Group {
    dir: PathBuf,
    /// In order of ids; the last one is written to.
    segments: Vec<Part>,
    tail: Option<Tail>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    bytes: u64,
    /// When it was last written, for the choice of what to drop.
    last_ms: u64,
    span: Option<(u64, u64)>,
}

/// A line on its way into a segment.
struct Entry<'a> {
    stream: &'a str,
    time_ms: u64,
    text: &'a [u8],
}

/// What writing on needs to know of the last segment.
#[derive(Debug)]
struct Tail {
    file: File,
    next_id: u64,
    /// Numbers of the streams in this segment.
    streams: HashMap<String, u32>,
}

impl Disk {
    pub fn open(dir: PathBuf, limits: LogLimits) -> io::Result<Disk> {
        fs::create_dir_all(&dir)?;
        let mut groups = BTreeMap::new();
        for account in subdirs(&dir)? {
            for region in subdirs(&account)? {
                for group in subdirs(&region)? {
                    if let Some((name, group)) = find_group(&account, &region, group)? {
                        groups.insert(name, group);
                    }
                }
            }
        }
        let parts = groups.values().flat_map(|group: &Group| &group.segments);
        let total_bytes = parts.map(|part| part.bytes).sum();
        Ok(Disk { dir, limits, groups, total_bytes, open: 0, scratch: Vec::new() })
    }

    pub fn groups(&self, account: &AccountId, region: &Region, prefix: &str) -> Vec<String> {
        let names = self.groups.keys().filter(|name| {
            name.account == *account && name.region == *region && name.group.starts_with(prefix)
        });
        names.map(|name| name.group.clone()).collect()
    }

    /// `None` when there is no such group.
    pub fn segments(&self, name: &GroupName) -> Option<Vec<Candidate>> {
        let parts = self.groups.get(name)?.segments.iter();
        Some(parts.map(|part| Candidate { path: part.path.clone(), span: part.span }).collect())
    }

    /// Writes a batch, one write a group. What cannot be written is lost and
    /// said once a batch: a full disk must not stop functions.
    pub fn append(&mut self, batch: &Batch, ingested_ms: u64) {
        let mut by_group: BTreeMap<&GroupName, Vec<Entry<'_>>> = BTreeMap::new();
        let mut rest = batch.text.as_slice();
        for line in &batch.lines {
            let (text, after) = rest.split_at(line.bytes as usize);
            rest = after;
            let entry = Entry { stream: &line.stream.stream, time_ms: line.time_ms, text };
            by_group.entry(&line.stream.group).or_default().push(entry);
        }
        let mut failed = None;
        for (name, lines) in by_group {
            if let Err(error) = self.append_group(name, &lines, ingested_ms) {
                failed = Some(error);
                self.close(name);
            }
        }
        if let Some(error) = failed {
            warn!(%error, "log lines could not be written");
        }
        self.shrink();
    }

    fn append_group(
        &mut self,
        name: &GroupName,
        lines: &[Entry<'_>],
        ingested_ms: u64,
    ) -> io::Result<()> {
        if self.open >= OPEN_MAX {
            self.groups.values_mut().for_each(|group| group.tail = None);
            self.open = 0;
        }
        let dir = &self.dir;
        let group = self.groups.entry(name.clone()).or_insert_with(|| Group {
            dir: dir
                .join(name.account.as_str())
                .join(name.region.as_str())
                .join(dir_name(&name.group)),
            segments: Vec::new(),
            tail: None,
        });
        let was_open = group.tail.is_some();
        let mut lines = lines.iter().peekable();
        while lines.peek().is_some() {
            let room = self.limits.segment_bytes_max;
            let (part, tail) = group.tail(name, ingested_ms, room, &mut self.total_bytes)?;
            self.scratch.clear();
            while let Some(Entry { stream, time_ms, text }) =
                lines.next_if(|_| part.bytes + (self.scratch.len() as u64) < room)
            {
                let number = match tail.streams.get(*stream) {
                    Some(number) => *number,
                    None => {
                        let number = tail.streams.len() as u32;
                        segment::write_stream(&mut self.scratch, stream);
                        tail.streams.insert((*stream).to_owned(), number);
                        number
                    }
                };
                segment::write_event(&mut self.scratch, number, *time_ms, ingested_ms, text);
                tail.next_id += 1;
                let (first, last) = part.span.unwrap_or((*time_ms, *time_ms));
                part.span = Some((first.min(*time_ms), last.max(*time_ms)));
            }
            tail.file.write_all(&self.scratch)?;
            part.bytes += self.scratch.len() as u64;
            part.last_ms = ingested_ms;
            self.total_bytes += self.scratch.len() as u64;
        }
        self.scratch.shrink_to(1 << 20);
        self.open += usize::from(!was_open && group.tail.is_some());
        let mut bytes: u64 = group.segments.iter().map(|part| part.bytes).sum();
        while bytes > self.limits.group_bytes_max && group.segments.len() > 1 {
            let oldest = group.segments.remove(0);
            bytes -= oldest.bytes;
            self.total_bytes -= oldest.bytes;
            fs::remove_file(&oldest.path)?;
        }
        Ok(())
    }

    /// After a failed write nothing is known of the file's end.
    fn close(&mut self, name: &GroupName) {
        let Some(group) = self.groups.get_mut(name) else { return };
        self.open -= usize::from(group.tail.take().is_some());
        if group.segments.is_empty() {
            self.groups.remove(name);
        }
    }

    /// Drops the segments written longest ago until all groups together fit.
    fn shrink(&mut self) {
        while self.total_bytes > self.limits.total_bytes_max {
            let oldest = self
                .groups
                .iter()
                .filter_map(|(name, group)| Some((group.segments.first()?.last_ms, name.clone())));
            let Some((_, name)) = oldest.min() else { return };
            let Some(group) = self.groups.get_mut(&name) else { return };
            let part = group.segments.remove(0);
            self.total_bytes -= part.bytes;
            if let Err(error) = fs::remove_file(&part.path) {
                warn!(%error, path = %part.path.display(), "old log could not be removed");
            }
            if group.segments.is_empty() {
                self.open -= usize::from(group.tail.is_some());
                let _ = fs::remove_dir(&group.dir);
                self.groups.remove(&name);
            }
        }
    }
}

impl Group {
    /// The open end of the last segment with room, made when there is none.
    fn tail(
        &mut self,
        name: &GroupName,
        now_ms: u64,
        segment_bytes_max: u64,
        total_bytes: &mut u64,
    ) -> io::Result<(&mut Part, &mut Tail)> {
        if self.tail.is_none()
            && let Some(part) = self.segments.last_mut()
        {
            let before = part.bytes;
            self.tail = reopen(part)?;
            *total_bytes = *total_bytes - before + part.bytes;
            if self.tail.is_none() {
                // Not readable as a segment: writing goes on in a new one.
                warn!(path = %part.path.display(), "a log file is damaged");
            }
        }
        let full = self.segments.last().is_none_or(|part| part.bytes >= segment_bytes_max);
        if full || self.tail.is_none() {
            // Ids made from the time grow even over groups that were dropped
            // and came back.
            let next_id = self.tail.as_ref().map_or(0, |tail| tail.next_id);
            let first_id = next_id.max(now_ms << 20);
            let (part, tail) = create(&self.dir, name, first_id, now_ms)?;
            *total_bytes += part.bytes;
            self.segments.push(part);
            self.tail = Some(tail);
        }
        let last = self.segments.last_mut().zip(self.tail.as_mut());
        last.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn create(dir: &Path, name: &GroupName, first_id: u64, now_ms: u64) -> io::Result<(Part, Tail)> {
    fs::create_dir_all(dir)?;
    let path = dir.join(format!("{first_id:020}.log"));
    let mut file = OpenOptions::new().append(true).create_new(true).open(&path)?;
    let mut header = Vec::new();
    segment::write_header(&mut header, first_id, &name.group);
    file.write_all(&header)?;
    let part = Part { path, bytes: header.len() as u64, last_ms: now_ms, span: None };
    Ok((part, Tail { file, next_id: first_id, streams: HashMap::new() }))
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
    let mut span = None;
    for event in segment.by_ref() {
        let (first, last) = span.unwrap_or((event.time_ms, event.time_ms));
        span = Some((event.time_ms.min(first), event.time_ms.max(last)));
    }
    part.span = span;
    part.bytes = segment.valid_bytes() as u64;
    if segment.valid_bytes() < bytes.len() {
        file.set_len(part.bytes)?;
    }
    let numbered = segment.streams.iter().enumerate();
    let streams = numbered.map(|(at, name)| ((*name).to_owned(), at as u32)).collect();
    Ok(Some(Tail { file, next_id: segment.next_id(), streams }))
}

fn find_group(
    account: &Path,
    region: &Path,
    dir: PathBuf,
) -> io::Result<Option<(GroupName, Group)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(&dir)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let meta = entry.metadata()?;
        let age = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let last_ms = age.as_millis() as u64;
        segments.push(Part { path, bytes: meta.len(), last_ms, span: None });
    }
    segments.sort_by(|a, b| a.path.cmp(&b.path));
    let Some(first) = segments.first() else { return Ok(None) };
    // The name is inside, because a long one does not fit a directory's.
    let mut head = Vec::new();
    File::open(&first.path)?.take(4_096).read_to_end(&mut head)?;
    let Some(segment) = Segment::open(&head) else { return Ok(None) };
    let part = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = GroupName {
        account: AccountId::new(part(account)),
        region: Region::new(part(region)),
        group: segment.group.to_owned(),
    };
    Ok(Some((name, Group { dir, segments, tail: None })))
}

fn subdirs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A group's name as one path part. Anything but letters, digits, `-` and `_`
/// is escaped, so no name leads elsewhere.
fn dir_name(group: &str) -> String {
    let mut name = String::new();
    for byte in group.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte as char),
            _ => {
                let _ = write!(name, "%{byte:02x}");
            }
        }
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return format!("%{}", Digest::of(group.as_bytes()));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_name_leads_out_of_its_place() {
        assert_eq!(dir_name("/aws/lambda/f"), "%2faws%2flambda%2ff");
        assert_eq!(dir_name(".."), "%2e%2e");
        assert!(dir_name(&"x".repeat(512)).len() <= NAME_BYTES_MAX);
        assert_ne!(dir_name(""), "");
    }
}
