//! Just enough HTTP/1.1 to measure with: where a message ends, and its status.

/// A whole message at the front of `bytes`.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    pub head: usize,
    pub total: usize,
}

/// Finds a message whose body is as long as its Content-Length says (0 when it
/// says nothing). `None` until all of it is there.
pub fn message(bytes: &[u8]) -> Option<Message> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let length = header(&bytes[..head], b"content-length")
        .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse::<usize>().ok())
        .unwrap_or(0);
    let total = head + length;
    (bytes.len() >= total).then_some(Message { head, total })
}

/// The value of a header in a head; names compare without case.
pub fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii())
    })
}

/// The status of a response head.
pub fn status(head: &[u8]) -> u16 {
    head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
}
