//! What an archive's names make together: a tree of directories, files and
//! links, in which nothing is in two ways and no link leads out.
//!
//! Names are bytes, as on the file system they will be on. Pure: no archive and
//! no file system is touched.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::ArchiveError;

/// What Linux allows one name.
const NAME_BYTES_MAX: usize = 255;

/// Linux allows 4,096 for a whole path; the rest is for where it is unpacked.
const PATH_BYTES_MAX: usize = 3_800;

/// Removing a tree holds one file open for each level, and 1,024 may be.
const DEPTH_MAX: usize = 128;

/// Links that Linux follows before it gives up with ELOOP.
const FOLLOWED_MAX: usize = 40;

/// Names looked up to see where all links lead: milliseconds for what packages
/// hold, a second for what is made to take forever.
const STEPS_MAX: usize = 5_000_000;

const ROOT: usize = 0;

#[derive(Debug)]
pub struct Tree {
    /// Only directories have children; the first is the root.
    nodes: Vec<Node>,
    nodes_max: usize,
}

#[derive(Debug)]
struct Node {
    parent: usize,
    kind: Kind,
}

#[derive(Debug)]
pub enum Kind {
    Directory {
        mode: u32,
        children: BTreeMap<Box<[u8]>, usize>,
    },
    File {
        entry: usize,
        mode: u32,
    },
    /// `target` is empty until [`Tree::aim`].
    Link {
        entry: usize,
        target: Box<[u8]>,
    },
}

/// One node as a visitor sees it.
#[derive(Debug)]
pub struct Item<'a> {
    pub node: usize,
    pub kind: &'a Kind,
}

impl Item<'_> {
    pub fn is_root(&self) -> bool {
        self.node == ROOT
    }
}

impl Tree {
    pub fn new(nodes_max: usize) -> Tree {
        let kind = Kind::Directory { mode: 0, children: BTreeMap::new() };
        Tree { nodes: vec![Node { parent: ROOT, kind }], nodes_max }
    }

    /// Everything but the root.
    pub fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    pub fn add_directory(&mut self, name: &[u8], mode: u32) -> Result<(), ArchiveError> {
        let mut at = ROOT;
        for component in components(name)? {
            at = self.enter(at, component, name)?;
        }
        match &mut self.nodes[at].kind {
            Kind::Directory { mode: there, .. } => *there = mode,
            Kind::File { .. } | Kind::Link { .. } => unreachable!("only directories are entered"),
        }
        Ok(())
    }

    pub fn add_file(&mut self, name: &[u8], entry: usize, mode: u32) -> Result<(), ArchiveError> {
        self.add_leaf(name, Kind::File { entry, mode })
    }

    pub fn add_link(&mut self, name: &[u8], entry: usize) -> Result<(), ArchiveError> {
        self.add_leaf(name, Kind::Link { entry, target: Box::default() })
    }

    /// Gives every link what it points to, unless one leads out of the tree.
    pub fn aim(&mut self, links: Vec<(usize, Vec<u8>)>) -> Result<(), ArchiveError> {
        let aimed: Vec<usize> = links.iter().map(|(node, _)| *node).collect();
        for (node, bytes) in links {
            if bytes.is_empty() || bytes.contains(&0) || bytes.starts_with(b"/") {
                let why = format!("a link points to {}", shown(&bytes));
                return Err(ArchiveError::Unreadable { why });
            }
            match &mut self.nodes[node].kind {
                Kind::Link { target, .. } => *target = bytes.into(),
                Kind::Directory { .. } | Kind::File { .. } => unreachable!("only links are aimed"),
            }
        }
        let mut steps = STEPS_MAX;
        aimed.into_iter().try_for_each(|node| self.follow(node, &mut steps))
    }

    /// Parents before their children, siblings by name.
    pub fn visit(
        &self,
        see: &mut impl FnMut(&Path, Item<'_>) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        self.visit_below(ROOT, &mut PathBuf::new(), see)
    }

    fn visit_below(
        &self,
        node: usize,
        path: &mut PathBuf,
        see: &mut impl FnMut(&Path, Item<'_>) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let kind = &self.nodes[node].kind;
        see(path, Item { node, kind })?;
        if let Kind::Directory { children, .. } = kind {
            for (name, child) in children {
                path.push(OsStr::from_bytes(name));
                self.visit_below(*child, path, see)?;
                path.pop();
            }
        }
        Ok(())
    }

    fn add_leaf(&mut self, name: &[u8], kind: Kind) -> Result<(), ArchiveError> {
        let components = components(name)?;
        let Some((last, parents)) = components.split_last() else {
            return refused(name, "names no file");
        };
        let mut at = ROOT;
        for component in parents {
            at = self.enter(at, component, name)?;
        }
        match self.child(at, last) {
            None => self.insert(at, last, kind).map(|_| ()),
            Some(there) => match &mut self.nodes[there].kind {
                Kind::Directory { .. } => refused(name, "is a directory as well"),
                // The later entry counts, as with every other unzip.
                there => {
                    *there = kind;
                    Ok(())
                }
            },
        }
    }

    /// The directory `name` in `at`, made if it is missing.
    fn enter(&mut self, at: usize, name: &[u8], whole: &[u8]) -> Result<usize, ArchiveError> {
        match self.child(at, name) {
            None => self.insert(at, name, Kind::Directory { mode: 0, children: BTreeMap::new() }),
            Some(there) => match self.nodes[there].kind {
                Kind::Directory { .. } => Ok(there),
                Kind::File { .. } => refused(whole, "goes through a file"),
                Kind::Link { .. } => refused(whole, "goes through a link"),
            },
        }
    }

    fn child(&self, at: usize, name: &[u8]) -> Option<usize> {
        match &self.nodes[at].kind {
            Kind::Directory { children, .. } => children.get(name).copied(),
            Kind::File { .. } | Kind::Link { .. } => None,
        }
    }

    fn insert(&mut self, at: usize, name: &[u8], kind: Kind) -> Result<usize, ArchiveError> {
        if self.len() >= self.nodes_max {
            let why = format!("it has more than {} files and directories", self.nodes_max);
            return Err(ArchiveError::Unreadable { why });
        }
        let node = self.nodes.len();
        self.nodes.push(Node { parent: at, kind });
        match &mut self.nodes[at].kind {
            Kind::Directory { children, .. } => children.insert(name.into(), node),
            Kind::File { .. } | Kind::Link { .. } => unreachable!("only directories are entered"),
        };
        Ok(node)
    }

    /// Goes where the kernel would go, and refuses the step above the root.
    /// What does not exist is taken for a directory.
    fn follow(&self, link: usize, steps: &mut usize) -> Result<(), ArchiveError> {
        let mut at = self.ancestors(link);
        let mut ahead = self.reversed_target(link);
        let mut followed = 1;
        while let Some(name) = ahead.pop() {
            *steps = steps.checked_sub(1).ok_or_else(|| ArchiveError::Unreadable {
                why: "its links are too entangled".into(),
            })?;
            match name {
                b"" | b"." => {}
                b".." if at.len() == 1 => {
                    let why = match &self.nodes[link].kind {
                        Kind::Link { target, .. } => {
                            format!("a link to {} leads out of it", shown(target))
                        }
                        _ => "a link leads out of it".into(),
                    };
                    return Err(ArchiveError::Unreadable { why });
                }
                b".." => {
                    at.pop();
                }
                name => match at.last().copied().flatten().and_then(|at| self.child(at, name)) {
                    Some(there) if matches!(self.nodes[there].kind, Kind::Link { .. }) => {
                        followed += 1;
                        // It leads in circles, and so nowhere.
                        if followed > FOLLOWED_MAX {
                            return Ok(());
                        }
                        ahead.extend(self.reversed_target(there));
                    }
                    there => at.push(there),
                },
            }
        }
        Ok(())
    }

    /// The directories that contain `node`, from the root on.
    fn ancestors(&self, node: usize) -> Vec<Option<usize>> {
        let mut ancestors = Vec::new();
        let mut at = node;
        while at != ROOT {
            at = self.nodes[at].parent;
            ancestors.push(Some(at));
        }
        ancestors.reverse();
        ancestors
    }

    fn reversed_target(&self, link: usize) -> Vec<&[u8]> {
        match &self.nodes[link].kind {
            Kind::Link { target, .. } => target.split(|byte| *byte == b'/').rev().collect(),
            Kind::Directory { .. } | Kind::File { .. } => Vec::new(),
        }
    }
}

/// A name from an archive for a message: short, and on one line.
pub fn shown(name: &[u8]) -> String {
    const SHOWN_MAX: usize = 80;
    let mut text = String::new();
    for (count, char) in String::from_utf8_lossy(name).chars().enumerate() {
        if count == SHOWN_MAX {
            text.push('…');
            break;
        }
        // Writing to a string does not fail.
        let _ = write!(text, "{}", char.escape_debug());
    }
    format!("\"{text}\"")
}

/// The parts of a name, unless it is one that leads elsewhere.
fn components(name: &[u8]) -> Result<Vec<&[u8]>, ArchiveError> {
    if name.is_empty() {
        return refused(name, "is empty");
    }
    if name.contains(&0) {
        return refused(name, "contains a NUL");
    }
    if name.len() > PATH_BYTES_MAX {
        return refused(name, "is longer than a path can be");
    }
    // Either slash begins and separates, as where a backslash is one; a file
    // whose name merely contains a backslash is harmless here.
    let is_slash = |byte: u8| byte == b'/' || byte == b'\\';
    let is_drive = |name: &[u8]| {
        name.len() > 2 && name[0].is_ascii_alphabetic() && name[1] == b':' && is_slash(name[2])
    };
    if is_slash(name[0]) || is_drive(name) {
        return refused(name, "is absolute");
    }
    if name.split(|byte| is_slash(*byte)).any(|part| part == b"..") {
        return refused(name, "leads out of it");
    }
    let parts: Vec<_> =
        name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.len() > DEPTH_MAX {
        return refused(name, "is too deep");
    }
    if parts.iter().any(|part| part.len() > NAME_BYTES_MAX) {
        return refused(name, "has a part longer than a name can be");
    }
    Ok(parts)
}

fn refused<T>(name: &[u8], why: &str) -> Result<T, ArchiveError> {
    Err(ArchiveError::Unreadable { why: format!("the name {} {why}", shown(name)) })
}
