//! HTTP/1.1 of the server side as values: heads and bodies out of bytes, and
//! answers into bytes.
//!
//! Not here: sockets (`connection`), which request means what (`api`).

use crate::api::Answer;

/// The longest request head: Lambda crops the X-Ray cause header at 64 KiB,
/// so a longer one must pass; the rest is small.
pub const HEAD_BYTES_MAX: usize = 256 << 10;

/// Clients of the Runtime API send about ten.
const HEADERS_MAX: usize = 96;

/// Longest chunk-size line, extensions included.
const CHUNK_LINE_BYTES_MAX: usize = 1 << 10;

/// What matters of a request head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    pub target: String,
    pub keep_alive: bool,
    pub expect_continue: bool,
    pub framing: Framing,
    pub content_type: Option<String>,
    pub error_type: Option<String>,
    pub response_mode: Option<String>,
    pub extension_name: Option<String>,
    pub extension_id: Option<String>,
    pub extension_features: Option<String>,
    pub extension_error_type: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
}

impl Default for Framing {
    fn default() -> Framing {
        Framing::Length(0)
    }
}

/// A request that cannot be understood; the connection ends with this status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRequest(pub u16);

/// Reads the head at the front of `input`: the head and its length, or `None`
/// until more came. `scanned` remembers how far `input` was searched for the
/// end, so that a slow sender does not cost a parse per byte.
pub fn parse_head(input: &[u8], scanned: &mut usize) -> Result<Option<(Head, usize)>, BadRequest> {
    if !ends_head(input, scanned) {
        return if input.len() > HEAD_BYTES_MAX { Err(BadRequest(431)) } else { Ok(None) };
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            return if input.len() > HEAD_BYTES_MAX { Err(BadRequest(431)) } else { Ok(None) };
        }
        Err(httparse::Error::TooManyHeaders) => return Err(BadRequest(431)),
        Err(httparse::Error::Version) => return Err(BadRequest(505)),
        Err(_) => return Err(BadRequest(400)),
    };
    if length > HEAD_BYTES_MAX {
        return Err(BadRequest(431));
    }
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        keep_alive: request.version == Some(1),
        ..Head::default()
    };
    let mut content_length: Option<u64> = None;
    let mut chunked = false;
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        // Values that are not UTF-8 are of no use to anyone downstream.
        let Ok(value) = std::str::from_utf8(header.value) else { continue };
        let value = value.trim();
        if is("content-length") {
            let length = parse_length(value).ok_or(BadRequest(400))?;
            if content_length.is_some_and(|earlier| earlier != length) {
                return Err(BadRequest(400));
            }
            content_length = Some(length);
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") || chunked {
                return Err(BadRequest(501));
            }
            chunked = true;
        } else if is("connection") {
            for option in value.split(',').map(str::trim) {
                if option.eq_ignore_ascii_case("close") {
                    head.keep_alive = false;
                } else if option.eq_ignore_ascii_case("keep-alive") {
                    head.keep_alive = true;
                }
            }
        } else if is("expect") {
            if !value.eq_ignore_ascii_case("100-continue") {
                return Err(BadRequest(417));
            }
            head.expect_continue = true;
        } else if is("content-type") {
            head.content_type = Some(value.to_owned());
        } else if is("lambda-runtime-function-error-type") {
            head.error_type = Some(value.to_owned());
        } else if is("lambda-runtime-function-response-mode") {
            head.response_mode = Some(value.to_owned());
        } else if is("lambda-extension-name") {
            head.extension_name = Some(value.to_owned());
        } else if is("lambda-extension-identifier") {
            head.extension_id = Some(value.to_owned());
        } else if is("lambda-extension-accept-feature") {
            head.extension_features = Some(value.to_owned());
        } else if is("lambda-extension-function-error-type") {
            head.extension_error_type = Some(value.to_owned());
        }
    }
    // Both at once is how requests are smuggled past a second parser.
    head.framing = match (chunked, content_length) {
        (true, Some(_)) => return Err(BadRequest(400)),
        (true, None) => Framing::Chunked,
        (false, length) => Framing::Length(length.unwrap_or(0)),
    };
    Ok(Some((head, length)))
}

fn ends_head(input: &[u8], scanned: &mut usize) -> bool {
    // Step back over what may be the first part of the end.
    let from = scanned.saturating_sub(3);
    let found = input[from..].windows(2).enumerate().any(|(at, pair)| {
        pair == b"\n\n" || (pair == b"\n\r" && input.get(from + at + 2) == Some(&b'\n'))
    });
    *scanned = input.len();
    found
}

fn parse_length(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if digits { value.parse().ok() } else { None }
}

/// Collects the body of one request.
#[derive(Debug)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// More came than is kept; `bytes` is empty then.
    pub overflowed: bool,
    pub trailers: Trailers,
    bytes_max: usize,
    left: Left,
    /// The line being read, in chunked framing.
    line: Vec<u8>,
    trailer_bytes: usize,
}

/// Trailers with which a streamed response reports its failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    pub error_type: Option<String>,
    /// Base64 of the error JSON.
    pub error_body: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Bytes(u64),
    ChunkLine,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Nothing,
}

impl Body {
    pub fn new(framing: Framing, bytes_max: usize) -> Body {
        let left = match framing {
            Framing::Length(0) => Left::Nothing,
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked => Left::ChunkLine,
        };
        Body {
            bytes: match framing {
                Framing::Length(length) if length <= bytes_max as u64 => {
                    // A hostile length costs no memory before its bytes come.
                    Vec::with_capacity((length as usize).min(64 << 10))
                }
                _ => Vec::new(),
            },
            overflowed: matches!(framing, Framing::Length(length) if length > bytes_max as u64),
            trailers: Trailers::default(),
            bytes_max,
            left,
            line: Vec::new(),
            trailer_bytes: 0,
        }
    }

    /// What came since it was last taken, for a body that is not kept whole.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    pub fn complete(&self) -> bool {
        self.left == Left::Nothing
    }

    /// Takes what belongs to this body from the front of `input` and returns
    /// how much that was. Of content no more than `room` is taken.
    pub fn feed(&mut self, input: &[u8], mut room: usize) -> Result<usize, BadRequest> {
        let mut rest = input;
        while !rest.is_empty() {
            match self.left {
                Left::Nothing => break,
                Left::Bytes(_) | Left::Chunk(_) if room == 0 => break,
                Left::Bytes(count) => {
                    let taken = self.keep(count, &mut rest, &mut room);
                    self.left = match count - taken {
                        0 => Left::Nothing,
                        left => Left::Bytes(left),
                    };
                }
                Left::Chunk(count) => {
                    let taken = self.keep(count, &mut rest, &mut room);
                    self.left = match count - taken {
                        0 => Left::ChunkEnd,
                        left => Left::Chunk(left),
                    };
                }
                Left::ChunkLine | Left::ChunkEnd | Left::Trailers => {
                    let Some(line) = self.take_line(&mut rest)? else { break };
                    self.end_line(&line)?;
                }
            }
        }
        Ok(input.len() - rest.len())
    }

    fn keep(&mut self, count: u64, rest: &mut &[u8], room: &mut usize) -> u64 {
        let count = count.min(rest.len() as u64).min(*room as u64) as usize;
        *room -= count;
        let (bytes, after) = rest.split_at(count);
        *rest = after;
        if self.bytes.len() + count > self.bytes_max {
            self.overflowed = true;
            self.bytes = Vec::new();
        }
        if !self.overflowed {
            self.bytes.extend_from_slice(bytes);
        }
        count as u64
    }

    fn take_line(&mut self, rest: &mut &[u8]) -> Result<Option<Vec<u8>>, BadRequest> {
        let end = rest.iter().position(|&byte| byte == b'\n');
        let (bytes, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        *rest = after;
        self.line.extend_from_slice(bytes);
        let max = if self.left == Left::Trailers { HEAD_BYTES_MAX } else { CHUNK_LINE_BYTES_MAX };
        if self.line.len() > max {
            return Err(BadRequest(400));
        }
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), BadRequest> {
        match self.left {
            Left::ChunkEnd if line.is_empty() => self.left = Left::ChunkLine,
            Left::ChunkLine => {
                let digits = line.split(|&byte| byte == b';').next().unwrap_or(line);
                let digits = std::str::from_utf8(digits).map_err(|_| BadRequest(400))?.trim();
                let valid = (1..=15).contains(&digits.len())
                    && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                if !valid {
                    return Err(BadRequest(400));
                }
                self.left = match u64::from_str_radix(digits, 16).map_err(|_| BadRequest(400))? {
                    0 => Left::Trailers,
                    count => Left::Chunk(count),
                };
            }
            Left::Trailers if line.is_empty() => self.left = Left::Nothing,
            Left::Trailers => {
                self.trailer_bytes += line.len();
                if self.trailer_bytes > HEAD_BYTES_MAX {
                    return Err(BadRequest(431));
                }
                let line = std::str::from_utf8(line).map_err(|_| BadRequest(400))?;
                let (name, value) = line.split_once(':').ok_or(BadRequest(400))?;
                let value = || Some(value.trim().to_owned());
                if name.eq_ignore_ascii_case("lambda-runtime-function-error-type") {
                    self.trailers.error_type = value();
                } else if name.eq_ignore_ascii_case("lambda-runtime-function-error-body") {
                    self.trailers.error_body = value();
                }
            }
            _ => return Err(BadRequest(400)),
        }
        Ok(())
    }
}

/// Appends a whole answer.
pub fn write_answer(out: &mut Vec<u8>, answer: &Answer, keep_alive: bool) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(answer.status.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(answer.status).as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: ");
    out.extend_from_slice(answer.content_type.as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some((name, value)) = &answer.header {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    write_head_end(out, answer.body.len(), keep_alive);
    out.extend_from_slice(answer.body.as_bytes());
}

/// Appends the headers that concern the connection, and the end of the head.
pub fn write_head_end(out: &mut Vec<u8>, body_bytes: usize, keep_alive: bool) {
    if !keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(body_bytes.to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// Standard base64, padding optional; `None` for anything else.
pub fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<(Head, usize)>, BadRequest> {
        parse_head(text.as_bytes(), &mut 0)
    }

    #[test]
    fn a_head_arrives_in_any_cut() {
        let text = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 1..text.len() {
            let mut scanned = 0;
            let early = parse_head(&text[..cut], &mut scanned).unwrap();
            let (head, length) =
                early.or_else(|| parse_head(text, &mut scanned).unwrap()).expect("complete");
            assert_eq!(head.framing, Framing::Length(3), "cut at {cut}");
            assert_eq!(&text[length..], b"abc");
        }
    }

    #[test]
    fn two_ways_to_frame_a_body_are_refused() {
        let both = "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(head(both), Err(BadRequest(400)));
        let two = "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(head(two), Err(BadRequest(400)));
        for length in ["-1", "+1", "1 1", "", "0x1", "99999999999999999999999"] {
            let text = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(head(&text), Err(BadRequest(400)), "{length:?}");
        }
        let gzip = "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        assert_eq!(head(gzip), Err(BadRequest(501)));
    }

    #[test]
    fn endless_heads_are_refused_at_their_bound() {
        let long = vec![b'a'; HEAD_BYTES_MAX + 1];
        assert_eq!(parse_head(&long, &mut 0), Err(BadRequest(431)));
        let mut many = "GET / HTTP/1.1\r\n".to_owned();
        many.push_str(&"A: b\r\n".repeat(200));
        many.push_str("\r\n");
        assert_eq!(head(&many), Err(BadRequest(431)));
    }

    #[test]
    fn connection_options_are_honoured() {
        let keep = |text: &str| head(text).unwrap().unwrap().0.keep_alive;
        assert!(keep("GET / HTTP/1.1\r\n\r\n"));
        assert!(!keep("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n"));
        assert!(!keep("GET / HTTP/1.0\r\n\r\n"));
        assert!(keep("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    fn chunked(wire: &[u8], cut: usize) -> Result<Body, BadRequest> {
        let mut body = Body::new(Framing::Chunked, 64);
        let mut input = Vec::new();
        for piece in wire.chunks(cut) {
            input.extend_from_slice(piece);
            let taken = body.feed(&input, usize::MAX)?;
            input.drain(..taken);
        }
        Ok(body)
    }

    #[test]
    fn a_chunked_body_arrives_in_any_cut() {
        let wire = b"5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\n\
                     Lambda-Runtime-Function-Error-Type: Function.Bad\r\n\
                     Lambda-Runtime-Function-Error-Body: e30=\r\n\r\n";
        for cut in 1..wire.len() {
            let body = chunked(wire, cut).unwrap();
            assert!(body.complete());
            assert_eq!(body.bytes, b"hello!");
            assert_eq!(body.trailers.error_type.as_deref(), Some("Function.Bad"));
            assert_eq!(base64_decode(&body.trailers.error_body.unwrap()).unwrap(), b"{}");
        }
    }

    #[test]
    fn content_is_taken_as_far_as_there_is_room_and_framing_always() {
        let wire = b"5\r\nhello\r\n0\r\n\r\n";
        let mut body = Body::new(Framing::Chunked, usize::MAX);
        let mut taken = body.feed(wire, 2).unwrap();
        assert_eq!((taken, body.take()), (5, b"he".to_vec()));
        assert_eq!(body.feed(&wire[taken..], 0), Ok(0), "it stalls");
        taken += body.feed(&wire[taken..], 3).unwrap();
        assert_eq!((taken, body.take()), (wire.len(), b"llo".to_vec()));
        assert!(body.complete(), "the end needs no room");
    }

    #[test]
    fn broken_chunks_are_refused() {
        for wire in [
            "x\r\n",
            "\r\n",
            "5\r\nhelloX\r\n",
            "fffffffffffffffff\r\n",
            "-1\r\n",
            "0\r\nno colon\r\n",
        ] {
            assert!(chunked(wire.as_bytes(), 1000).is_err(), "{wire:?}");
        }
        assert!(chunked(&[b'1'; 5000], 10).is_err());
    }

    #[test]
    fn what_exceeds_the_bound_is_dropped_and_marked() {
        let mut body = Body::new(Framing::Length(100), 10);
        assert!(body.overflowed);
        assert_eq!(body.feed(&[1; 200], usize::MAX), Ok(100));
        assert!(body.complete() && body.bytes.is_empty());
        let body =
            chunked(format!("80\r\n{}\r\n0\r\n\r\n", "a".repeat(128)).as_bytes(), 7).unwrap();
        assert!(body.complete() && body.overflowed && body.bytes.is_empty());
    }

    /// Every prefix, single-byte change and doubling of typical requests is
    /// parsed or refused, never more.
    #[test]
    fn damaged_requests_never_panic() {
        let request = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                        5;a=b\r\nhello\r\n0\r\nLambda-Runtime-Function-Error-Type: E\r\n\r\n";
        let mut cases: Vec<Vec<u8>> =
            (0..request.len()).map(|cut| request[..cut].to_vec()).collect();
        for at in 0..request.len() {
            for value in [0, b'\n', b'\r', b':', b' ', b'f', 127, 255] {
                let mut damaged = request.to_vec();
                damaged[at] = value;
                cases.push(damaged);
            }
        }
        cases.push(request.repeat(2));
        for case in cases {
            if let Ok(Some((head, length))) = parse_head(&case, &mut 0) {
                let mut body = Body::new(head.framing, 16);
                let rest = &case[length..];
                assert!(body.feed(rest, usize::MAX).is_err() || body.bytes.len() <= 16);
            }
        }
    }
}
