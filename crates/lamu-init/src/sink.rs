//! One subscriber: what it is to get, gathered into batches, and the delivery
//! of one batch at a time.
//!
//! ```text
//!  put -> batch -- full, or its time is over --> flight: connect, send, answer
//!                                                   ^          | failed
//!                                                   +- waits <-+ 5 times, then lost
//! ```
//!
//! Memory is bounded by the subscription: a batch that is gathered and one
//! that is under way. A subscriber that takes its batches slower than they
//! fill loses records, and hears how many with the next batch.
//!
//! Nothing here blocks: the sockets do not wait, and a deadline ends every
//! attempt.
//!
//! Not here: which records there are (`telemetry`).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::connection::retry;
use crate::record;
use crate::subscription::{Destination, Subscription};
use crate::sys::{self, Epoll};

/// Progress within this, or the batch is sent again.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// A listener that is not up yet, or fails for a moment, is tried for about
/// three seconds.
const ATTEMPTS_MAX: u32 = 6;
const WAIT_MIN: Duration = Duration::from_millis(100);

/// Longest answer that is looked at.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// The largest event; `maxBytes` has the same bound.
const EVENT_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub struct Sink {
    pub subscription: Subscription,
    token: u64,
    batch: Vec<u8>,
    items: usize,
    /// When the first of the batch came.
    since: Option<Instant>,
    lost_records: u64,
    lost_bytes: u64,
    flight: Option<Flight>,
    /// The connection, which TCP keeps between batches.
    stream: Option<TcpStream>,
}

/// A batch on its way.
#[derive(Debug)]
struct Flight {
    wire: Vec<u8>,
    sent: usize,
    items: usize,
    attempt: u32,
    /// When this attempt, or the wait for the next one, is over.
    until: Instant,
    waits: bool,
    answer: Vec<u8>,
}

impl Sink {
    pub fn new(subscription: Subscription, token: u64) -> Sink {
        Sink {
            subscription,
            token,
            batch: Vec::new(),
            items: 0,
            since: None,
            lost_records: 0,
            lost_bytes: 0,
            flight: None,
            stream: None,
        }
    }

    /// Whether somebody listens; a TCP connection is kept.
    pub fn connect_first(&mut self, epoll: &Epoll) -> io::Result<()> {
        let stream = sys::connect_loopback(self.subscription.destination.port())?;
        // The loopback has answered by now.
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        if self.subscription.is_tcp() {
            epoll.add(&stream, self.token, sys::READ | sys::WRITE)?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Takes the place of `earlier`, whose connection is closed: what it held
    /// is lost, and counted with what it had lost.
    pub fn replace(&mut self, earlier: &Sink) {
        self.lose(earlier.lost_records, earlier.lost_bytes);
        self.lose(earlier.items as u64, earlier.batch.len() as u64);
        if let Some(flight) = &earlier.flight {
            let (records, bytes) = flight.unsent(earlier.subscription.is_tcp());
            self.lose(records, bytes);
        }
    }

    /// Takes one event, a JSON object.
    pub fn put(&mut self, event: &[u8], now: Instant, epoll: &Epoll) {
        if event.len() > EVENT_BYTES_MAX {
            return self.lose(1, event.len() as u64);
        }
        if self.is_full(event.len()) {
            self.launch(now, epoll);
            if self.is_full(event.len()) {
                return self.lose(1, event.len() as u64);
            }
        }
        if self.items == 0 && self.lost_records > 0 && self.subscription.types.platform {
            let loss = record::of_loss(sys::now_ms(), self.lost_records, self.lost_bytes);
            (self.lost_records, self.lost_bytes) = (0, 0);
            self.append(&loss, now);
        }
        self.append(event, now);
    }

    /// What was gathered leaves at once, or right after what is under way.
    pub fn flush(&mut self, now: Instant, epoll: &Epoll) {
        if self.items > 0 {
            self.since = now.checked_sub(self.subscription.timeout).or(self.since);
            self.launch(now, epoll);
        }
    }

    pub fn wake_at(&self) -> Option<Instant> {
        match &self.flight {
            Some(flight) => Some(flight.until),
            None => self.since.map(|since| since + self.subscription.timeout),
        }
    }

    pub fn keep_time(&mut self, now: Instant, epoll: &Epoll) {
        if let Some(flight) = &mut self.flight
            && now >= flight.until
        {
            if flight.waits {
                self.begin_attempt(now, epoll);
            } else if now > flight.until + ATTEMPT_MAX / 2 {
                // Nobody looks this late: everything was frozen, the
                // subscriber too.
                flight.until = now + ATTEMPT_MAX;
            } else if flight.accepted() {
                // It was taken; only the connection stayed open.
                self.land();
            } else {
                self.fail(now);
            }
        }
        let due = self.since.is_some_and(|since| now >= since + self.subscription.timeout);
        if due || self.is_full(0) {
            self.launch(now, epoll);
        }
    }

    /// The connection can be read or written.
    pub fn serve(&mut self, scratch: &mut [u8], now: Instant, epoll: &Epoll) {
        if self.stream.is_none() {
            return;
        }
        match self.advance(scratch, now) {
            Ok(Progress::Going(interest)) => {
                let Some(stream) = &self.stream else { return };
                let _ = epoll.modify(stream, self.token, interest);
            }
            Ok(Progress::Landed) => self.land(),
            Err(_) if self.flight.is_some() => self.fail(now),
            Err(_) => self.stream = None,
        }
        self.keep_time(now, epoll);
    }

    fn is_full(&self, more: usize) -> bool {
        self.items >= self.subscription.items_max
            || self.items > 0 && self.batch.len() + more > self.subscription.bytes_max
    }

    fn lose(&mut self, records: u64, bytes: u64) {
        self.lost_records += records;
        self.lost_bytes += bytes;
    }

    fn append(&mut self, event: &[u8], now: Instant) {
        match self.subscription.destination {
            Destination::Http { .. } => {
                self.batch.push(if self.items == 0 { b'[' } else { b',' });
                self.batch.extend_from_slice(event);
            }
            Destination::Tcp { .. } => {
                self.batch.extend_from_slice(event);
                self.batch.push(b'\n');
            }
        }
        self.items += 1;
        self.since.get_or_insert(now);
    }

    fn launch(&mut self, now: Instant, epoll: &Epoll) {
        if self.flight.is_some() || self.items == 0 {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let wire = match &self.subscription.destination {
            Destination::Tcp { .. } => batch,
            Destination::Http { port, path, method } => {
                batch.push(b']');
                let mut wire = format!(
                    "{method} {path} HTTP/1.1\r\nHost: sandbox.localdomain:{port}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n",
                    batch.len()
                )
                .into_bytes();
                wire.extend_from_slice(&batch);
                wire
            }
        };
        self.flight = Some(Flight {
            wire,
            sent: 0,
            items: std::mem::take(&mut self.items),
            attempt: 0,
            until: now,
            waits: true,
            answer: Vec::new(),
        });
        self.since = None;
        self.begin_attempt(now, epoll);
    }

    fn begin_attempt(&mut self, now: Instant, epoll: &Epoll) {
        let Some(flight) = &mut self.flight else { return };
        flight.attempt += 1;
        flight.waits = false;
        flight.until = now + ATTEMPT_MAX;
        flight.sent = 0;
        flight.answer.clear();
        let interest = sys::READ | sys::WRITE;
        let connected = match &self.stream {
            Some(stream) => epoll.modify(stream, self.token, interest),
            None => {
                sys::connect_loopback(self.subscription.destination.port()).and_then(|stream| {
                    epoll.add(&stream, self.token, interest)?;
                    self.stream = Some(stream);
                    Ok(())
                })
            }
        };
        if connected.is_err() {
            self.fail(now);
        }
    }

    fn fail(&mut self, now: Instant) {
        self.stream = None;
        let Some(flight) = &mut self.flight else { return };
        // What a TCP subscriber has of it would come twice.
        let has_part = self.subscription.is_tcp() && flight.sent > 0;
        if flight.attempt < ATTEMPTS_MAX && !has_part {
            flight.waits = true;
            flight.until = now + WAIT_MIN * (1 << (flight.attempt - 1));
            return;
        }
        let (records, bytes) = flight.unsent(self.subscription.is_tcp());
        self.flight = None;
        self.lose(records, bytes);
    }

    fn land(&mut self) {
        self.flight = None;
        if !self.subscription.is_tcp() {
            self.stream = None;
        }
    }

    fn advance(&mut self, scratch: &mut [u8], now: Instant) -> io::Result<Progress> {
        let Some(stream) = &self.stream else { return Ok(Progress::Going(0)) };
        let keeps = self.subscription.is_tcp();
        if let Some(flight) = &mut self.flight
            && !flight.waits
        {
            while flight.sent < flight.wire.len() {
                match (&*stream).write(&flight.wire[flight.sent..]) {
                    Ok(count) => {
                        // Slow is not silent.
                        flight.sent += count;
                        flight.until = now + ATTEMPT_MAX;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        // Once a turn: a subscriber that talks without end delays nobody.
        let ended = match (&*stream).read(scratch) {
            Ok(0) => true,
            Ok(count) => {
                if let Some(flight) = self.flight.as_mut().filter(|_| !keeps) {
                    let room = ANSWER_BYTES_MAX.saturating_sub(flight.answer.len());
                    flight.answer.extend_from_slice(&scratch[..count.min(room)]);
                }
                false
            }
            Err(error) if retry(&error) => false,
            Err(error) => return Err(error),
        };
        let Some(flight) = self.flight.as_ref().filter(|flight| !flight.waits) else {
            return if ended { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(IDLE) };
        };
        let sent = flight.sent == flight.wire.len();
        match (keeps, ended) {
            (true, true) => Err(io::ErrorKind::UnexpectedEof.into()),
            (true, false) if sent => Ok(Progress::Landed),
            (false, _) if flight.answered(ended) => match flight.accepted() {
                true => Ok(Progress::Landed),
                false => Err(io::ErrorKind::InvalidData.into()),
            },
            (false, true) => Err(io::ErrorKind::UnexpectedEof.into()),
            _ if sent => Ok(IDLE),
            _ => Ok(Progress::Going(sys::READ | sys::WRITE)),
        }
    }
}

#[derive(Debug)]
enum Progress {
    /// What to wait for.
    Going(u32),
    Landed,
}

const IDLE: Progress = Progress::Going(sys::READ);

impl Flight {
    /// Whether the answer is whole.
    fn answered(&self, ended: bool) -> bool {
        let Some(end) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            return false;
        };
        let head = String::from_utf8_lossy(&self.answer[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.and_then(|length| length.trim().parse::<usize>().ok());
        let body = self.answer.len() - end - 4;
        ended
            || self.answer.len() >= ANSWER_BYTES_MAX
            || length.is_some_and(|length| body >= length)
    }

    /// Records and bytes that did not leave. TCP takes lines, and those that
    /// left whole are there; of HTTP nothing is before the answer.
    fn unsent(&self, lines: bool) -> (u64, u64) {
        let rest = if lines { &self.wire[self.sent..] } else { &self.wire[..] };
        let left = rest.iter().filter(|&&byte| byte == b'\n').count();
        let records = if lines { left.min(self.items) } else { self.items };
        (records as u64, rest.len() as u64)
    }

    fn accepted(&self) -> bool {
        self.answer.starts_with(b"HTTP/1.") && self.answer.get(9) == Some(&b'2')
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use lamu_guest::TelemetryTypes;

    use super::*;

    struct Stage {
        sink: Sink,
        epoll: Epoll,
        listener: TcpListener,
        peer: TcpStream,
        now: Instant,
    }

    /// A TCP subscriber to which little can be under way, and a batch of one
    /// event for it.
    fn stage() -> Stage {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        shrink(&listener, libc::SO_RCVBUF);
        let port = listener.local_addr().unwrap().port();
        let subscription = Subscription {
            types: TelemetryTypes { platform: true, function: true, extension: true },
            destination: Destination::Tcp { port },
            items_max: 10_000,
            bytes_max: 1 << 20,
            timeout: Duration::from_millis(25),
            first_schema: false,
        };
        let (mut sink, epoll) = (Sink::new(subscription, 1), Epoll::new().unwrap());
        sink.connect_first(&epoll).unwrap();
        shrink(sink.stream.as_ref().unwrap(), libc::SO_SNDBUF);
        let (peer, _) = listener.accept().unwrap();
        listener.set_nonblocking(true).unwrap();
        let now = Instant::now();
        sink.put(&[b'x'; 500_000], now, &epoll);
        sink.flush(now, &epoll);
        Stage { sink, epoll, listener, peer, now }
    }

    fn shrink(socket: &impl AsRawFd, buffer: libc::c_int) {
        let bytes: libc::c_int = 4096;
        // SAFETY: `bytes` lives across the call, which only reads it.
        let done = unsafe {
            let value = (&raw const bytes).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, buffer, value, 4)
        };
        assert_eq!(done, 0);
    }

    impl Stage {
        /// Has some of the batch leave, at this moment of the sink's.
        fn send_some(&mut self) {
            let sent = |sink: &Sink| sink.flight.as_ref().map_or(usize::MAX, |f| f.sent);
            let before = sent(&self.sink);
            let mut piece = [0; 4096];
            loop {
                self.sink.serve(&mut piece, self.now, &self.epoll);
                if sent(&self.sink) > before {
                    return;
                }
                assert!(self.peer.read(&mut piece).unwrap() > 0);
            }
        }
    }

    #[test]
    fn a_slow_tcp_subscriber_gets_a_batch_once() {
        let mut stage = stage();
        for _ in 0..4 {
            stage.send_some();
            stage.now += ATTEMPT_MAX * 3 / 5;
            stage.sink.keep_time(stage.now, &stage.epoll);
        }
        assert!(stage.listener.accept().is_err(), "it is still the first connection");
        while stage.sink.flight.is_some() {
            stage.send_some();
        }
        assert_eq!((stage.sink.lost_records, stage.sink.lost_bytes), (0, 0));
    }

    #[test]
    fn a_batch_that_partly_went_over_tcp_is_not_sent_again() {
        let mut stage = stage();
        stage.send_some();
        // Silent for too long, but not so long that all was frozen.
        stage.now += ATTEMPT_MAX * 6 / 5;
        stage.sink.keep_time(stage.now, &stage.epoll);
        assert!(stage.sink.flight.is_none());
        assert_eq!(stage.sink.lost_records, 1);
        stage.now += ATTEMPT_MAX;
        stage.sink.keep_time(stage.now, &stage.epoll);
        assert!(stage.listener.accept().is_err(), "nobody connected again");
    }
}
