//! A sandbox between the request to the spawner and a running init.
//!
//! Dropping a birth at any moment ends in nothing: what the spawner started
//! meanwhile is killed, waited for and cleared away in the background.
//!
//! Not here: a machine that runs (`machines`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Parts;
use super::sys::{self, Packet};
use super::wire::{Answer, Failure};

/// How long a killed process may take to end. It is reached only by one stuck
/// in the kernel; its parts are then left out of reuse.
pub const END_SECS_MAX: u64 = 30;

#[derive(Debug)]
pub struct Birth {
    parts: Option<Parts>,
    status: Option<AsyncFd<OwnedFd>>,
    pidfd: Option<OwnedFd>,
    listeners: Vec<OwnedFd>,
    runtime: tokio::runtime::Handle,
}

impl Birth {
    pub fn begin(parts: Parts, status: OwnedFd) -> io::Result<Birth> {
        sys::set_nonblocking(status.as_fd())?;
        Ok(Birth {
            parts: Some(parts),
            status: Some(sys::watch(status, Interest::READABLE)?),
            pidfd: None,
            listeners: Vec::new(),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    pub fn parts(&self) -> &Parts {
        // Taken only when the birth ends.
        self.parts.as_ref().expect("parts until the birth ends")
    }

    /// Waits until init runs. With it come the sockets of its doors.
    pub async fn complete(mut self) -> Result<(Parts, OwnedFd, Vec<OwnedFd>), Failure> {
        let failure = self.follow().await;
        if let Some(failure) = failure {
            return Err(failure);
        }
        match (self.parts.take(), self.pidfd.take()) {
            (Some(parts), Some(pidfd)) => Ok((parts, pidfd, std::mem::take(&mut self.listeners))),
            (parts, pidfd) => {
                (self.parts, self.pidfd) = (parts, pidfd);
                Err(Failure { step: "reach the spawner".into(), errno: libc::EPIPE })
            }
        }
    }

    /// Reads the status to its end; the failure it told, if any.
    async fn follow(&mut self) -> Option<Failure> {
        let mut failure = None;
        while let Some(status) = &self.status {
            let mut buffer = [0; 1024];
            let received = status
                .async_io(Interest::READABLE, |socket| {
                    sys::receive_packet(socket.as_fd(), &mut buffer)
                })
                .await;
            let Packet { bytes, mut files } = match received {
                Ok(Packet { bytes: 0, .. }) => break,
                Ok(packet) => packet,
                // The spawner died with our request unread.
                Err(error) => {
                    failure = failure.or(Some(Failure::new("reach the spawner", error)));
                    break;
                }
            };
            match Answer::decode(&buffer[..bytes]) {
                Some(Answer::Started { .. }) => self.pidfd = files.pop(),
                Some(Answer::Listening) => self.listeners = files,
                Some(Answer::Failure(told)) => failure = failure.or(Some(told)),
                Some(Answer::Ready { .. }) | None => {}
            }
        }
        self.status = None;
        failure
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        let mut rest = Birth {
            parts: None,
            status: self.status.take(),
            pidfd: self.pidfd.take(),
            listeners: std::mem::take(&mut self.listeners),
            runtime: self.runtime.clone(),
        };
        self.runtime.spawn(async move {
            rest.follow().await;
            if let Some(pidfd) = rest.pidfd.take() {
                end_process(pidfd).await;
            }
            // Before the namespace goes back, which is looked at for sockets.
            rest.listeners.clear();
            let _ = parts.dispose().await;
        });
    }
}

/// Kills a process and waits until it is gone; false if it is stuck.
pub async fn end_process(pidfd: OwnedFd) -> bool {
    let _ = sys::kill_pidfd(pidfd.as_fd(), libc::SIGKILL);
    let Ok(pidfd) = sys::watch(pidfd, Interest::READABLE) else { return false };
    let patience = Duration::from_secs(END_SECS_MAX);
    tokio::time::timeout(patience, pidfd.readable()).await.is_ok()
}
