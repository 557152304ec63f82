//! Bytes to frames, and fields to bytes. Not here: what the kinds mean.

use std::fmt;

/// Longest frame: a 6 MiB payload with its 100 spare bytes, and 1 MiB for the
/// headers beside it (Lambda's limit for request line and headers).
pub const FRAME_BYTES_MAX: usize = 6_291_556 + (1 << 20);

/// The other side broke the protocol; the stream cannot be trusted further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed frame: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Collects what was read from the stream and cuts it into frames.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl FrameBuffer {
    pub fn new() -> FrameBuffer {
        FrameBuffer::default()
    }

    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            // One large payload does not keep its memory for ever.
            if self.bytes.capacity() > 1 << 16 {
                self.bytes.shrink_to(1 << 12);
            }
        } else if self.start > 1 << 16 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// How many more bytes the frame at the front needs, as far as is known.
    pub fn wants(&self) -> usize {
        let rest = &self.bytes[self.start..];
        match rest.first_chunk::<4>() {
            None => 4 - rest.len(),
            Some(length) => (4 + u32::from_le_bytes(*length) as usize).saturating_sub(rest.len()),
        }
    }

    /// The next whole frame: its kind and fields, or `None` until more came.
    #[expect(clippy::should_implement_trait, reason = "what it returns borrows from it")]
    pub fn next(&mut self) -> Result<Option<(u8, &[u8])>, Malformed> {
        let rest = &self.bytes[self.start..];
        let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 {
            return Err(Malformed("empty"));
        }
        if length > FRAME_BYTES_MAX {
            return Err(Malformed("too long"));
        }
        if rest.len() - 4 < length {
            return Ok(None);
        }
        let frame = self.start + 4;
        self.start = frame + length;
        Ok(Some((self.bytes[frame], &self.bytes[frame + 1..frame + length])))
    }
}

/// Appends one frame to `out`.
pub(crate) fn write_frame(out: &mut Vec<u8>, kind: u8, fields: impl FnOnce(&mut Writer<'_>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    fields(&mut Writer { out });
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }
    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }
    pub fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }
    pub fn bytes(&mut self, value: &[u8]) {
        self.u32(value.len() as u32);
        self.out.extend_from_slice(value);
    }
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }
    /// Absent is written as a flag of 0.
    pub fn maybe_text(&mut self, value: Option<&str>) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                self.text(value);
            }
        }
    }
    pub fn maybe_u64(&mut self, value: Option<u64>) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                self.u64(value);
            }
        }
    }
    pub fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.u32(items.len() as u32);
        for item in items {
            each(self, item);
        }
    }
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(fields: &'a [u8]) -> Self {
        Reader { rest: fields }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Malformed("cut short"))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| Malformed("cut short"))
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        self.take(length)
    }
    pub fn text(&mut self) -> Result<String, Malformed> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("not UTF-8"))
    }
    pub fn maybe_text(&mut self) -> Result<Option<String>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.text().map(Some),
            _ => Err(Malformed("bad flag")),
        }
    }
    pub fn maybe_u64(&mut self) -> Result<Option<u64>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.u64().map(Some),
            _ => Err(Malformed("bad flag")),
        }
    }
    /// `item_bytes_min` bounds the count before anything is allocated.
    pub fn list<T>(
        &mut self,
        item_bytes_min: usize,
        mut each: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u32()? as usize;
        if count.saturating_mul(item_bytes_min) > self.rest.len() {
            return Err(Malformed("list longer than its frame"));
        }
        (0..count).map(|_| each(self)).collect()
    }

    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_arrives_in_any_cut() {
        let mut wire = Vec::new();
        write_frame(&mut wire, 7, |w| w.text("hello"));
        write_frame(&mut wire, 8, |w| w.u64(1));
        for cut in 1..wire.len() {
            let mut buffer = FrameBuffer::new();
            let mut kinds = Vec::new();
            for piece in wire.chunks(cut) {
                buffer.extend(piece);
                while let Some((kind, _)) = buffer.next().unwrap() {
                    kinds.push(kind);
                }
            }
            assert_eq!(kinds, [7, 8], "cut at {cut}");
        }
    }

    #[test]
    fn lengths_that_lie_are_refused_without_allocating() {
        let mut buffer = FrameBuffer::new();
        buffer.extend(&u32::MAX.to_le_bytes());
        assert_eq!(buffer.next(), Err(Malformed("too long")));
        let mut buffer = FrameBuffer::new();
        buffer.extend(&0u32.to_le_bytes());
        assert_eq!(buffer.next(), Err(Malformed("empty")));
        let mut reader = Reader::new(&[255, 255, 255, 255]);
        assert_eq!(reader.list(4, |r| r.u32()), Err(Malformed("list longer than its frame")));
        let mut reader = Reader::new(&[5, 0, 0, 0, b'a']);
        assert_eq!(reader.text(), Err(Malformed("cut short")));
    }
}
