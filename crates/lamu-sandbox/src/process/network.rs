//! Network namespaces with a loopback and nothing else, made ahead of need: a
//! new one takes 0.3 ms, joining a pooled one a few microseconds.
//!
//! There is no route out of them, so neither the host's services nor
//! link-local addresses can be reached. One that a sandbox has used goes to
//! the same account again, after a check that no socket is left in it, or is
//! closed.
//!
//! Where endpoints are configured, each sandbox gets sockets in its namespace
//! that listen for them; they are served from outside (`crate::egress`).
//!
//! Not here: entering them (`spawner`).

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};

use lamu_model::AccountId;
use tokio::sync::oneshot;

use super::refill::{self, Next};
use super::sys;

/// Made ahead: a burst of starts on every core while the maker catches up.
const FRESH_MAX: usize = 16;

/// Kept after use, over all accounts; the longest unused is closed first.
const USED_MAX: usize = 64;

#[derive(Debug)]
pub struct NetnsPool {
    shared: Arc<Shared>,
    work: Sender<Work>,
}

#[derive(Debug, Default)]
struct Shared {
    fresh: Mutex<VecDeque<OwnedFd>>,
    used: Mutex<VecDeque<(AccountId, OwnedFd)>>,
}

// Unbounded channel: at most one message per namespace that exists or is
// waited for, and sandboxes are bounded by their user ids.
#[derive(Debug)]
enum Work {
    Refill,
    Make(oneshot::Sender<io::Result<OwnedFd>>),
    Return(AccountId, OwnedFd),
}

/// A network namespace in use. Goes back when dropped, which must not happen
/// before its last process is gone.
#[derive(Debug)]
pub struct Netns {
    fd: Option<OwnedFd>,
    account: AccountId,
    work: Sender<Work>,
}

impl NetnsPool {
    /// Fails where the host refuses to make network namespaces.
    pub fn start() -> io::Result<NetnsPool> {
        let shared = Arc::new(Shared::default());
        let (work, inbox) = channel();
        let (started, outcome) = channel();
        let pool = NetnsPool { shared: shared.clone(), work };
        std::thread::Builder::new().name("lamu-netns".into()).spawn(move || match Maker::start(
            shared,
        ) {
            Ok(maker) => {
                let _ = started.send(Ok(()));
                maker.run(inbox);
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        })?;
        outcome.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??;
        let _ = pool.work.send(Work::Refill);
        Ok(pool)
    }

    pub async fn take(&self, account: &AccountId) -> io::Result<Netns> {
        let used = {
            let mut used = lock(&self.shared.used);
            let found = used.iter().rposition(|(owner, _)| owner == account);
            found.and_then(|at| used.remove(at)).map(|(_, fd)| fd)
        };
        let ready = used.or_else(|| {
            let fresh = lock(&self.shared.fresh).pop_front();
            let _ = self.work.send(Work::Refill);
            fresh
        });
        let fd = match ready {
            Some(fd) => fd,
            None => {
                let (reply, made) = oneshot::channel();
                let _ = self.work.send(Work::Make(reply));
                made.await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??
            }
        };
        Ok(Netns { fd: Some(fd), account: account.clone(), work: self.work.clone() })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // Taken only by `drop`.
        self.fd.as_ref().expect("a namespace until it is dropped").as_fd()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            let _ = self.work.send(Work::Return(self.account.clone(), fd));
        }
    }
}

/// The one thread that steps into other network namespaces.
struct Maker {
    shared: Arc<Shared>,
    host: OwnedFd,
}

impl Maker {
    fn start(shared: Arc<Shared>) -> io::Result<Maker> {
        let maker = Maker { shared, host: File::open("/proc/thread-self/ns/net")?.into() };
        let first = maker.make()?;
        lock(&maker.shared.fresh).push_back(first);
        Ok(maker)
    }

    fn run(&self, inbox: Receiver<Work>) {
        let mut failed = false;
        loop {
            let ready = lock(&self.shared.fresh).len();
            match refill::next(&inbox, ready, FRESH_MAX, failed) {
                Next::End => return,
                Next::Work(Work::Refill) => failed = false,
                Next::Work(Work::Make(reply)) => {
                    let _ = reply.send(self.make());
                }
                Next::Work(Work::Return(account, fd)) => self.take_back(account, fd),
                Next::MakeOne => match self.make() {
                    Ok(fd) => lock(&self.shared.fresh).push_back(fd),
                    Err(error) => {
                        tracing::warn!(%error, "could not make a network namespace ahead");
                        failed = true;
                    }
                },
            }
        }
    }

    fn make(&self) -> io::Result<OwnedFd> {
        sys::unshare(libc::CLONE_NEWNET)?;
        let made = sys::loopback_up().and_then(|()| File::open("/proc/thread-self/ns/net"));
        sys::setns(self.host.as_fd(), libc::CLONE_NEWNET)?;
        made.map(OwnedFd::from)
    }

    fn take_back(&self, account: AccountId, fd: OwnedFd) {
        match self.sockets(&fd) {
            Ok(0) => {
                let mut used = lock(&self.shared.used);
                used.push_back((account, fd));
                if used.len() > USED_MAX {
                    used.pop_front();
                }
            }
            Ok(sockets) => tracing::debug!(sockets, "closed a used network namespace"),
            Err(error) => tracing::warn!(%error, "could not check a network namespace"),
        }
    }

    /// How many sockets of any kind are open in a namespace. Connections in
    /// TIME_WAIT are not counted: they hold no data, and who meets them is of
    /// the same account.
    fn sockets(&self, fd: &OwnedFd) -> io::Result<u64> {
        sys::setns(fd.as_fd(), libc::CLONE_NEWNET)?;
        let sockstat = std::fs::read_to_string("/proc/thread-self/net/sockstat");
        sys::setns(self.host.as_fd(), libc::CLONE_NEWNET)?;
        sockets_used(&sockstat?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// `sockets: used 3` in the first line of sockstat.
fn sockets_used(sockstat: &str) -> Option<u64> {
    sockstat.lines().next()?.strip_prefix("sockets: used ")?.trim().parse().ok()
}

/// Sockets that listen at `doors` in the current network namespace, whose
/// loopback gets the addresses it does not have.
pub fn listen(doors: &[SocketAddr]) -> io::Result<Vec<OwnedFd>> {
    let mut listeners = Vec::with_capacity(doors.len());
    for door in doors {
        if !door.ip().is_loopback() {
            sys::add_loopback_address(door.ip())?;
        }
        listeners.push(TcpListener::bind(door)?.into());
    }
    Ok(listeners)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_sockets_are_counted_from_the_first_line() {
        let text = "sockets: used 12\nTCP: inuse 1 orphan 0 tw 4 alloc 3 mem 0\n";
        assert_eq!(sockets_used(text), Some(12));
        assert_eq!(sockets_used("TCP: inuse 1"), None);
    }
}
