//! The fleet: which execution environments exist, which are free, and which
//! host makes the next one.
//!
//! [`manager`] is the Worker Manager and hands out leases; [`placement`]
//! chooses hosts. Each is a pure core (values in, effects out, time included)
//! and one task that owns the core and does the talking.
//!
//! Not here: making environments (`lamu_worker`), the concurrency that an
//! account may use (`lamu_frontend::admission`), payloads (they go from the
//! frontend straight to the environment).

pub mod manager;
pub mod placement;
mod prng;

pub use manager::{Manager, ManagerConfig, Rate};
pub use placement::Placement;
