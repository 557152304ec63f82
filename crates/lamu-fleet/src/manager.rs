//! The manager (AWS's Worker Manager): hands out leases on execution
//! environments, has new ones made when none is free, and ends those that
//! nobody needs.
//!
//! ```text
//!             acquire                          END
//! (frontend) --------> line --> lease --> Busy ----> (a waiter, or Idle)
//!                        |                  ^
//!                        +-- place, boot ---+   Idle --too long, too old,
//!                                               evicted, retired--> Draining
//! ```
//!
//! A version may have environments standing by for it at all times
//! (`provision`). `core` decides, `run` talks. Nothing is written down: after a restart the
//! workers report what they have.
//!
//! Not here: choosing a host (`placement`), concurrency limits
//! (`lamu_frontend::admission`).

mod alarm;
mod config;
mod core;
mod limiter;
mod line;
mod making;
mod pool;
mod provision;
mod retired;
mod run;
mod starts;

#[cfg(test)]
mod decisions;
#[cfg(test)]
pub(crate) mod desk;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod standing;

pub use config::ManagerConfig;
pub use limiter::Rate;
pub use run::Manager;
