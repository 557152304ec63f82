//! Zip archives to the byte, good ones and impossible ones.

use std::io::{Cursor, Write as _};

use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

pub const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;

/// One entry, in which every field may lie.
#[derive(Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub packed: Vec<u8>,
    pub bytes: u32,
    pub crc: u32,
    pub method: u16,
    pub flags: u16,
    pub mode: u32,
    /// Its data lies where that of this entry does.
    pub shares: Option<usize>,
}

/// A stored entry that tells the truth.
pub fn entry(name: impl AsRef<[u8]>, mode: u32, bytes: impl AsRef<[u8]>) -> Entry {
    let bytes = bytes.as_ref();
    Entry {
        name: name.as_ref().to_vec(),
        packed: bytes.to_vec(),
        bytes: bytes.len() as u32,
        crc: crc(bytes),
        method: 0,
        flags: 0,
        mode,
        shares: None,
    }
}

pub fn file(name: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Entry {
    entry(name, FILE, bytes)
}

pub fn link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    entry(name, LINK, target)
}

pub fn zip(entries: &[Entry]) -> Vec<u8> {
    build(entries, false)
}

/// With the records that count past 65,535 entries and 4 GiB.
pub fn zip64(entries: &[Entry]) -> Vec<u8> {
    build(entries, true)
}

/// By the writer that others use, deflated.
pub fn deflated(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in entries {
        writer.start_file(*name, options.unix_permissions(0o755)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn build(entries: &[Entry], large: bool) -> Vec<u8> {
    let mut zip = Vec::new();
    let mut offsets: Vec<u32> = Vec::new();
    for entry in entries {
        if let Some(other) = entry.shares {
            offsets.push(offsets[other]);
            continue;
        }
        offsets.push(zip.len() as u32);
        u32s(&mut zip, &[LOCAL]);
        u16s(&mut zip, &[20, entry.flags, entry.method, 0, 0x21]);
        u32s(&mut zip, &[entry.crc, entry.packed.len() as u32, entry.bytes]);
        u16s(&mut zip, &[entry.name.len() as u16, 0]);
        zip.extend_from_slice(&entry.name);
        zip.extend_from_slice(&entry.packed);
    }
    let start = zip.len();
    for (entry, offset) in entries.iter().zip(&offsets) {
        u32s(&mut zip, &[CENTRAL]);
        u16s(&mut zip, &[3 << 8 | 20, 20, entry.flags, entry.method, 0, 0x21]);
        u32s(&mut zip, &[entry.crc, entry.packed.len() as u32, entry.bytes]);
        u16s(&mut zip, &[entry.name.len() as u16, 0, 0, 0, 0]);
        u32s(&mut zip, &[entry.mode << 16, *offset]);
        zip.extend_from_slice(&entry.name);
    }
    let (end, count) = (zip.len(), entries.len() as u64);
    if large {
        u32s(&mut zip, &[END64]);
        u64s(&mut zip, &[44]);
        u16s(&mut zip, &[45, 45]);
        u32s(&mut zip, &[0, 0]);
        u64s(&mut zip, &[count, count, (end - start) as u64, start as u64]);
        u32s(&mut zip, &[LOCATOR64, 0]);
        u64s(&mut zip, &[end as u64]);
        u32s(&mut zip, &[1]);
    }
    u32s(&mut zip, &[END]);
    let (count, start) =
        if large { (u16::MAX, u32::MAX) } else { (entries.len() as u16, start as u32) };
    u16s(&mut zip, &[0, 0, count, count]);
    u32s(&mut zip, &[if large { u32::MAX } else { (end as u32) - start }, start]);
    u16s(&mut zip, &[0]);
    zip
}

fn u16s(zip: &mut Vec<u8>, numbers: &[u16]) {
    zip.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

fn u32s(zip: &mut Vec<u8>, numbers: &[u32]) {
    zip.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

fn u64s(zip: &mut Vec<u8>, numbers: &[u64]) {
    zip.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}
