//! Function URLs: HTTP that is a function's own, beside the API on the same
//! port.
//!
//! ```text
//! Host or path ─▶ address ─▶ catalog ─▶ cors (preflight) ─▶ signature
//!   ─▶ event ─▶ the invoke path ─▶ response or stream ─▶ cors (headers)
//! ```
//!
//! `address`, `cors`, `event`, `prelude` and `response` are decisions over
//! values; `serve` does the talking, and `stream` goes on with it.
//!
//! Who may call. Pages in browsers may, other than with the API: a URL with
//! AuthType NONE is public because its owner said so, and CORS says which
//! pages may read the answers. What keeps pages from more than that:
//!
//! - A host name is a URL's only under the configured domain or `localhost`,
//!   so no page can rebind a name of its own to it.
//! - Answers under the path form carry `Content-Security-Policy: sandbox`: the
//!   path form shares its origin with the API, and a page that a function
//!   makes must not have that origin. Under the host form each URL has an
//!   origin of its own, which the API takes for a stranger's.
//! - Where signatures are not verified, a URL with AuthType AWS_IAM takes
//!   nothing from pages of other origins, like the API.
//!
//! Not here: the configuration (`crate::function::url`,
//! `crate::operations::urls`).

pub mod address;
pub mod cors;
pub mod event;
pub mod prelude;
pub mod response;
pub mod serve;
pub mod stream;
