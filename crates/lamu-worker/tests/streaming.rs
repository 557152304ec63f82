//! Streamed responses from the channel to the caller, with the test as init.
//! Time is paused, not slept through.

mod common;
mod stage;

use std::time::Duration;

use bytes::Bytes;
use common::{call, fault};
use lamu_guest::{Exit, FromInit, STREAM_CHUNK_BYTES_MAX, STREAM_WINDOW_BYTES, StreamEnd, ToInit};
use lamu_link::{Booted, InvokeError, Reply, ReplyStream, Streamed};
use lamu_model::Outcome;
use lamu_worker::StreamRate;
use stage::{Init, Stage};

const PIECE: usize = STREAM_CHUNK_BYTES_MAX;

/// What init does for a stream.
trait Streams {
    async fn begin(&mut self) -> String;
    async fn piece(&mut self, bytes: &[u8]);
    async fn end(&mut self, end: StreamEnd);
    async fn credit(&mut self) -> usize;
}

impl Streams for Init {
    /// Takes the event, and begins.
    async fn begin(&mut self) -> String {
        let invoke = self.invoked().await;
        assert!(invoke.stream_bytes_max.is_some());
        let (request_id, content_type) = (invoke.request_id.clone(), Some("text/x".to_owned()));
        self.say(FromInit::StreamBegin { request_id, content_type }).await;
        invoke.request_id
    }

    async fn piece(&mut self, bytes: &[u8]) {
        self.say(FromInit::StreamChunk { bytes: bytes.to_vec() }).await;
    }

    async fn end(&mut self, end: StreamEnd) {
        self.say(FromInit::StreamEnd(end)).await;
    }

    async fn credit(&mut self) -> usize {
        match self.hear().await {
            Some(ToInit::Credit { bytes }) => bytes as usize,
            other => panic!("{other:?}"),
        }
    }
}

async fn streamed(stage: &Stage, booted: &Booted, tail: bool) -> Result<Streamed, InvokeError> {
    stage.host.lease(&booted.environment).invoke_streamed(call("1", tail), Box::new(())).await
}

/// A stream that has begun, and the request's id.
async fn begun(
    stage: &Stage,
    booted: &Booted,
    init: &mut Init,
    tail: bool,
) -> (ReplyStream, String) {
    let (streamed, id) = tokio::join!(streamed(stage, booted, tail), init.begin());
    match streamed.unwrap() {
        Streamed::Stream(stream) => {
            assert_eq!(stream.content_type.as_deref(), Some("text/x"));
            (stream, id)
        }
        Streamed::Whole(reply) => panic!("{reply:?}"),
    }
}

/// All that is left of a stream, and its end.
async fn rest(mut stream: ReplyStream) -> (Vec<u8>, Reply) {
    let mut all = Vec::new();
    while let Some(bytes) = stream.next().await {
        all.extend_from_slice(&bytes);
    }
    (all, stream.end().await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn pieces_reach_the_caller_one_by_one_and_the_end_follows() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (mut stream, id) = begun(&stage, &booted, &mut init, false).await;
    for piece in ["one", "two"] {
        init.piece(piece.as_bytes()).await;
        assert_eq!(stream.next().await, Some(Bytes::from(piece)));
    }
    init.piece(b"three").await;
    init.end(StreamEnd::Complete).await;
    let (all, reply) = rest(stream).await;
    assert_eq!(all, b"three");
    assert!(matches!(&reply.outcome, Outcome::Response { body, .. } if body.is_empty()));
    assert!(stage.host.returns.try_recv().is_err(), "the runtime has not asked for more");
    init.done(&id).await;
    assert_eq!(stage.host.returns.recv().await.unwrap().1, init.sandbox);
    let lines = stage.host.lines(&stage.spec).await;
    assert!(lines.last().unwrap().starts_with("REPORT RequestId: "), "{lines:?}");

    // And the environment serves on.
    let (reply, ()) = stage.invoke(&booted, init.echo()).await;
    assert_eq!(common::body(&reply.unwrap()), "{\"k\":1}");
}

#[tokio::test(start_paused = true)]
async fn a_tail_comes_with_the_end() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (mut stream, id) = begun(&stage, &booted, &mut init, true).await;
    init.log("half way").await;
    init.piece(b"all").await;
    init.end(StreamEnd::Complete).await;
    // What was streamed does not wait for END.
    assert_eq!(stream.next().await, Some(Bytes::from("all")));
    assert_eq!(stream.next().await, None);
    init.log("after the answer").await;
    init.done(&id).await;
    let tail = common::tail(&stream.end().await.unwrap());
    let order = ["START", "half way", "after the answer", "END", "REPORT"];
    let found: Vec<usize> = order.iter().map(|part| tail.find(part).expect(part)).collect();
    assert!(found.is_sorted(), "{tail}");
}

#[tokio::test(start_paused = true)]
async fn a_function_that_does_not_stream_answers_whole() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (streamed, ()) = tokio::join!(streamed(&stage, &booted, false), init.echo());
    assert!(matches!(streamed, Ok(Streamed::Whole(reply)) if common::body(&reply) == "1"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_reads_nothing_leaves_init_without_credit() {
    let mut stage = Stage::with(|config| config.stream_rate = None, |_| {}).await;
    let (booted, mut init) = stage.booted().await;
    let (mut stream, id) = begun(&stage, &booted, &mut init, false).await;
    // Two pieces are on their way to the caller and give credit; a window
    // waits.
    for at in 0..2 {
        init.piece(&[at; PIECE]).await;
        assert_eq!(init.credit().await, PIECE);
    }
    for at in 1..=STREAM_WINDOW_BYTES / PIECE {
        init.piece(&[at as u8; PIECE]).await;
    }
    // Logs are not held up by it.
    init.log("still writing").await;
    while !stage.host.lines(&stage.spec).await.contains(&"still writing".to_owned()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut byte = [0];
    assert_eq!(
        init.channel.try_read(&mut byte).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );

    // It wakes: those two, then all that waited as one.
    for at in 0..2 {
        assert_eq!(stream.next().await.unwrap(), vec![at; PIECE]);
    }
    assert_eq!(stream.next().await.unwrap().len(), STREAM_WINDOW_BYTES);
    assert_eq!(init.credit().await, STREAM_WINDOW_BYTES);
    init.end(StreamEnd::Complete).await;
    init.done(&id).await;
    assert!(rest(stream).await.0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_sleeps_holds_up_no_environment() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (stream, id) = begun(&stage, &booted, &mut init, false).await;
    // So little that it earns no credit.
    for at in 0..20 {
        init.piece(&[at; 100]).await;
    }
    init.end(StreamEnd::Complete).await;
    init.done(&id).await;
    // The lease is back though nobody has read a byte.
    stage.host.returns.recv().await.unwrap();
    let (reply, ()) = stage.invoke(&booted, init.echo()).await;
    reply.unwrap();
    assert_eq!(rest(stream).await.0.len(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_lets_the_function_end() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (mut stream, id) = begun(&stage, &booted, &mut init, false).await;
    init.piece(b"first").await;
    stream.next().await.unwrap();
    drop(stream);
    // Ten windows more, as fast as they come: nobody reads, nothing waits.
    let mut window = STREAM_WINDOW_BYTES - b"first".len();
    for _ in 0..10 * STREAM_WINDOW_BYTES / PIECE {
        while window < PIECE {
            window += init.credit().await;
        }
        init.piece(&[7; PIECE]).await;
        window -= PIECE;
    }
    init.end(StreamEnd::Complete).await;
    init.done(&id).await;
    stage.host.returns.recv().await.unwrap();
    assert_eq!(stage.host.worker.stats().errors.get(), 0, "for the function all went well");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_half_way_ends_the_stream() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (stream, _) = begun(&stage, &booted, &mut init, true).await;
    init.piece(b"half").await;
    let ((all, reply), ()) = tokio::join!(rest(stream), init.reset());
    assert_eq!(all, b"half");
    assert_eq!(fault(&reply), ("Sandbox.Timedout", "Task timed out after 3.00 seconds".into()));
    assert!(common::tail(&reply).ends_with("Status: timeout\n"));
}

#[tokio::test(start_paused = true)]
async fn a_reader_too_slow_for_the_function_times_it_out() {
    let mut stage = Stage::with(|config| config.stream_rate = None, |_| {}).await;
    let (booted, mut init) = stage.booted().await;
    let (stream, _) = begun(&stage, &booted, &mut init, false).await;
    for _ in 0..STREAM_WINDOW_BYTES / PIECE {
        init.piece(&[1; PIECE]).await;
    }
    assert_eq!(init.credit().await + init.credit().await, 2 * PIECE);
    init.reset().await;
    let (all, reply) = rest(stream).await;
    assert_eq!(all.len(), STREAM_WINDOW_BYTES, "what was sent stays sent");
    assert_eq!(fault(&reply).0, "Sandbox.Timedout");
}

#[tokio::test(start_paused = true)]
async fn a_crash_half_way_ends_the_stream() {
    let mut stage = Stage::new().await;
    let (booted, mut init) = stage.booted().await;
    let (stream, _) = begun(&stage, &booted, &mut init, false).await;
    init.piece(b"half").await;
    init.say(FromInit::Exited(Exit::Code(3))).await;
    let ((all, reply), ()) = tokio::join!(rest(stream), init.reset());
    assert_eq!(all, b"half");
    assert_eq!(fault(&reply).0, "Runtime.ExitError");
    // The next invocation runs in the same sandbox.
    assert_eq!(stage.driver.machines(), [init.sandbox]);
}

#[tokio::test(start_paused = true)]
async fn an_error_half_way_and_a_stream_too_long_are_ends_too() {
    let mut stage = Stage::with(|config| config.stream_bytes_max = 4, |_| {}).await;
    let (booted, mut init) = stage.booted().await;
    let (stream, id) = begun(&stage, &booted, &mut init, false).await;
    init.piece(b"half").await;
    let (error_type, body) = ("Function.Late".to_owned(), b"{}".to_vec());
    init.end(StreamEnd::Failed { error_type, body }).await;
    init.done(&id).await;
    let (all, reply) = rest(stream).await;
    assert_eq!(all, b"half");
    assert!(
        matches!(&reply.outcome, Outcome::FunctionError { error_type, .. } if error_type == "Function.Late")
    );
    stage.host.returns.recv().await.unwrap();

    let (stream, id) = begun(&stage, &booted, &mut init, false).await;
    init.piece(b"half").await;
    init.end(StreamEnd::TooLarge).await;
    init.done(&id).await;
    let (kind, message) = fault(&rest(stream).await.1);
    assert_eq!(kind, "Function.ResponseSizeTooLarge");
    assert!(message.ends_with("(4 bytes)."), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_init_that_sends_more_than_it_may_is_not_trusted() {
    type Sends = fn(&mut Init) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>>;
    let longer: Sends = |init| Box::pin(async { init.piece(&[1; 101]).await });
    let wider: Sends = |init| {
        Box::pin(async {
            for _ in 0..=2 * STREAM_WINDOW_BYTES / PIECE {
                init.say_whatever(FromInit::StreamChunk { bytes: vec![1; PIECE] }).await;
            }
        })
    };
    for (bytes_max, sends) in [(100, longer), (1 << 30, wider)] {
        let mut stage = Stage::with(|config| config.stream_bytes_max = bytes_max, |_| {}).await;
        let (booted, mut init) = stage.booted().await;
        let (stream, _) = begun(&stage, &booted, &mut init, false).await;
        sends(&mut init).await;
        let (_, reply) = rest_of_slow(stream).await;
        assert_eq!(fault(&reply).0, "Sandbox.Failure");
        stage.all_gone().await;
        assert!(booted.environment.is_gone());
    }
}

/// Reads only after a while, so that what waits is what init sent.
async fn rest_of_slow(stream: ReplyStream) -> (Vec<u8>, Reply) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    rest(stream).await
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_its_rate_after_the_burst() {
    let rate = StreamRate { burst_bytes: 4 * PIECE as u64, bytes_per_sec: 8 * PIECE as u64 };
    let mut stage =
        Stage::with(|config| config.stream_rate = Some(rate), |spec| spec.timeout_secs = 60).await;
    let (booted, mut init) = stage.booted().await;
    let (stream, id) = begun(&stage, &booted, &mut init, false).await;
    let began = tokio::time::Instant::now();
    let sending = async {
        let mut window = STREAM_WINDOW_BYTES;
        for _ in 0..40 {
            while window < PIECE {
                window += init.credit().await;
            }
            init.piece(&[1; PIECE]).await;
            window -= PIECE;
        }
        init.end(StreamEnd::Complete).await;
        init.done(&id).await;
        // Four at once, then one each 125 ms; the last four wait in the
        // window, and leave with the end.
        began.elapsed()
    };
    let ((all, _), took) = tokio::join!(rest(stream), sending);
    assert_eq!(all.len(), 40 * PIECE);
    let wanted = Duration::from_millis(125 * 32);
    assert!(took >= wanted && took < wanted + Duration::from_millis(300), "{took:?}");
}
