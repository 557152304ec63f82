//! Drives the real init over a socket pair, as the worker does, and plays
//! the runtime over raw sockets.

// Each test binary uses another part of this.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use lamu_guest::{
    Command, Entry, FrameBuffer, FromInit, InitOutcome, Invoke, PROTOCOL, ShutdownReason, Start,
    ToInit,
};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Init {
    pub child: Child,
    pub channel: Option<UnixStream>,
    frames: FrameBuffer,
    /// Log records that were passed over while another message was awaited.
    pub logs: Vec<String>,
}

impl Init {
    /// Starts init and takes its hello.
    pub fn boot() -> Init {
        Init::boot_under(&[], None)
    }

    /// The same with the extensions in a directory of the test's.
    pub fn boot_with(extensions: &Path) -> Init {
        Init::boot_under(&[], Some(extensions))
    }

    /// The same as the first process of a namespace of its own; `None` where
    /// this user may not make one.
    pub fn boot_as_pid_one() -> Option<Init> {
        let way = ["unshare", "--user", "--map-root-user", "--pid", "--fork"];
        let way = [&way[..], &["--kill-child", "--mount-proc"]].concat();
        let works = Process::new(way[0]).args(&way[1..]).arg("true").status();
        if !works.is_ok_and(|status| status.success()) {
            eprintln!("skipped: cannot make a pid namespace here");
            return None;
        }
        Some(Init::boot_under(&way, None))
    }

    fn boot_under(way: &[&str], extensions: Option<&Path>) -> Init {
        let (ours, theirs) = UnixStream::pair().expect("socket pair");
        let fd = theirs.as_raw_fd();
        let binary = std::env::var("LAMU_INIT");
        let binary = binary.as_deref().unwrap_or(env!("CARGO_BIN_EXE_lamu-init"));
        let words = [way, &[binary]].concat();
        let mut command = Process::new(words[0]);
        command.args(&words[1..]).env("LAMU_INIT_PORT", "0").stdin(Stdio::null());
        command.env("LAMU_INIT_EXTENSIONS", extensions.unwrap_or(Path::new("/nowhere")));
        // SAFETY: dup2 and fcntl may be called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                // Onto itself dup2 would keep the close-on-exec flag.
                let result =
                    if fd == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(fd, 3) };
                if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
        let child = command.spawn().expect("init starts");
        drop(theirs);
        ours.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let frames = FrameBuffer::new();
        let mut init = Init { child, channel: Some(ours), frames, logs: Vec::new() };
        assert_eq!(init.receive(), FromInit::Hello { protocol: PROTOCOL });
        init
    }

    pub fn send(&mut self, message: &ToInit) {
        let mut wire = Vec::new();
        message.encode(&mut wire);
        self.channel.as_mut().expect("open").write_all(&wire).expect("init reads");
    }

    pub fn invoke(&mut self, request_id: &str, body: &[u8]) {
        self.send(&ToInit::Invoke(invoke(request_id, body)));
    }

    /// The next message, whatever it is.
    pub fn receive(&mut self) -> FromInit {
        self.try_receive().expect("init still speaks")
    }

    /// `None` when init closed the channel.
    pub fn try_receive(&mut self) -> Option<FromInit> {
        let mut piece = [0; 65536];
        loop {
            if let Some((kind, fields)) = self.frames.next().expect("well framed") {
                return Some(FromInit::decode(kind, fields).expect("well formed"));
            }
            match self.channel.as_mut().expect("open").read(&mut piece) {
                Ok(0) => return None,
                Ok(count) => self.frames.extend(&piece[..count]),
                Err(error) => panic!("nothing from init: {error}"),
            }
        }
    }

    /// The next message that is no log record; those go to `logs`.
    pub fn expect(&mut self) -> FromInit {
        loop {
            match self.receive() {
                FromInit::Log { record, .. } => {
                    self.logs.push(String::from_utf8_lossy(&record).into_owned());
                }
                message => return message,
            }
        }
    }

    pub fn expect_log(&mut self) -> String {
        match self.receive() {
            FromInit::Log { record, time_ms, .. } => {
                assert!(time_ms > 1_700_000_000_000, "{time_ms}");
                String::from_utf8(record).expect("UTF-8")
            }
            message => panic!("expected a log record, got {message:?}"),
        }
    }

    /// That nothing has come and nothing is on its way.
    pub fn expect_quiet(&mut self, api: &Scripted) {
        // Init serves in order: with this answered, what was sent before is done.
        assert_eq!(api.connect().call("GET", "/2018-06-01/ping", "", "").body, "pong");
        let channel = self.channel.as_mut().expect("open");
        channel.set_nonblocking(true).expect("nonblocking");
        let mut piece = [0; 65536];
        if let Ok(count) = channel.read(&mut piece) {
            self.frames.extend(&piece[..count]);
        }
        self.channel.as_ref().expect("open").set_nonblocking(false).expect("blocking");
        if let Some((kind, fields)) = self.frames.next().expect("well framed") {
            panic!("expected nothing, got {:?}", FromInit::decode(kind, fields));
        }
    }

    pub fn expect_ready(&mut self) {
        match self.expect() {
            FromInit::InitDone { outcome: InitOutcome::Ready, duration_ns } => {
                assert!(duration_ns > 0);
            }
            message => panic!("expected a good init, got {message:?}; logs {:?}", self.logs),
        }
    }

    pub fn expect_response(&mut self, id: &str) -> String {
        match self.expect() {
            FromInit::Response { request_id, body, .. } => {
                assert_eq!(request_id, id);
                String::from_utf8(body).expect("UTF-8")
            }
            message => panic!("expected a response, got {message:?}; logs {:?}", self.logs),
        }
    }

    /// Error type and body.
    pub fn expect_failure(&mut self, id: &str) -> (String, String) {
        match self.expect() {
            FromInit::Failure { request_id, error_type, body } => {
                assert_eq!(request_id, id);
                (error_type, String::from_utf8(body).expect("UTF-8"))
            }
            message => panic!("expected a failure, got {message:?}; logs {:?}", self.logs),
        }
    }

    pub fn expect_done(&mut self, id: &str) {
        match self.expect() {
            FromInit::Done { request_id, .. } => assert_eq!(request_id, id),
            message => panic!("expected the end, got {message:?}; logs {:?}", self.logs),
        }
    }

    /// Invokes, and takes the response and the end.
    pub fn call(&mut self, id: &str, body: &str) -> String {
        self.invoke(id, body.as_bytes());
        let response = self.expect_response(id);
        self.expect_done(id);
        response
    }

    pub fn reset(&mut self) {
        self.send(&ToInit::Reset(ShutdownReason::Failure));
        assert_eq!(self.expect(), FromInit::ResetDone);
    }

    /// Starts a shell that only tells where the Runtime API is, so that the
    /// test can be the runtime.
    pub fn start_scripted(&mut self) -> Scripted {
        self.start_shell("trap 'exit 7' TERM; echo $$ $AWS_LAMBDA_RUNTIME_API; sleep 1000 & wait")
    }

    pub fn start_shell(&mut self, script: &str) -> Scripted {
        self.send(&ToInit::Start(shell(script)));
        self.scripted()
    }

    /// Reads the line by which a scripted runtime introduces itself.
    pub fn scripted(&mut self) -> Scripted {
        let line = self.expect_log();
        let (pid, api) = line.split_once(' ').expect("pid and address");
        Scripted { pid: pid.parse().expect("pid"), api: api.to_owned() }
    }

    /// Closes the channel and waits for init to go.
    pub fn hang_up(&mut self) -> Option<std::process::ExitStatus> {
        self.channel = None;
        self.wait()
    }

    pub fn wait(&mut self) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("waitable") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        if self.hang_up().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub fn invoke(request_id: &str, body: &[u8]) -> Invoke {
    Invoke {
        request_id: request_id.to_owned(),
        deadline_ms: 1_800_000_000_000,
        function_arn: "arn:aws:lambda:eu-west-1:000000000000:function:f".to_owned(),
        trace_id: None,
        client_context: None,
        cognito_identity: None,
        tenant_id: None,
        content_type: None,
        stream_bytes_max: None,
        body: body.to_vec(),
    }
}

pub fn start(program: &str, args: &[&str]) -> Start {
    Start {
        entry: Entry::Exec(Command {
            program: program.to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
        }),
        cwd: "/".to_owned(),
        env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())],
        user: None,
        open_files_max: 1024,
        processes_max: 4096,
        telemetry_fd: false,
        response_bytes_max: 6_291_556,
        account_id: "123456789012".to_owned(),
    }
}

pub fn shell(script: &str) -> Start {
    start("/bin/sh", &["-c", script])
}

/// A runtime whose part the test plays.
pub struct Scripted {
    pub pid: i32,
    pub api: String,
}

impl Scripted {
    pub fn connect(&self) -> Http {
        let stream = TcpStream::connect(&self.api).expect("init listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Http { stream, input: Vec::new() }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: no pointers.
        unsafe { libc::kill(self.pid, signal) };
    }
}

pub fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// One client connection.
pub struct Http {
    pub stream: TcpStream,
    input: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

pub const INVOCATION: &str = "/2018-06-01/runtime/invocation";

impl Http {
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("init reads");
    }

    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        self.send(text.as_bytes());
    }

    pub fn call(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.ask(method, path, headers, body);
        self.answer()
    }

    pub fn ask_next(&mut self) {
        self.ask("GET", &format!("{INVOCATION}/next"), "", "");
    }

    pub fn respond(&mut self, id: &str, body: &str) -> Answer {
        self.call("POST", &format!("{INVOCATION}/{id}/response"), "", body)
    }

    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// `None` when the connection ends first.
    pub fn try_answer(&mut self) -> Option<Answer> {
        let end = loop {
            let found = self.input.windows(4).position(|four| four == b"\r\n\r\n");
            match found {
                Some(end) => break end + 4,
                None => self.more()?,
            }
        };
        let head = String::from_utf8(self.input[..end].to_vec()).expect("UTF-8");
        let status = head[9..12].parse().expect("status");
        let mut answer = Answer { status, head, body: String::new() };
        let length: usize =
            answer.header("content-length").map_or(0, |n| n.parse().expect("length"));
        while self.input.len() < end + length {
            self.more()?;
        }
        answer.body = String::from_utf8(self.input[end..end + length].to_vec()).expect("UTF-8");
        self.input.drain(..end + length);
        Some(answer)
    }

    /// Whether the other side has closed.
    pub fn ended(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.stream.read(&mut byte), Ok(0) | Err(_))
    }

    fn more(&mut self) -> Option<()> {
        let mut piece = [0; 65536];
        match self.stream.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                self.input.extend_from_slice(&piece[..count]);
                Some(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

/// Makes a file of a [`TempDir`] executable.
pub fn executable(path: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("mode");
}

/// A directory that goes away with its owner.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new(files: &[(&str, &str)]) -> TempDir {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lamu-init-test-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("temporary directory");
        for (name, content) in files {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            std::fs::write(path, content).expect("file");
        }
        TempDir(directory)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
