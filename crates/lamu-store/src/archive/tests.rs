//! What good archives become, and what bad ones do not.

mod zips;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use zips::{DIRECTORY, Entry, deflated, entry, file, link, zip, zip64};

#[test]
fn files_come_out_with_their_bytes_and_modes() {
    let bytes = zip(&[
        entry("bin/", DIRECTORY, ""),
        entry("bin/run", 0o100_755, "#!"),
        file("./lib//a.py", "import b"),
        entry("lib/private", 0o100_600, "x"),
        entry("plain", 0, "no mode"),
        file("empty", ""),
    ]);

    let (home, summary) = unpacked(&bytes);

    let found = listing(&home.path().join("code"));
    let expected = [
        ("bin", "d755", ""),
        ("bin/run", "f755", "#!"),
        ("empty", "f644", ""),
        ("lib", "d755", ""),
        ("lib/a.py", "f644", "import b"),
        ("lib/private", "f600", "x"),
        ("plain", "f644", "no mode"),
    ];
    assert_eq!(found, described(&expected));
    assert_eq!(summary, Summary { unzipped_bytes: 2 + 8 + 1 + 7, entries: 7 });
    assert_eq!(mode(&home.path().join("code")), 0o755);
}

#[test]
fn deflated_entries_of_other_writers_are_read() {
    let text = "again and again, ".repeat(10_000);
    let bytes = deflated(&[("a/b", text.as_bytes()), ("c", b"")]);
    assert!(bytes.len() < text.len() / 10);

    let (home, summary) = unpacked(&bytes);

    assert_eq!(std::fs::read_to_string(home.path().join("code/a/b")).unwrap(), text);
    assert_eq!(summary.unzipped_bytes, text.len() as u64);
}

#[test]
fn special_mode_bits_are_lost_and_directories_stay_passable() {
    let bytes = zip(&[
        entry("shut/", 0o040_000, ""),
        entry("shut/setuid", 0o104_755, "x"),
        entry("sticky/", 0o043_777, ""),
        entry("setgid", 0o102_711, "x"),
        entry("fifo", 0o010_644, "is a file here"),
    ]);

    let (home, _) = unpacked(&bytes);

    let found = listing(&home.path().join("code"));
    let expected = [
        ("fifo", "f644", "is a file here"),
        ("setgid", "f711", "x"),
        ("shut", "d755", ""),
        ("shut/setuid", "f755", "x"),
        ("sticky", "d777", ""),
    ];
    assert_eq!(found, described(&expected));
}

#[test]
fn links_that_stay_inside_are_kept() {
    let bytes = zip(&[
        file("lib/v1/so", "bytes"),
        link("lib/current", "v1"),
        link("lib/v1/up", "../../lib/current/so"),
        link("dangling", "not/there/../yet"),
        link("circle", "circle"),
        link("lib/here", "."),
    ]);

    let (home, summary) = unpacked(&bytes);

    let code = home.path().join("code");
    assert_eq!(std::fs::read(code.join("lib/current/so")).unwrap(), b"bytes");
    assert_eq!(std::fs::read(code.join("lib/v1/up")).unwrap(), b"bytes");
    assert_eq!(std::fs::read_link(code.join("circle")).unwrap(), PathBuf::from("circle"));
    assert_eq!(summary.entries, 8);
}

#[test]
fn links_that_lead_out_are_refused() {
    let outside: [(&str, &[Entry]); 8] = [
        ("absolute", &[link("l", "/etc/passwd")]),
        ("above", &[link("l", "..")]),
        ("climbing", &[link("a/l", "../../etc")]),
        ("back and forth", &[file("d/f", ""), link("l", "d/../../etc")]),
        ("through the missing", &[link("l", "not/there/../../../etc")]),
        // Each stays inside by its letters; the second goes through the first.
        ("through a link to here", &[link("d", "."), link("e", "d/../etc")]),
        ("through links", &[link("a/b/c", "../.."), link("e", "a/b/c/../etc")]),
        ("nowhere", &[link("l", "")]),
    ];
    for (what, entries) in outside {
        assert_unreadable(what, &zip(entries), "link");
    }
    assert_unreadable("NUL", &zip(&[link("l", "a\0b")]), "link");
    assert_unreadable("long", &zip(&[link("l", "x/".repeat(2_100))]), "link");
}

#[test]
fn links_that_take_forever_to_follow_are_refused_soon() {
    // Each goes 2,000 times down and up, and then on to the next.
    let entries: Vec<_> = (0..2_000)
        .map(|number| link(format!("l{number}"), format!("{}l{}", "d/../".repeat(800), number + 1)))
        .collect();
    assert_unreadable("entangled", &zip(&entries), "entangled");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [
        "../evil",
        "a/../../evil",
        "a/..",
        "..",
        "/etc/passwd",
        "//x",
        "\\x",
        "..\\evil",
        "a\\..\\..\\evil",
        "C:\\evil",
        "c:/evil",
        "a\0b",
        "",
        ".",
        "./",
        "a/../b",
    ] {
        let bytes = zip(&[file("good", ""), file(name, "evil")]);
        if name == "./" {
            unpacked(&bytes);
        } else {
            assert_unreadable(name, &bytes, "name");
        }
    }
}

#[test]
fn names_that_only_look_odd_are_kept() {
    let names: [&[u8]; 7] =
        [b"a\\b", b"...", b"..a", b"c:", b"\xff\xfe", "\u{fc}ber".as_bytes(), b" \n"];
    let entries: Vec<_> = names.iter().map(|name| file(name, name)).collect();

    let (home, _) = unpacked(&zip(&entries));

    for name in names {
        let path = home.path().join("code").join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(std::fs::read(path).unwrap(), name);
    }
}

#[test]
fn names_are_as_long_and_deep_as_can_be_and_no_more() {
    let long = "n".repeat(255);
    let deep = "d/".repeat(127) + "f";
    let (home, _) = unpacked(&zip(&[file(&long, ""), file(&deep, "")]));
    assert!(home.path().join("code").join(deep).is_file());

    assert_unreadable("long name", &zip(&[file("n".repeat(256), "")]), "name");
    assert_unreadable("long path", &zip(&[file(format!("{long}/").repeat(15), "")]), "name");
    assert_unreadable("deep path", &zip(&[file("d/".repeat(128) + "f", "")]), "deep");
}

#[test]
fn nothing_is_in_two_ways_at_once() {
    let conflicts: [&[Entry]; 6] = [
        &[file("a", ""), file("a/b", "")],
        &[file("a/b", ""), file("a", "")],
        &[file("a", ""), entry("a/", DIRECTORY, "")],
        &[entry("a/", DIRECTORY, ""), file("a", "")],
        &[link("a", "b"), file("a/b", "")],
        &[link("a", "."), entry("a/b/", DIRECTORY, "")],
    ];
    for entries in conflicts {
        assert_unreadable("conflict", &zip(entries), "name");
    }
}

#[test]
fn of_the_same_name_the_last_counts() {
    let bytes = zip(&[
        file("a", "first"),
        file("./b", "first"),
        link("c", "b"),
        file("a", "second"),
        file("b", "second"),
        file("./c", "second"),
    ]);

    let (home, summary) = unpacked(&bytes);

    let found = listing(&home.path().join("code"));
    let expected = [("a", "f644", "second"), ("b", "f644", "second"), ("c", "f644", "second")];
    assert_eq!(found, described(&expected));
    assert_eq!(summary, Summary { unzipped_bytes: 18, entries: 3 });
}

#[test]
fn unpacked_bytes_are_limited_to_the_byte() {
    let bytes = zip(&[file("a", vec![0; 600]), file("b", vec![0; 400])]);
    let inspect = |unzipped_bytes_max| {
        inspect(Cursor::new(&bytes), &Limits { unzipped_bytes_max, ..Limits::default() })
    };
    assert_eq!(inspect(1_000).unwrap().unzipped_bytes, 1_000);
    assert!(matches!(inspect(999), Err(ArchiveError::TooLarge { bytes_max: 999 })));
}

#[test]
fn a_bomb_is_refused_for_what_it_is() {
    let zeros = vec![0; 131_072_001];
    let bytes = deflated(&[("a", &zeros), ("b", &zeros)]);
    assert!(bytes.len() < 1_000_000);
    assert!(matches!(inspect_default(&bytes), Err(ArchiveError::TooLarge { .. })));
    let home = tempfile::tempdir().unwrap();
    let limits = Limits { unzipped_bytes_max: 10_000_000, ..Limits::default() };
    let refused = extract(Cursor::new(&bytes), &home.path().join("code"), &limits);
    assert!(matches!(refused, Err(ArchiveError::TooLarge { .. })), "{refused:?}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "what was unpacked is there");
}

#[test]
fn a_bomb_that_says_it_is_small_is_refused() {
    let mut bytes = deflated(&[("a", &[0; 100_000])]);
    let honest = 100_000u32.to_le_bytes();
    let places: Vec<_> = (0..bytes.len() - 4).filter(|at| bytes[*at..at + 4] == honest).collect();
    assert_eq!(places.len(), 2, "once before the data, once in the directory");
    for at in places {
        bytes[at..at + 4].copy_from_slice(&10u32.to_le_bytes());
    }
    assert_unreadable("understated", &bytes, "larger");
}

#[test]
fn entries_that_overlap_are_refused() {
    let mut entries = vec![file("a", vec![7; 100_000])];
    for number in 0..500 {
        let mut again = entries[0].clone();
        again.name = format!("b{number}").into_bytes();
        again.shares = Some(0);
        entries.push(again);
    }
    let bytes = zip(&entries);
    assert!(bytes.len() < 200_000);
    assert_unreadable("overlapping", &bytes, "overlap");
}

#[test]
fn lies_about_an_entry_are_found() {
    let good = file("a", "some bytes");
    let lie = |change: fn(&mut Entry)| {
        let mut entry = good.clone();
        change(&mut entry);
        zip(&[file("before", "x"), entry, file("behind", "x")])
    };
    unpacked(&lie(|_| {}));
    assert_unreadable("crc", &lie(|entry| entry.crc ^= 1), "\"a\"");
    assert_unreadable("larger", &lie(|entry| entry.bytes += 1), "shorter");
    assert_unreadable("smaller", &lie(|entry| entry.bytes -= 1), "\"a\"");
    assert_unreadable("not deflated", &lie(|entry| entry.method = 8), "\"a\"");
    assert_unreadable("encrypted", &lie(|entry| entry.flags = 1), "encrypted");
    for method in [1, 9, 12, 14, 93, 95, 99] {
        let mut entry = good.clone();
        entry.method = method;
        assert_unreadable("method", &zip(&[entry]), "");
    }
}

#[test]
fn every_cut_off_archive_is_refused() {
    let bytes = zip(&[file("a", "some bytes"), file("b/c", vec![5; 300])]);
    for length in 0..bytes.len() {
        assert!(inspect_default(&bytes[..length]).is_err(), "cut to {length}");
    }
    let mut without_middle = bytes.clone();
    without_middle.drain(100..200);
    assert_unreadable("without its middle", &without_middle, "");
}

#[test]
fn empty_archives_are_empty() {
    for bytes in [&b""[..], &zip(&[])] {
        assert!(matches!(inspect_default(bytes), Err(ArchiveError::Empty)));
    }
    for bytes in [&b"x"[..], b"PK\x05\x06", &[0; 100_000]] {
        assert_unreadable("no archive", bytes, "");
    }
}

#[test]
fn more_than_65535_entries_are_read() {
    let entries: Vec<_> = (0..70_000).map(|number| file(format!("f{number}"), "")).collect();
    assert_eq!(inspect_default(&zip64(&entries)).unwrap().entries, 70_000);
    let (home, _) = unpacked(&zip64(&[file("a", "64")]));
    assert_eq!(std::fs::read(home.path().join("code/a")).unwrap(), b"64");
}

#[test]
fn too_many_entries_are_refused_however_they_come() {
    let limits = Limits { entries_max: 100, ..Limits::default() };
    let inspect = |entries: &[Entry]| inspect(Cursor::new(zip(entries)), &limits);
    let files: Vec<_> = (0..100).map(|number| file(format!("f{number}"), "")).collect();
    assert_eq!(inspect(&files).unwrap().entries, 100);
    // One more, and only as the directory of another.
    let mut more = files.clone();
    more[0].name = b"d/f".to_vec();
    let refused = inspect(&more).unwrap_err().to_string();
    assert!(refused.contains("more than 100"), "{refused}");
}

#[test]
fn an_archive_that_is_all_directory_is_refused_before_it_fills_memory() {
    let entries: Vec<_> = (0..600_000).map(|number| file(format!("{number}"), "")).collect();
    assert_unreadable("directory", &zip64(&entries), "directory is too long");
}

#[test]
fn something_before_the_archive_does_not_matter() {
    let mut bytes = b"#!/usr/bin/env python3\n".repeat(10);
    bytes.extend(zip(&[file("a", "behind a script")]));
    let (home, _) = unpacked(&bytes);
    assert_eq!(std::fs::read(home.path().join("code/a")).unwrap(), b"behind a script");
}

#[test]
fn a_disk_that_fails_is_not_the_archives_fault() {
    struct Broken(Cursor<Vec<u8>>, u64);
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let at = self.0.position();
            match (at..at + buf.len() as u64).contains(&self.1) {
                true => Err(io::Error::from_raw_os_error(5)),
                false => self.0.read(buf),
            }
        }
    }
    impl Seek for Broken {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    let bytes = zip(&[file("a", vec![1; 200_000])]);
    for at in [100_000, bytes.len() as u64 - 30] {
        let failed = inspect(Broken(Cursor::new(bytes.clone()), at), &Limits::default());
        let Err(ArchiveError::Io { source, .. }) = failed else { panic!("{failed:?}") };
        assert_eq!(source.raw_os_error(), Some(5));
    }
}

#[test]
fn what_is_there_already_is_not_touched() {
    let home = tempfile::tempdir().unwrap();
    let code = home.path().join("code");
    std::fs::create_dir(&code).unwrap();
    std::fs::write(code.join("mine"), "precious").unwrap();
    let refused = extract(Cursor::new(zip(&[file("mine", "")])), &code, &Limits::default());
    assert!(matches!(refused, Err(ArchiveError::Io { .. })), "{refused:?}");
    assert_eq!(std::fs::read(code.join("mine")).unwrap(), b"precious");
}

/// Thousands of small damages to a good archive: no panic, nothing written
/// outside, no link out, and both ways of reading agree.
#[test]
fn damaged_archives_do_no_harm() {
    let deflated = deflated(&[("x/y", &b"abc ".repeat(500)), ("z", b"zz")]);
    let stored = zip64(&[
        entry("bin/", DIRECTORY, ""),
        entry("bin/a", 0o100_755, "some bytes"),
        link("bin/l", "../lib/b"),
        link("up", "bin/l/../l"),
        file("lib/b", "more bytes"),
        file("lib/c", vec![9; 400]),
    ]);
    let limits = Limits { unzipped_bytes_max: 100_000, entries_max: 50 };
    let mut random = Random(0x1234_5678_9abc_def1);
    let (mut good, mut bad) = (0, 0);
    for round in 0..6_000 {
        let mut bytes = if round % 2 == 0 { deflated.clone() } else { stored.clone() };
        for _ in 0..1 + random.below(4) {
            damage(&mut bytes, &mut random);
        }
        let home = tempfile::tempdir().unwrap();
        let code = home.path().join("in/code");
        std::fs::create_dir(home.path().join("in")).unwrap();

        let inspected = inspect(Cursor::new(&bytes), &limits);
        let extracted = extract(Cursor::new(&bytes), &code, &limits);

        match (&inspected, &extracted) {
            (Ok(inspected), Ok(extracted)) => {
                assert_eq!(inspected, extracted);
                assert_nothing_leads_out(&code, &code);
                good += 1;
            }
            (Err(_), Err(_)) => {
                assert!(!code.exists(), "a refused archive left something");
                bad += 1;
            }
            disagree => panic!("round {round}: {disagree:?}"),
        }
        let outside: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
        assert_eq!(outside.len(), 1);
        assert!(std::fs::read_dir(home.path().join("in")).unwrap().count() <= 1);
    }
    assert!(good > 100 && bad > 100, "{good} good, {bad} bad: the damage shows nothing");
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    const PIECES: [&[u8]; 8] = [
        b"../",
        b"/",
        b"..",
        b"\0",
        b"\xff\xff\xff\xff",
        b"PK\x01\x02",
        b"PK\x05\x06",
        b"\xa1\xff",
    ];
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => bytes[at] = random.below(256) as u8,
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes.truncate(at.max(1)),
        3 => drop(bytes.drain(at..(at + random.below(40)).min(bytes.len() - 1).max(at))),
        4 => {
            let piece = bytes[at..(at + random.below(80)).min(bytes.len())].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        _ => {
            let piece = PIECES[random.below(PIECES.len())];
            let end = (at + piece.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&piece[..end - at]);
        }
    }
}

fn assert_nothing_leads_out(root: &Path, directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_symlink() {
            // A link to nothing is checked with the tree; this one goes somewhere.
            if let Ok(end) = path.canonicalize() {
                assert!(end.starts_with(root.canonicalize().unwrap()), "{path:?} leads to {end:?}");
            }
        } else if kind.is_dir() {
            assert_nothing_leads_out(root, &path);
        }
    }
}

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % end.max(1)
    }
}

fn inspect_default(bytes: &[u8]) -> Result<Summary, ArchiveError> {
    inspect(Cursor::new(bytes), &Limits::default())
}

/// Unpacked below `code`; inspecting says the same.
#[track_caller]
fn unpacked(bytes: &[u8]) -> (TempDir, Summary) {
    let home = tempfile::tempdir().unwrap();
    let summary =
        extract(Cursor::new(bytes), &home.path().join("code"), &Limits::default()).unwrap();
    assert_eq!(inspect_default(bytes).unwrap(), summary);
    (home, summary)
}

/// Refused by both, for a reason that says `word`, and nothing is left.
#[track_caller]
fn assert_unreadable(what: &str, bytes: &[u8], word: &str) {
    let home = tempfile::tempdir().unwrap();
    let code = home.path().join("code");
    let extracted = extract(Cursor::new(bytes), &code, &Limits::default());
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "{what} left something");
    for result in [inspect_default(bytes), extracted] {
        match result {
            Err(ArchiveError::Unreadable { why }) => {
                assert!(why.contains(word), "{what}: {why:?} does not say {word:?}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

fn listing(root: &Path) -> BTreeMap<PathBuf, (String, String)> {
    fn list(root: &Path, at: &Path, found: &mut BTreeMap<PathBuf, (String, String)>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let is_dir = std::fs::symlink_metadata(&path).unwrap().is_dir();
            let kind = format!("{}{:o}", if is_dir { 'd' } else { 'f' }, mode(&path));
            let bytes =
                if is_dir { String::new() } else { std::fs::read_to_string(&path).unwrap() };
            found.insert(path.strip_prefix(root).unwrap().to_path_buf(), (kind, bytes));
            if is_dir {
                list(root, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    list(root, root, &mut found);
    found
}

fn described(expected: &[(&str, &str, &str)]) -> BTreeMap<PathBuf, (String, String)> {
    let one = |(path, kind, bytes): &(&str, &str, &str)| {
        (PathBuf::from(path), (kind.to_string(), bytes.to_string()))
    };
    expected.iter().map(one).collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}
