//! What `generate.py` writes from the service model, one file a subject.
//!
//! Not here: anything written by hand; the files beside this one are replaced
//! by the generator.

pub(crate) mod constraints;
pub(crate) mod errors;
pub(crate) mod operations;
pub(crate) mod shapes;
