//! Bytes of the runtime's output to log records.
//!
//! `LineCutter` cuts plain output (stdout, stderr) at line ends. `FrameCutter`
//! reads the framed pipe of managed runtimes: a big-endian header of type
//! (`0xa55a` and flags in the lower half; flag 2: a timestamp follows),
//! `u32` length, and `u64` microseconds if flagged; then the record, which may
//! hold line ends.
//!
//! Not here: pipes, and what becomes of a record.

/// Lambda's limit for one log line; what is longer becomes several records.
pub const RECORD_BYTES_MAX: usize = 256 << 10;

const MAGIC: u16 = 0xa55a;
const HAS_TIMESTAMP: u16 = 2;

#[derive(Debug, Default)]
pub struct LineCutter {
    partial: Vec<u8>,
}

impl LineCutter {
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.keep(&bytes[..end], &mut each);
            each(&self.partial);
            self.partial.clear();
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes, &mut each);
        if self.partial.is_empty() && self.partial.capacity() > 8 << 10 {
            self.partial = Vec::new();
        }
    }

    /// The last line, if it did not end.
    pub fn flush(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            each(&self.partial);
            self.partial.clear();
        }
    }

    fn keep(&mut self, mut bytes: &[u8], each: &mut impl FnMut(&[u8])) {
        while self.partial.len() + bytes.len() > RECORD_BYTES_MAX {
            let (head, rest) = bytes.split_at(RECORD_BYTES_MAX - self.partial.len());
            self.partial.extend_from_slice(head);
            each(&self.partial);
            self.partial.clear();
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
    }
}

#[derive(Debug, Default)]
pub struct FrameCutter {
    header: Vec<u8>,
    record: Vec<u8>,
    /// Bytes that the frame under way still lacks, and its time.
    open: Option<(usize, Option<u64>)>,
    /// Output of programs that write to this pipe without framing.
    lines: LineCutter,
}

impl FrameCutter {
    /// `each` gets a record and, where the frame has one, its time in
    /// milliseconds since the epoch.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], Option<u64>)) {
        loop {
            if let Some((lacking, time)) = self.open {
                let room = RECORD_BYTES_MAX - self.record.len();
                let count = lacking.min(bytes.len()).min(room);
                let (taken, rest) = bytes.split_at(count);
                bytes = rest;
                self.record.extend_from_slice(taken);
                if lacking == count {
                    // Loggers end their records like lines.
                    let record = self.record.strip_suffix(b"\n").unwrap_or(&self.record);
                    each(record, time);
                    self.record = Vec::new();
                    self.open = None;
                } else {
                    self.open = Some((lacking - count, time));
                    if self.record.len() < RECORD_BYTES_MAX {
                        return;
                    }
                    each(&self.record, time);
                    self.record.clear();
                }
            } else if bytes.is_empty() {
                return;
            } else {
                self.header.push(bytes[0]);
                bytes = &bytes[1..];
                self.read_header(&mut each);
            }
        }
    }

    pub fn flush(&mut self, mut each: impl FnMut(&[u8], Option<u64>)) {
        let header = std::mem::take(&mut self.header);
        self.lines.feed(&header, |line| each(line, None));
        self.lines.flush(|line| each(line, None));
        if let Some((_, time)) = self.open.take()
            && !self.record.is_empty()
        {
            each(&self.record, time);
        }
        self.record = Vec::new();
    }

    fn read_header(&mut self, each: &mut impl FnMut(&[u8], Option<u64>)) {
        let magic = MAGIC.to_be_bytes();
        let length = self.header.len();
        if self.header[..length.min(2)] != magic[..length.min(2)] {
            // Not a frame: the first byte is plain output, the rest may be
            // the start of a frame.
            let plain = self.header.remove(0);
            self.lines.feed(&[plain], |line| each(line, None));
            return;
        }
        let Some(flags) = self.header.get(2..4) else { return };
        let has_timestamp = u16::from_be_bytes([flags[0], flags[1]]) & HAS_TIMESTAMP != 0;
        if length < if has_timestamp { 16 } else { 8 } {
            return;
        }
        self.lines.flush(|line| each(line, None));
        let bytes = u32::from_be_bytes(self.header[4..8].try_into().unwrap_or_default());
        let time = has_timestamp
            .then(|| u64::from_be_bytes(self.header[8..16].try_into().unwrap_or_default()) / 1000);
        self.header.clear();
        self.open = Some((bytes as usize, time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut cutter = LineCutter::default();
        let mut records = Vec::new();
        let mut each = |record: &[u8]| records.push(String::from_utf8_lossy(record).into_owned());
        for piece in pieces {
            cutter.feed(piece, &mut each);
        }
        cutter.flush(&mut each);
        records
    }

    #[test]
    fn lines_are_cut_wherever_reads_end() {
        assert_eq!(lines(&[b"a\nb", b"c\n", b"\n", b"tail"]), ["a", "bc", "", "tail"]);
    }

    #[test]
    fn a_long_line_becomes_several_records() {
        let long = vec![b'x'; RECORD_BYTES_MAX * 2 + 5];
        let records = lines(&[&long, b"\nend\n"]);
        let lengths: Vec<_> = records.iter().map(String::len).collect();
        assert_eq!(lengths, [RECORD_BYTES_MAX, RECORD_BYTES_MAX, 5, 3]);
    }

    fn frame(kind: u32, time_us: Option<u64>, record: &[u8]) -> Vec<u8> {
        let mut wire = kind.to_be_bytes().to_vec();
        wire.extend_from_slice(&(record.len() as u32).to_be_bytes());
        if let Some(time) = time_us {
            wire.extend_from_slice(&time.to_be_bytes());
        }
        wire.extend_from_slice(record);
        wire
    }

    fn frames(wire: &[u8], cut: usize) -> Vec<(Vec<u8>, Option<u64>)> {
        let mut cutter = FrameCutter::default();
        let mut records = Vec::new();
        for piece in wire.chunks(cut) {
            cutter.feed(piece, |record, time| records.push((record.to_vec(), time)));
        }
        cutter.flush(|record, time| records.push((record.to_vec(), time)));
        records
    }

    #[test]
    fn a_frame_is_one_record_in_any_cut() {
        let mut wire = frame(0xa55a_0003, Some(5_000), b"a\nb");
        wire.extend(frame(0xa55a_0001, None, b"old\n"));
        wire.extend(frame(0xa55a_001a, Some(7_999), b"{}"));
        wire.extend(frame(0xa55a_0003, Some(1_000), b""));
        for cut in 1..wire.len() {
            assert_eq!(
                frames(&wire, cut),
                [
                    (b"a\nb".to_vec(), Some(5)),
                    (b"old".to_vec(), None),
                    (b"{}".to_vec(), Some(7)),
                    (vec![], Some(1)),
                ]
            );
        }
    }

    #[test]
    fn plain_text_on_the_framed_pipe_is_kept_as_lines() {
        let mut wire = b"plain\nrest".to_vec();
        wire.extend(frame(0xa55a_0003, Some(2_000), b"framed"));
        for cut in 1..wire.len() {
            let records: Vec<_> =
                frames(&wire, cut).into_iter().map(|(record, _)| record).collect();
            assert_eq!(records, [b"plain".to_vec(), b"rest".to_vec(), b"framed".to_vec()]);
        }
    }

    #[test]
    fn a_frame_that_lies_about_its_length_is_cut_at_the_bound() {
        let mut wire = frame(0xa55a_0003, Some(1_000), b"");
        wire[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        wire.extend(vec![b'z'; RECORD_BYTES_MAX + 10]);
        let lengths: Vec<_> = frames(&wire, 4096).into_iter().map(|(r, _)| r.len()).collect();
        assert_eq!(lengths, [RECORD_BYTES_MAX, 10]);
    }
}
