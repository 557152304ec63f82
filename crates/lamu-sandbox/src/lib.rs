//! The Driver seam: makes the isolation boundary of one execution environment.
//!
//! A driver prepares empty *shells* ahead of need and *claims* one for a
//! function: from then on it is a [`Machine`], whose channel leads to the init
//! inside. What flows over the channel is not this crate's business.
//!
//! Not here: what runs inside (`lamu_init`), which packages are mounted
//! (`lamu_worker` says so in the [`SandboxSpec`]), the guest protocol.

// Namespaces, mounts, seccomp and passing of descriptors have no safe wrapper
// in std; each use states why it is sound.
#![allow(unsafe_code)]

pub mod conformance;
mod driver;
pub mod egress;
pub mod fake;
pub mod process;

pub use driver::{
    Driver, DriverError, Machine, Mount, SandboxSpec, Shell, ShellClass, Stats, Teardown,
};
