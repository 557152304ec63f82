//! What is kept of a group beside its events: `group.json` in its directory.
//!
//! Written whole beside the old one and renamed over it, so one of the two is
//! always there. Not here: the events (`segment`), when it changes (`group`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

const FILE: &str = "group.json";
const NEW_FILE: &str = "group.json.new";
const DAY_MS: u64 = 86_400_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub name: String,
    pub created_ms: u64,
    #[serde(default)]
    pub retention_days: Option<u32>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub class: Option<String>,
    #[serde(default)]
    pub deletion_protected: bool,
    /// Somebody asked for the group or set something of it; others came with
    /// a function's first line.
    #[serde(default)]
    pub asked_for: bool,
    /// Times of the first and last event of segments that are written no
    /// more, by their first id.
    #[serde(default)]
    pub spans: BTreeMap<u64, (u64, u64)>,
}

/// Whether the document must outlive a power cut when the call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    Yes,
    No,
}

impl Document {
    /// Events before this time are no more.
    pub fn cutoff_ms(&self, now_ms: u64) -> u64 {
        self.retention_days.map_or(0, |days| now_ms.saturating_sub(u64::from(days) * DAY_MS))
    }

    /// How long one segment is written to: a part of the retention, so that
    /// what is dropped as a whole is little late.
    pub fn segment_age_ms_max(&self) -> u64 {
        self.retention_days.map_or(u64::MAX, |days| (u64::from(days) * DAY_MS / 8).max(DAY_MS))
    }

    /// `None` when there is none that can be read.
    pub fn load(dir: &Path) -> Option<Document> {
        let path = dir.join(FILE);
        let read = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        match read {
            Ok(document) => Some(document),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(%error, path = %path.display(), "a log group's document is damaged");
                None
            }
        }
    }

    pub fn save(&self, dir: &Path, flush: Flush) -> io::Result<()> {
        make_dir(dir)?;
        let new = dir.join(NEW_FILE);
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        if flush == Flush::Yes {
            file.sync_all()?;
        }
        fs::rename(&new, dir.join(FILE))?;
        if flush == Flush::Yes {
            sync_dir(dir)?;
            dir.parent().map_or(Ok(()), sync_dir)?;
        }
        Ok(())
    }
}

/// Makes what was renamed or made in a directory outlive a power cut.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a group's directory, `<store>/<account>/<region>/<group>`, but never
/// the store's own: one that was taken away under us stays away.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    let outer: Vec<&Path> = dir.ancestors().take(3).collect();
    for dir in outer.into_iter().rev() {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_there_after_it_was_saved_and_old_ones_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("g");
        assert_eq!(Document::load(&group), None);
        let document =
            Document { name: "/g".into(), retention_days: Some(7), ..Document::default() };
        document.save(&group, Flush::Yes).unwrap();
        assert_eq!(Document::load(&group), Some(document));

        fs::write(group.join(FILE), r#"{"name": "/g", "created_ms": 5}"#).unwrap();
        let old = Document { name: "/g".into(), created_ms: 5, ..Document::default() };
        assert_eq!(Document::load(&group), Some(old));
        fs::write(group.join(FILE), "").unwrap();
        assert_eq!(Document::load(&group), None);
    }

    #[test]
    fn retention_counts_back_from_now() {
        let mut document = Document::default();
        assert_eq!(document.cutoff_ms(10 * DAY_MS), 0);
        assert_eq!(document.segment_age_ms_max(), u64::MAX);
        document.retention_days = Some(3);
        assert_eq!(document.cutoff_ms(10 * DAY_MS), 7 * DAY_MS);
        assert_eq!(document.cutoff_ms(5), 0);
        assert_eq!(document.segment_age_ms_max(), DAY_MS);
        document.retention_days = Some(80);
        assert_eq!(document.segment_age_ms_max(), 10 * DAY_MS);
    }
}
