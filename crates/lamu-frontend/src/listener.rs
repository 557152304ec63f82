//! Connections: accepting, their bounds, and letting them end.
//!
//! ```text
//! Serving ──drain──▶ Draining: no new connections, requests end
//!                      └──patience over──▶ Ended: what is left is cut
//! ```
//!
//! Not here: requests (`service`).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::config::Bounds;
use crate::service::{self, Service};

/// When the process has no descriptor left, accepting again at once would spin.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    Draining,
    Ended,
}

/// Accepts until draining begins, and returns when every connection has ended
/// or been cut.
pub async fn run(
    listener: TcpListener,
    service: Arc<Service>,
    bounds: Bounds,
    mut phase: watch::Receiver<Phase>,
) {
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    let http = Arc::new(http(&bounds));
    loop {
        let next = async {
            // Never closed, so this only waits.
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            // Draining wins over whoever waits to be let in.
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => break,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let (http, service, phase) = (http.clone(), service.clone(), phase.clone());
        tokio::spawn(async move {
            connection(&http, stream, peer, service, phase).await;
            drop(place);
        });
    }
    drop(listener);
    // All places free again: nobody is connected.
    let all = u32::try_from(bounds.connections_max).unwrap_or(u32::MAX);
    let _ = places.acquire_many(all).await;
}

async fn connection(
    http: &http1::Builder,
    stream: TcpStream,
    peer: SocketAddr,
    service: Arc<Service>,
    mut phase: watch::Receiver<Phase>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not set nodelay");
    }
    let _counted = Connected::new(&service);
    let serve = service_fn(|request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service::serve(&service, request, peer).await) }
    });
    let connection = http.serve_connection(TokioIo::new(stream), serve);
    tokio::pin!(connection);
    let mut ended = tokio::select! {
        ended = &mut connection => Some(ended),
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        ended = tokio::select! {
            ended = &mut connection => Some(ended),
            _ = phase.wait_for(|phase| *phase == Phase::Ended) => None,
        };
    }
    if let Some(Err(error)) = ended {
        // The other side's doing: broken framing, resets, time-outs.
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

fn http(bounds: &Bounds) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.head_wait_max)
        .max_headers(bounds.headers_max)
        .max_header_size(bounds.head_bytes_max)
        // Read-ahead per connection; a head must fit.
        .max_buf_size(bounds.head_bytes_max.max(64 * 1024));
    http
}

/// One open connection, as long as it is there.
struct Connected<'a>(&'a AtomicI64);

impl<'a> Connected<'a> {
    fn new(service: &'a Service) -> Connected<'a> {
        service.stats.connections.fetch_add(1, Ordering::Relaxed);
        Connected(&service.stats.connections)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
