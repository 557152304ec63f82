//! What the host and init say to each other, over one byte stream.
//!
//! ```text
//! host                                   init
//!   <----------------------------- Hello        the shell waits
//!   Start  ----------------------------->       claim: environment, command
//!   <-------- Log*, Extension*, InitDone
//!   Invoke ----------------------------->
//!   <----- Log*, Response | Failure | TooLarge   the caller may be answered
//!   <---------- or StreamBegin, StreamChunk*     as far as the window reaches
//!   Credit ----------------------------->
//!   <-------- StreamChunk*, StreamEnd
//!   <----------------------- RuntimeDone         /next, and extensions go on
//!   <------------------------------ Done         the runtime asked for /next,
//!                                                and extensions did
//!   Reset ------------------------------>        kill the runtime, keep /tmp
//!   <------------------------- ResetDone         nothing older follows
//!   Shutdown --------------------------->        then the stream ends
//!   Event ------------------------------>        any time: for subscribers
//! ```
//!
//! An `Invoke` that finds no living runtime starts one first and says so with
//! an `InitDone` ahead of the answer. A runtime that ends by itself is
//! reported once with `Exited`, whether or not an invocation was under way;
//! so is an extension, with `ExtensionFailed`.
//!
//! A frame is `u32` length (little endian, of what follows), `u8` kind, fields.
//! Strings and bytes are `u32` length and content. What comes from init is
//! hostile: every length is checked against what arrived and against
//! [`FRAME_BYTES_MAX`] before anything is allocated.
//!
//! Not here: sockets, HTTP, processes. Only std.

mod error_type;
mod extensions;
mod frame;
mod messages;

pub use error_type::recorded_error_type;
pub use extensions::{
    ExtensionEnd, ExtensionFault, ExtensionFaultKind, ExtensionState, ExtensionStatus,
    ShutdownReason, TelemetryApi, TelemetryTypes,
};
pub use frame::{FRAME_BYTES_MAX, FrameBuffer, Malformed};
pub use messages::{
    Command, Entry, Exit, FromInit, InitOutcome, Invoke, InvokeRef, LogSource, PROTOCOL,
    STREAM_CHUNK_BYTES_MAX, STREAM_WINDOW_BYTES, Start, StreamEnd, ToInit, User,
};
