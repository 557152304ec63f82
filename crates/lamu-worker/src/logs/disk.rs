//! The groups of all accounts on disk, and the bounds on them together.
//!
//! ```text
//! <dir>/<account>/<region>/<group, escaped>/group.json
//!                                          /<first id, 20 digits>.log
//!                         /.deleted.<n>    on its way out
//! ```
//!
//! Nothing but names, sizes and documents is read at the start; a group's
//! last segment is read when the group is written to again. Whoever changes
//! something holds the whole. Not here: one group (`group`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lamu_link::{
    GroupChange, GroupQuery, LogError, LogGroup, LogGroupName, NewLogEvent, NewLogGroup,
};
use lamu_model::{AccountId, Digest, Region};
use tracing::warn;

use super::LogLimits;
use super::document::{Document, Flush, sync_dir};
use super::group::{Entry, Group};
use super::reader::{Learned, View};
use super::sink::Batch;
use super::stats::LogStats;

/// Groups kept open for writing; the others open again when they are written
/// to, which reads their last segment.
const OPEN_MAX: usize = 128;
/// Longest directory name made of a group's own name.
const NAME_BYTES_MAX: usize = 200;
/// Streams remembered from reading, over all segments: some tens of MiB.
const INDEXED_STREAMS_MAX: usize = 200_000;
/// Segments given up for one write that finds the disk full.
const DROPS_MAX: usize = 64;
/// As the service has it.
const TAGS_MAX: usize = 50;

#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    limits: LogLimits,
    groups: BTreeMap<LogGroupName, Group>,
    total_bytes: u64,
    open: usize,
    indexed_streams: usize,
    deleted: u64,
    stats: Arc<LogStats>,
    /// Bytes of one group in one batch; kept for its memory.
    scratch: Vec<u8>,
    /// Size of the disk that a test plays.
    #[cfg(test)]
    pub disk_bytes_max: Option<u64>,
}

impl Disk {
    pub fn open(dir: PathBuf, limits: LogLimits, stats: Arc<LogStats>) -> io::Result<Disk> {
        fs::create_dir_all(&dir)?;
        let mut groups = BTreeMap::new();
        for account in subdirs(&dir)? {
            for region in subdirs(&account)? {
                for group in subdirs(&region)? {
                    if group.file_name().is_some_and(is_deleted) {
                        fs::remove_dir_all(&group)?;
                    } else if let Some(found) = Group::find(group)? {
                        let name = LogGroupName {
                            account: AccountId::new(last_part(&account)),
                            region: Region::new(last_part(&region)),
                            group: found.document.name.clone(),
                        };
                        groups.insert(name, found);
                    }
                }
            }
        }
        let total_bytes = groups.values().map(Group::bytes).sum();
        let mut disk = Disk {
            dir,
            limits,
            groups,
            total_bytes,
            open: 0,
            indexed_streams: 0,
            deleted: 0,
            stats,
            scratch: Vec::new(),
            #[cfg(test)]
            disk_bytes_max: None,
        };
        disk.shrink();
        disk.count();
        Ok(disk)
    }

    pub fn groups(&self, query: &GroupQuery) -> Vec<LogGroup> {
        let name = |group: &str| LogGroupName {
            account: query.account.clone(),
            region: query.region.clone(),
            group: group.to_owned(),
        };
        let begin = match &query.after {
            Some(after) if *after >= query.prefix => Bound::Excluded(name(after)),
            _ => Bound::Included(name(&query.prefix)),
        };
        let belongs = |name: &LogGroupName| {
            name.account == query.account
                && name.region == query.region
                && name.group.starts_with(&query.prefix)
        };
        self.groups
            .range((begin, Bound::Unbounded))
            .take_while(|(name, _)| belongs(name))
            .filter(|(name, _)| name.group.contains(&query.part))
            .take(query.count_max)
            .map(|(name, group)| LogGroup {
                name: name.group.clone(),
                created_ms: group.document.created_ms,
                retention_days: group.document.retention_days,
                stored_bytes: group.bytes(),
                tags: group.document.tags.clone(),
                class: group.document.class.clone(),
                deletion_protected: group.document.deletion_protected,
            })
            .collect()
    }

    /// What a reader needs to know of a group.
    pub fn view(&self, name: &LogGroupName, now_ms: u64) -> Result<View, LogError> {
        Ok(self.groups.get(name).ok_or(LogError::NoGroup)?.view(now_ms))
    }

    pub fn learn(&mut self, name: &LogGroupName, learned: &Learned) {
        let Some(group) = self.groups.get_mut(name) else { return };
        for (first_id, bytes, index) in learned {
            if group.learn(*first_id, *bytes, index) {
                self.indexed_streams += index.streams.len();
            }
        }
        if self.indexed_streams > INDEXED_STREAMS_MAX {
            let parts = self.groups.values_mut().flat_map(|group| &mut group.segments);
            parts.for_each(|part| part.index = None);
            self.indexed_streams = 0;
        }
    }

    pub fn create_group(
        &mut self,
        name: &LogGroupName,
        with: NewLogGroup,
        now_ms: u64,
    ) -> Result<(), LogError> {
        if self.groups.contains_key(name) {
            return Err(LogError::GroupExists);
        }
        if self.count_of(&name.account) >= self.limits.groups_max {
            return Err(LogError::TooManyGroups);
        }
        let document = Document {
            name: name.group.clone(),
            created_ms: now_ms,
            tags: with.tags,
            class: with.class,
            deletion_protected: with.deletion_protected,
            asked_for: true,
            ..Document::default()
        };
        let dir = self.dir_of(name);
        document.save(&dir, Flush::Yes).map_err(unavailable("keep the group"))?;
        self.groups.insert(name.clone(), Group::new(dir, document));
        Ok(())
    }

    pub fn change_group(
        &mut self,
        name: &LogGroupName,
        change: GroupChange,
        now_ms: u64,
    ) -> Result<(), LogError> {
        let group = self.groups.get_mut(name).ok_or(LogError::NoGroup)?;
        let mut document = group.document.clone();
        document.asked_for = true;
        match change {
            GroupChange::Retention(days) => document.retention_days = days,
            GroupChange::DeletionProtection(protected) => document.deletion_protected = protected,
            GroupChange::Tag(tags) => document.tags.extend(tags),
            GroupChange::Untag(keys) => document.tags.retain(|key, _| !keys.contains(key)),
        }
        if document.tags.len() > TAGS_MAX {
            return Err(LogError::TooManyTags { max: TAGS_MAX });
        }
        document.save(&group.dir, Flush::Yes).map_err(unavailable("keep the group"))?;
        group.document = document;
        self.expire(now_ms);
        Ok(())
    }

    pub fn delete_group(&mut self, name: &LogGroupName) -> Result<(), LogError> {
        let group = self.groups.get(name).ok_or(LogError::NoGroup)?;
        if group.document.deletion_protected {
            return Err(LogError::Protected);
        }
        self.remove(name).map_err(unavailable("delete the group"))
    }

    /// The caller has looked: there is no such stream.
    pub fn create_stream(
        &mut self,
        name: &LogGroupName,
        stream: &str,
        now_ms: u64,
    ) -> Result<(), LogError> {
        self.make_room_to_open();
        let group = self.groups.get_mut(name).ok_or(LogError::NoGroup)?;
        let was_open = group.is_open();
        let made = group.make_stream(stream, now_ms, self.limits.segment_bytes_max);
        if made.is_err() {
            group.close();
        }
        self.open = self.open + usize::from(group.is_open()) - usize::from(was_open);
        let growth = made.map_err(unavailable("keep the stream"))?;
        self.total_bytes = self.total_bytes.saturating_add_signed(growth);
        Ok(())
    }

    pub fn delete_stream(&mut self, name: &LogGroupName, stream: &str) -> Result<(), LogError> {
        let group = self.groups.get_mut(name).ok_or(LogError::NoGroup)?;
        match group.delete_stream(stream).map_err(unavailable("delete the stream"))? {
            true => Ok(()),
            false => Err(LogError::NoStream),
        }
    }

    /// Writes a caller's events.
    pub fn put(
        &mut self,
        name: &LogGroupName,
        stream: &str,
        events: &[NewLogEvent],
        now_ms: u64,
    ) -> Result<(), LogError> {
        if !self.groups.contains_key(name) {
            return Err(LogError::NoGroup);
        }
        let entries: Vec<Entry<'_>> = events
            .iter()
            .map(|event| Entry { stream, time_ms: event.time_ms, text: event.message.as_bytes() })
            .collect();
        let written = self.append_group(name, &entries, now_ms);
        self.shrink();
        self.count();
        written.map_err(unavailable("write"))
    }

    /// Writes a batch, one write a group or a few. What cannot be written is
    /// lost, counted, and said once a batch: a full disk must not stop
    /// functions.
    pub fn append(&mut self, batch: &Batch, now_ms: u64) {
        let mut by_group: BTreeMap<&LogGroupName, Vec<Entry<'_>>> = BTreeMap::new();
        let mut rest = batch.text.as_slice();
        for line in &batch.lines {
            let (text, after) = rest.split_at(line.bytes as usize);
            rest = after;
            let entry = Entry { stream: &line.stream.stream, time_ms: line.time_ms, text };
            by_group.entry(&line.stream.group).or_default().push(entry);
        }
        let mut failed = None;
        for (name, entries) in by_group {
            if let Err(error) = self.append_group(name, &entries, now_ms) {
                failed = Some(error);
            }
        }
        if let Some(error) = failed {
            warn!(%error, "log lines could not be written");
        }
        self.shrink();
        self.count();
    }

    fn append_group(
        &mut self,
        name: &LogGroupName,
        entries: &[Entry<'_>],
        now_ms: u64,
    ) -> io::Result<()> {
        let mut rest = entries;
        let mut drops = 0;
        while !rest.is_empty() {
            match self.write_some(name, rest, now_ms) {
                Ok(written) => rest = &rest[written..],
                // The oldest lines are worth less than these.
                Err(error) if is_full(&error) && drops < DROPS_MAX && self.drop_oldest() => {
                    drops += 1;
                }
                Err(error) => {
                    self.stats.lost(rest.iter().map(|entry| entry.text.len()));
                    return Err(error);
                }
            }
        }
        self.scratch.shrink_to(1 << 20);
        let Some(group) = self.groups.get_mut(name) else { return Ok(()) };
        let mut bytes = group.bytes();
        while bytes > self.limits.group_bytes_max && group.segments.len() > 1 {
            let Some(dropped) = group.drop_oldest() else { break };
            bytes -= dropped;
            self.total_bytes -= dropped;
            self.stats.dropped(dropped);
        }
        Ok(())
    }

    fn write_some(
        &mut self,
        name: &LogGroupName,
        entries: &[Entry<'_>],
        now_ms: u64,
    ) -> io::Result<usize> {
        self.make_room_to_open();
        if !self.groups.contains_key(name) {
            self.begin_group(name, now_ms)?;
        }
        #[cfg(test)]
        let (played, total) = (self.disk_bytes_max, self.total_bytes);
        let room = |_bytes: usize| {
            #[cfg(test)]
            if played.is_some_and(|most| total + _bytes as u64 > most) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        };
        let Some(group) = self.groups.get_mut(name) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (was_open, before) = (group.is_open(), group.bytes());
        let scratch = &mut self.scratch;
        let written = group.write(entries, now_ms, self.limits.segment_bytes_max, scratch, room);
        if written.is_err() {
            group.close();
        }
        self.open = self.open + usize::from(group.is_open()) - usize::from(was_open);
        self.total_bytes = self.total_bytes + group.bytes() - before;
        written
    }

    /// A group that comes with a function's first line.
    fn begin_group(&mut self, name: &LogGroupName, now_ms: u64) -> io::Result<()> {
        if self.count_of(&name.account) >= self.limits.groups_max {
            // One that nobody asked for makes room; else these lines are lost.
            let mine = self.groups.iter().filter(|(other, _)| other.account == name.account);
            let idle = mine
                .filter(|(_, group)| !group.document.asked_for)
                .min_by_key(|(_, group)| group.segments.last().map_or(0, |part| part.last_ms));
            let Some(oldest) = idle.map(|(name, _)| name.clone()) else {
                return Err(io::Error::other("the account has too many log groups"));
            };
            self.remove(&oldest)?;
        }
        let document =
            Document { name: name.group.clone(), created_ms: now_ms, ..Document::default() };
        let dir = self.dir_of(name);
        // The name is in the segments too, and nothing else is to be lost.
        document.save(&dir, Flush::No)?;
        self.groups.insert(name.clone(), Group::new(dir, document));
        Ok(())
    }

    /// Drops what is older than its group keeps.
    pub fn expire(&mut self, now_ms: u64) {
        for group in self.groups.values_mut() {
            let was_open = group.is_open();
            while group.oldest_has_expired(now_ms) {
                let Some(dropped) = group.drop_oldest() else { break };
                self.total_bytes -= dropped;
            }
            self.open = self.open + usize::from(group.is_open()) - usize::from(was_open);
        }
        self.count();
    }

    /// Drops the segments written longest ago until all groups together fit.
    fn shrink(&mut self) {
        while self.total_bytes > self.limits.total_bytes_max && self.drop_oldest() {}
    }

    /// Whether there was one to drop.
    fn drop_oldest(&mut self) -> bool {
        let oldest = self
            .groups
            .iter()
            .filter_map(|(name, group)| Some((group.segments.first()?.last_ms, name)))
            .min()
            .map(|(_, name)| name.clone());
        let Some(group) = oldest.and_then(|name| self.groups.get_mut(&name)) else { return false };
        let was_open = group.is_open();
        let dropped = group.drop_oldest().unwrap_or(0);
        self.open = self.open + usize::from(group.is_open()) - usize::from(was_open);
        self.total_bytes -= dropped;
        self.stats.dropped(dropped);
        true
    }

    /// First out of the way, then away: a crash between leaves no half group.
    fn remove(&mut self, name: &LogGroupName) -> io::Result<()> {
        let Some(group) = self.groups.get(name) else { return Ok(()) };
        self.deleted += 1;
        let parent = group.dir.parent().unwrap_or(&self.dir).to_owned();
        let away = parent.join(format!(".deleted.{}", self.deleted));
        fs::rename(&group.dir, &away)?;
        sync_dir(&parent)?;
        if let Some(group) = self.groups.remove(name) {
            self.open -= usize::from(group.is_open());
            self.total_bytes -= group.bytes();
        }
        self.count();
        if let Err(error) = fs::remove_dir_all(&away) {
            // The next start does it.
            warn!(%error, path = %away.display(), "a deleted log group is still there");
        }
        Ok(())
    }

    /// As after a restart: what reading and writing taught is unknown again.
    #[cfg(test)]
    pub fn forget(&mut self) {
        for group in self.groups.values_mut() {
            group.close();
            for part in &mut group.segments {
                (part.span, part.index) = (None, None);
            }
        }
        self.open = 0;
    }

    fn make_room_to_open(&mut self) {
        if self.open >= OPEN_MAX {
            self.groups.values_mut().for_each(Group::close);
            self.open = 0;
        }
    }

    fn count_of(&self, account: &AccountId) -> usize {
        // Groups are few enough to be counted when one is made.
        self.groups.keys().filter(|name| name.account == *account).count()
    }

    fn count(&self) {
        self.stats.holds(self.total_bytes, self.groups.len());
    }

    fn dir_of(&self, name: &LogGroupName) -> PathBuf {
        self.dir.join(name.account.as_str()).join(name.region.as_str()).join(dir_name(&name.group))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn unavailable(step: &'static str) -> impl Fn(io::Error) -> LogError {
    move |error| LogError::Unavailable { step, why: error.to_string() }
}

fn is_deleted(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(".deleted.")
}

fn last_part(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
