//! The way out of a sandbox: sockets that listen inside it and are accepted
//! from outside, each connection led to the one endpoint that its door is for.
//!
//! ```text
//!  function --connect--> door (inside)   |   accept --> dial --> endpoint
//!                 no route, no address   |        bytes, both ways
//! ```
//!
//! Nothing of what flows is looked at. A driver makes the listening sockets
//! inside and hands them over; here is only what happens outside. Not here:
//! which doors there are (`lamu_model::EgressPlan`).

mod relay;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lamu_model::{EgressPlan, EgressTarget, is_closed_to_names};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections of one sandbox; the next ones wait in its doors.
const CONNECTIONS_MAX: usize = 64;

/// Connections of all sandboxes: each costs two descriptors and buffers.
const CONNECTIONS_TOTAL_MAX: usize = 1_024;

/// How long an endpoint may take to accept.
const DIAL_MAX: Duration = Duration::from_secs(10);

/// How long a connection may be silent in both directions, as at AWS's own
/// gateways.
const IDLE_MAX: Duration = Duration::from_secs(350);

/// How long a door rests when the host can accept nothing.
const REST: Duration = Duration::from_millis(100);

/// The endpoints of one driver, shared by all its sandboxes.
#[derive(Debug)]
pub struct Egress {
    targets: Vec<EgressTarget>,
    /// Where lamu's own API listens, once it does.
    own: OnceLock<SocketAddr>,
    total: Arc<Semaphore>,
    limits: Limits,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    connections: usize,
    idle: Duration,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    refused: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressFigures {
    pub connections: u64,
    /// Their endpoint could not be reached, or must not be.
    pub refused: u64,
    /// From functions to endpoints.
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// The open doors of one sandbox. Dropping it closes them and all that came
/// through; [`Doors::close`] waits for that.
#[derive(Debug, Default)]
pub struct Doors(JoinSet<()>);

impl Doors {
    pub async fn close(mut self) {
        self.0.shutdown().await;
    }
}

impl Egress {
    pub fn new(plan: &EgressPlan) -> Egress {
        let limits = Limits { connections: CONNECTIONS_MAX, idle: IDLE_MAX };
        Egress::with_limits(plan, limits, CONNECTIONS_TOTAL_MAX)
    }

    fn with_limits(plan: &EgressPlan, limits: Limits, total: usize) -> Egress {
        Egress {
            targets: plan.doors.iter().map(|door| door.target.clone()).collect(),
            own: OnceLock::new(),
            total: Arc::new(Semaphore::new(total)),
            limits,
            counts: Counts::default(),
        }
    }

    /// Tells where lamu's own API is, which may be known late.
    pub fn set_own(&self, address: SocketAddr) {
        // The first word holds; a driver has one API.
        let _ = self.own.set(address);
    }

    pub fn figures(&self) -> EgressFigures {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        EgressFigures {
            connections: get(&self.counts.connections),
            refused: get(&self.counts.refused),
            sent_bytes: get(&self.counts.sent_bytes),
            received_bytes: get(&self.counts.received_bytes),
        }
    }

    /// Serves a sandbox's doors, in the order of the plan.
    pub fn serve(self: &Arc<Self>, listeners: Vec<OwnedFd>) -> io::Result<Doors> {
        if listeners.len() != self.targets.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let own = Arc::new(Semaphore::new(self.limits.connections));
        let mut doors = Doors::default();
        for (at, listener) in listeners.into_iter().enumerate() {
            let listener = std::net::TcpListener::from(listener);
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            doors.0.spawn(self.clone().door(at, listener, own.clone()));
        }
        Ok(doors)
    }

    /// Takes one connection after the other. They belong to this task, so
    /// they end with it.
    async fn door(self: Arc<Self>, at: usize, listener: TcpListener, own: Arc<Semaphore>) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let Ok((inside, _)) = accepted else {
                // No descriptors, perhaps; or a client that left at once.
                tokio::time::sleep(REST).await;
                continue;
            };
            // One waits here, the others in the socket's own short queue. The
            // semaphores are never closed.
            let permits = async {
                let own = own.clone().acquire_owned().await;
                let total = self.total.clone().acquire_owned().await;
                own.ok().zip(total.ok())
            };
            tokio::pin!(permits);
            let permits = loop {
                tokio::select! {
                    permits = &mut permits => break permits,
                    Some(_) = connections.join_next() => {}
                }
            };
            let egress = self.clone();
            connections.spawn(async move {
                egress.connection(at, inside).await;
                drop(permits);
            });
        }
    }

    async fn connection(&self, at: usize, inside: TcpStream) {
        let count = |count: &AtomicU64, by: u64| {
            count.fetch_add(by, Ordering::Relaxed);
        };
        count(&self.counts.connections, 1);
        let dialed = tokio::time::timeout(DIAL_MAX, self.dial(&self.targets[at])).await;
        let outside = match dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(outside) => outside,
            Err(error) => {
                tracing::debug!(%error, target = ?self.targets[at], "an endpoint was not reached");
                count(&self.counts.refused, 1);
                return;
            }
        };
        // Small requests and answers should not wait for each other.
        let _ = (inside.set_nodelay(true), outside.set_nodelay(true));
        let relayed = relay::relay(inside, outside, self.limits.idle).await;
        count(&self.counts.sent_bytes, relayed.sent_bytes);
        count(&self.counts.received_bytes, relayed.received_bytes);
    }

    async fn dial(&self, target: &EgressTarget) -> io::Result<TcpStream> {
        match target {
            EgressTarget::Address(address) => TcpStream::connect(address).await,
            EgressTarget::Localhost { port } => {
                let both: [SocketAddr; 2] =
                    [(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()];
                TcpStream::connect(&both[..]).await
            }
            EgressTarget::Name { name, port } => {
                let found = tokio::net::lookup_host((name.as_str(), *port)).await?;
                let open = allowed(found);
                if open.is_empty() {
                    return Err(io::Error::new(
                        io::ErrorKind::PermissionDenied,
                        "the name means only addresses that are never opened",
                    ));
                }
                TcpStream::connect(&open[..]).await
            }
            EgressTarget::Own => match self.own.get() {
                Some(address) => TcpStream::connect(reachable(*address)).await,
                None => Err(io::ErrorKind::NotConnected.into()),
            },
        }
    }
}

fn allowed(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    found.filter(|address| !is_closed_to_names(address.ip())).collect()
}

/// An address to connect to where one listens on all.
fn reachable(address: SocketAddr) -> SocketAddr {
    let port = address.port();
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, port).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, port).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests;
