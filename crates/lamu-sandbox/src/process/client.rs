//! lamu's end of the spawner: starts it, sends requests, notices its end.
//!
//! Not here: what a spawn does (`spawner`), the bytes (`wire`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::spawner::SPAWNER_ARGUMENT;
use super::sys::{self, Packet};
use super::wire::{Answer, Failure, Setup};

/// The template is some thirty mounts: milliseconds.
const START_SECS_MAX: u64 = 10;

/// Above what the spawner waits for its children before it gives up.
const END_SECS_MAX: u64 = 6;

#[derive(Debug)]
pub struct Spawner {
    control: Option<AsyncFd<OwnedFd>>,
    process: Mutex<Child>,
    landlock_abi: u32,
}

impl Spawner {
    /// Starts `program` as the spawner and waits until its template is ready.
    /// Blocks; needs a tokio runtime around.
    pub fn start(program: &Path, setup: &Setup, init: BorrowedFd<'_>) -> Result<Spawner, Failure> {
        let step = |step: &'static str| move |error| Failure::new(step, error);
        let (ours, theirs) = sys::packet_pair().map_err(step("make the control socket"))?;
        // Nothing but the socket is handed over; std starts it without
        // copying our memory, since nothing runs between fork and exec.
        let process = Command::new(program)
            .arg0("lamu-spawner")
            .arg(SPAWNER_ARGUMENT)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(step("start the spawner"))?;
        let mut starting = Starting { process: Some(process) };
        let ready = sys::send_packet(ours.as_fd(), &setup.encode(), &[init])
            .and_then(|()| receive_by(&ours, Duration::from_secs(START_SECS_MAX)))
            .map_err(step("set the spawner up"))?;
        let landlock_abi = match ready {
            Some(Answer::Ready { landlock_abi }) => landlock_abi,
            Some(Answer::Failure(failure)) => return Err(failure),
            _ => {
                let step = "start the spawner (does its main call spawner_main_if_asked?)";
                return Err(Failure { step: step.into(), errno: libc::EPROTO });
            }
        };
        sys::set_nonblocking(ours.as_fd()).map_err(step("set up the control socket"))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let control = sys::watch(ours, interest).map_err(step("watch the control socket"))?;
        let Some(process) = starting.process.take() else {
            return Err(Failure { step: "start the spawner".into(), errno: libc::ECHILD });
        };
        Ok(Spawner { control: Some(control), process: Mutex::new(process), landlock_abi })
    }

    pub fn pid(&self) -> u32 {
        self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).id()
    }

    pub fn landlock_abi(&self) -> u32 {
        self.landlock_abi
    }

    /// Fails with a broken pipe when the spawner is gone.
    pub async fn send(&self, request: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Some(control) = &self.control else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        control
            .async_io(Interest::WRITABLE, |socket| sys::send_packet(socket.as_fd(), request, files))
            .await
    }
}

impl Drop for Spawner {
    /// Closing the socket tells the spawner to end everything; that is waited
    /// for, so that nothing is left when the driver is gone.
    fn drop(&mut self) {
        self.control = None;
        let process = self.process.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let deadline = Instant::now() + Duration::from_secs(END_SECS_MAX);
        while let Ok(None) = process.try_wait() {
            if Instant::now() >= deadline {
                let _ = process.kill();
                let _ = process.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Ends a spawner that did not come up.
struct Starting {
    process: Option<Child>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// One message from a blocking socket; `None` when the other side is gone.
fn receive_by(socket: &OwnedFd, patience: Duration) -> io::Result<Option<Answer>> {
    use std::os::fd::AsRawFd;
    let mut polled = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one initialised entry, and the count says one.
    let ready = unsafe { libc::poll(&mut polled, 1, patience.as_millis() as i32) };
    if ready == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut buffer = [0; 4096];
    let Packet { bytes, .. } = sys::receive_packet(socket.as_fd(), &mut buffer)?;
    Ok(Answer::decode(&buffer[..bytes]))
}
