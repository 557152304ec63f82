//! Layers as the control plane knows them: their names, their documents, and
//! which of them a function may have.
//!
//! Everything in this room's files is a decision over values, but for `store`
//! (what is kept).
//!
//! Not here: operations as clients call them (`operations`), laying layers
//! over each other (the worker).

pub mod document;
pub mod name;
pub mod render;
pub mod select;
pub mod store;
