//! Messages of `application/vnd.amazon.eventstream` as bytes (invoke
//! reference, "Event-stream frame").
//!
//! ```text
//! u32 total length | u32 headers' length | u32 CRC of these 8 bytes
//! headers: u8 length, name, u8 7 (a string), u16 length, value
//! payload | u32 CRC of all before
//! ```
//!
//! Numbers are big endian. Pure. Not here: which messages there are (`stream`).

use bytes::{BufMut, Bytes, BytesMut};

/// A header's value is a string.
const STRING: u8 = 7;

/// Lengths and the CRC of them.
const PRELUDE_BYTES: usize = 12;
const CRC_BYTES: usize = 4;

/// One message. Names are below 256 bytes, values below 65,536, and the whole
/// is below 4 GiB.
pub fn message(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let headers_bytes: usize =
        headers.iter().map(|(name, value)| 1 + name.len() + 1 + 2 + value.len()).sum();
    let total_bytes = PRELUDE_BYTES + headers_bytes + payload.len() + CRC_BYTES;
    let mut out = BytesMut::with_capacity(total_bytes);
    out.put_u32(total_bytes as u32);
    out.put_u32(headers_bytes as u32);
    out.put_u32(crc32fast::hash(&out));
    for (name, value) in headers {
        out.put_u8(name.len() as u8);
        out.put_slice(name.as_bytes());
        out.put_u8(STRING);
        out.put_u16(value.len() as u16);
        out.put_slice(value.as_bytes());
    }
    out.put_slice(payload);
    out.put_u32(crc32fast::hash(&out));
    out.freeze()
}

/// An event of the operation's stream, with the headers in the order in which
/// the service sends them.
pub fn event(kind: &str, content_type: &str, payload: &[u8]) -> Bytes {
    let headers =
        [(":event-type", kind), (":content-type", content_type), (":message-type", "event")];
    message(&headers, payload)
}

/// What ends a stream that the platform cannot end otherwise.
pub fn exception(kind: &str, payload: &[u8]) -> Bytes {
    let headers = [
        (":exception-type", kind),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ];
    message(&headers, payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_anything_is_its_two_checksums() {
        // The empty message of the format's own examples.
        let known = [0, 0, 0, 16, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(message(&[], b""), &known[..]);
    }

    #[test]
    fn a_payload_without_headers_has_the_known_bytes() {
        // Also one of them.
        let mut known = vec![0, 0, 0, 0x1d, 0, 0, 0, 0, 0xfd, 0x52, 0x8c, 0x5a];
        known.extend_from_slice(br#"{'foo':'bar'}"#);
        known.extend_from_slice(&[0xc3, 0x65, 0x39, 0x36]);
        assert_eq!(message(&[], br#"{'foo':'bar'}"#), &known[..]);
    }

    #[test]
    fn headers_are_named_strings() {
        let got = message(&[("a", "xy"), ("bc", "")], b"P");
        assert_eq!(got[..8], [0, 0, 0, 30, 0, 0, 0, 13]);
        assert_eq!(got[12..25], b"\x01a\x07\x00\x02xy\x02bc\x07\x00\x00"[..]);
    }

    #[test]
    fn events_say_what_they_are() {
        let got = event("PayloadChunk", "application/octet-stream", b"bytes");
        let text = String::from_utf8_lossy(&got);
        let order = [":event-type", "PayloadChunk", ":content-type", ":message-type", "event"];
        let mut from = 0;
        for part in order {
            from += text[from..].find(part).unwrap_or_else(|| panic!("{part} in {text}"));
        }
        assert_eq!(u32::from_be_bytes(got[..4].try_into().unwrap()) as usize, got.len());
        assert_eq!(&got[got.len() - 9..got.len() - 4], b"bytes");
        let crc = u32::from_be_bytes(got[got.len() - 4..].try_into().unwrap());
        assert_eq!(crc, crc32fast::hash(&got[..got.len() - 4]));
    }
}
