//! Bytes from one connection to another and back, until both ends are done or
//! nothing has moved for too long.
//!
//! What one side does not read is not read from the other: at most one buffer
//! a direction is under way.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Of one direction.
const BUFFER_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// What moved, and when last.
struct Moved(Mutex<(Relayed, Instant)>);

impl Moved {
    fn add(&self, add: impl FnOnce(&mut Relayed)) {
        let mut moved = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        add(&mut moved.0);
        moved.1 = Instant::now();
    }

    fn get(&self) -> (Relayed, Instant) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Comes back when nothing has moved for so long.
    async fn idle(&self, idle_max: Duration) {
        loop {
            let until = self.get().1 + idle_max;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

pub async fn relay(mut inside: TcpStream, mut outside: TcpStream, idle_max: Duration) -> Relayed {
    let moved = Moved(Mutex::new((Relayed::default(), Instant::now())));
    {
        let (mut from_inside, mut to_inside) = inside.split();
        let (mut from_outside, mut to_outside) = outside.split();
        let send = pump(&mut from_inside, &mut to_outside, |bytes| {
            moved.add(|relayed| relayed.sent_bytes += bytes);
        });
        let receive = pump(&mut from_outside, &mut to_inside, |bytes| {
            moved.add(|relayed| relayed.received_bytes += bytes);
        });
        // One side may be done long before the other; one that broke ends both.
        tokio::select! {
            _ = async { tokio::try_join!(send, receive) } => {}
            () = moved.idle(idle_max) => {}
        }
    }
    moved.get().0
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: impl Fn(u64),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        moved(count as u64);
    }
}
