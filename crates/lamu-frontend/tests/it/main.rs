//! The frontend in one process, with its store on disk and its neighbours
//! played by their inboxes.

mod aliases;
mod clients;
mod configs;
mod fleet;
mod functions;
mod hostile;
mod identity;
mod invoke;
mod layers;
mod mappings;
mod permissions;
mod provisioned;
mod restart;
mod s3;
mod signing;
mod storm;
mod streaming;
mod urls;
mod world;
