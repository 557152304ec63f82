//! The Runtime API without HTTP, for lamu's own bootstraps, over a stream
//! socket that the runtime inherits as descriptor `_LAMU_RUNTIME_FD`.
//!
//! Integers are little endian. Init sends an event when one is asked for:
//!
//! ```text
//! u32  length of what follows
//! u64  deadline, milliseconds since the epoch
//! u32  x 6: lengths of request id, function ARN, trace id, client context,
//!      Cognito identity, tenant id (0 where there is none)
//! these six texts, then the event as the rest
//! ```
//!
//! The bootstrap sends, and gets no answer to (it may send a report and the
//! next `next` in one write):
//!
//! ```text
//! u32  length of what follows, u8 kind
//! 1 next
//! 2 response    u8 length, request id; u8 length, content type (empty:
//!               application/json); the body as the rest
//! 3 error       u8 length, request id; u8 length, error type; error JSON
//! 4 init error  u8 length, error type; error JSON
//! 5 stream      u8 length, request id; u8 length, content type as in 2
//! 6 piece       of the stream that was begun; 1 to 65536 bytes as the rest
//! 7 stream end  u8 length, error type (empty: it is complete); error JSON
//! ```
//!
//! The order of calls is that of the Runtime API (`state`). Whoever breaks it
//! or the framing finds the socket closed.
//!
//! A stream may be sent ahead of who takes it: the socket is not read when
//! there is no room, so a bootstrap waits until its write is through.
//!
//! Not here: the socket itself, the order of calls.

use lamu_guest::{Invoke, STREAM_CHUNK_BYTES_MAX};

use crate::stream::Ending;

/// A message of the bootstrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Next,
    Response {
        id: String,
        content_type: Option<String>,
        body: Vec<u8>,
    },
    Error {
        id: String,
        error_type: String,
        body: Vec<u8>,
    },
    InitError {
        error_type: String,
        body: Vec<u8>,
    },
    StreamBegin {
        id: String,
        content_type: Option<String>,
    },
    StreamPiece {
        bytes: Vec<u8>,
    },
    StreamEnd(Ending),
    /// A response or error longer than allowed; its body was skipped.
    TooLarge {
        id: String,
    },
}

/// What the front of the input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Not whole yet.
    Nothing,
    /// A piece of a stream that there is no room for.
    Stalled,
    Said(Said),
}

/// The bootstrap broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Ids, content types and the like: two texts of at most 255 bytes.
const PREFIX_BYTES_MAX: usize = 1 + 2 * 256;

const PIECE: u8 = 6;

/// Cuts what the bootstrap sends into messages.
#[derive(Debug, Default)]
pub struct Reader {
    input: Vec<u8>,
    start: usize,
    /// Of a message that is too long: the bytes still to be skipped.
    skip: usize,
}

impl Reader {
    pub fn extend(&mut self, mut bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes = &bytes[skipped..];
        if self.start == self.input.len() {
            self.input.clear();
            self.start = 0;
            // One large response does not keep its memory for ever.
            if self.input.capacity() > 64 << 10 {
                self.input = Vec::new();
            }
        }
        self.input.extend_from_slice(bytes);
    }

    /// The next whole message; `body_bytes_max` bounds what is kept, `room`
    /// what is taken of a stream.
    pub fn next(&mut self, body_bytes_max: usize, room: usize) -> Result<Heard, Broken> {
        let rest = &self.input[self.start..];
        let Some(length) = rest.first_chunk::<4>() else { return Ok(Heard::Nothing) };
        let length = u32::from_le_bytes(*length) as usize;
        let rest = &rest[4..];
        if length == 0 {
            return Err(Broken);
        }
        if rest.first() == Some(&PIECE) {
            match length - 1 {
                0 => return Err(Broken),
                piece if piece > STREAM_CHUNK_BYTES_MAX => return Err(Broken),
                piece if piece > room => return Ok(Heard::Stalled),
                _ => {}
            }
        } else if length > body_bytes_max + PREFIX_BYTES_MAX {
            return self.begin_skip(length);
        }
        if rest.len() < length {
            return Ok(Heard::Nothing);
        }
        let said = parse(&rest[..length], body_bytes_max)?;
        self.start += 4 + length;
        Ok(Heard::Said(said))
    }

    fn begin_skip(&mut self, length: usize) -> Result<Heard, Broken> {
        let rest = &self.input[self.start + 4..];
        if rest.len() < PREFIX_BYTES_MAX {
            return Ok(Heard::Nothing);
        }
        let mut fields = &rest[1..];
        let id = take_text(&mut fields)?;
        if !matches!(rest[0], 2 | 3) {
            return Err(Broken);
        }
        let here = rest.len().min(length);
        self.skip = length - here;
        self.start += 4 + here;
        Ok(Heard::Said(Said::TooLarge { id }))
    }
}

fn parse(message: &[u8], body_bytes_max: usize) -> Result<Said, Broken> {
    let mut rest = &message[1..];
    let said = match message[0] {
        1 if rest.is_empty() => return Ok(Said::Next),
        2 => {
            let id = take_text(&mut rest)?;
            let content_type = Some(take_text(&mut rest)?).filter(|text| !text.is_empty());
            Said::Response { id, content_type, body: rest.to_vec() }
        }
        3 => {
            let id = take_text(&mut rest)?;
            let error_type = take_text(&mut rest)?;
            Said::Error { id, error_type, body: rest.to_vec() }
        }
        4 => {
            let error_type = take_text(&mut rest)?;
            Said::InitError { error_type, body: rest.to_vec() }
        }
        5 => {
            let id = take_text(&mut rest)?;
            let content_type = Some(take_text(&mut rest)?).filter(|text| !text.is_empty());
            if !rest.is_empty() {
                return Err(Broken);
            }
            Said::StreamBegin { id, content_type }
        }
        PIECE => Said::StreamPiece { bytes: rest.to_vec() },
        7 => {
            let error_type = take_text(&mut rest)?;
            Said::StreamEnd(match error_type.is_empty() {
                true if rest.is_empty() => Ending::Complete,
                true => return Err(Broken),
                false => Ending::Failed { error_type, body: rest.to_vec() },
            })
        }
        _ => return Err(Broken),
    };
    Ok(match said {
        Said::Response { id, body, .. } | Said::Error { id, body, .. }
            if body.len() > body_bytes_max =>
        {
            Said::TooLarge { id }
        }
        said => said,
    })
}

fn take_text(rest: &mut &[u8]) -> Result<String, Broken> {
    let (&length, after) = rest.split_first().ok_or(Broken)?;
    let (text, after) = after.split_at_checked(length.into()).ok_or(Broken)?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| Broken)
}

/// Appends the event that a `next` is answered with.
pub fn write_event(out: &mut Vec<u8>, invoke: &Invoke) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let texts = [
        invoke.request_id.as_str(),
        invoke.function_arn.as_str(),
        &text(&invoke.trace_id),
        &text(&invoke.client_context),
        &text(&invoke.cognito_identity),
        &text(&invoke.tenant_id),
    ];
    let text_bytes: usize = texts.iter().map(|text| text.len()).sum();
    let length = 8 + 4 * texts.len() + text_bytes + invoke.body.len();
    out.reserve(4 + length);
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&invoke.deadline_ms.to_le_bytes());
    for text in texts {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    }
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(&invoke.body);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, fields: &[u8]) -> Vec<u8> {
        let mut wire = ((fields.len() + 1) as u32).to_le_bytes().to_vec();
        wire.push(kind);
        wire.extend_from_slice(fields);
        wire
    }

    fn read(wire: &[u8], cut: usize, max: usize) -> Result<Vec<Said>, Broken> {
        let mut reader = Reader::default();
        let mut all = Vec::new();
        for piece in wire.chunks(cut) {
            reader.extend(piece);
            while let Heard::Said(said) = reader.next(max, usize::MAX)? {
                all.push(said);
            }
        }
        Ok(all)
    }

    #[test]
    fn messages_arrive_in_any_cut() {
        let mut wire = message(2, b"\x01a\x00{}");
        wire.extend(message(1, b""));
        wire.extend(message(3, b"\x01a\x01E{}"));
        wire.extend(message(4, b"\x01E[]"));
        for cut in 1..wire.len() {
            assert_eq!(
                read(&wire, cut, 100).unwrap(),
                [
                    Said::Response { id: "a".into(), content_type: None, body: b"{}".to_vec() },
                    Said::Next,
                    Said::Error { id: "a".into(), error_type: "E".into(), body: b"{}".to_vec() },
                    Said::InitError { error_type: "E".into(), body: b"[]".to_vec() },
                ]
            );
        }
    }

    #[test]
    fn a_response_above_the_bound_is_skipped_and_named() {
        for size in [11, 600, 5000] {
            let mut wire = message(2, &[b"\x01a\x00".to_vec(), vec![b'x'; size]].concat());
            wire.extend(message(1, b""));
            for cut in [1, 7, 513, 4096, wire.len()] {
                let said = read(&wire, cut, 10).unwrap();
                assert_eq!(said, [Said::TooLarge { id: "a".into() }, Said::Next], "{size} {cut}");
            }
        }
    }

    #[test]
    fn a_stream_is_taken_as_far_as_there_is_room() {
        let mut reader = Reader::default();
        reader.extend(&message(5, b"\x01a\x06text/x"));
        reader.extend(&message(6, b"12345"));
        reader.extend(&message(7, b"\x00"));
        reader.extend(&message(7, b"\x01E{}"));
        let begin = Said::StreamBegin { id: "a".into(), content_type: Some("text/x".into()) };
        assert_eq!(reader.next(100, 0), Ok(Heard::Said(begin)));
        for room in [0, 4] {
            assert_eq!(reader.next(100, room), Ok(Heard::Stalled));
        }
        let piece = Said::StreamPiece { bytes: b"12345".to_vec() };
        assert_eq!(reader.next(100, 5), Ok(Heard::Said(piece)));
        assert_eq!(reader.next(100, 0), Ok(Heard::Said(Said::StreamEnd(Ending::Complete))));
        let failed = Ending::Failed { error_type: "E".into(), body: b"{}".to_vec() };
        assert_eq!(reader.next(100, 0), Ok(Heard::Said(Said::StreamEnd(failed))));
        assert_eq!(reader.next(100, 0), Ok(Heard::Nothing));
    }

    #[test]
    fn what_breaks_the_framing_is_refused() {
        for wire in [
            vec![0, 0, 0, 0],
            message(9, b""),
            message(1, b"x"),
            message(2, b"\xffabc"),
            message(3, b"\x01a"),
            message(2, b"\x01\xff\x00"),
            message(5, b"\x01a\x00x"),
            message(6, b""),
            message(6, &[0; STREAM_CHUNK_BYTES_MAX + 1]),
            message(7, b"\x00x"),
        ] {
            assert_eq!(read(&wire, 100, 100), Err(Broken), "{wire:?}");
        }
    }
}
