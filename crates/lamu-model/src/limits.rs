//! Lambda's published limits. Units are in the names.

/// Largest synchronous request payload (Invoke, "Limits").
pub const SYNC_REQUEST_BYTES_MAX: usize = 6_291_456;
/// Largest buffered response: the request limit and 100 bytes.
pub const SYNC_RESPONSE_BYTES_MAX: usize = 6_291_556;
/// Largest streamed response.
pub const STREAM_RESPONSE_BYTES_MAX: u64 = 209_715_200;
/// Largest asynchronous request payload.
pub const ASYNC_REQUEST_BYTES_MAX: usize = 1_048_576;
/// CreateFunction's whole request.
pub const CREATE_REQUEST_BYTES_MAX: usize = 70_167_211;
/// UpdateFunctionCode's whole request.
pub const UPDATE_CODE_REQUEST_BYTES_MAX: usize = 69_905_067;
/// A zip handed over in the request itself.
pub const ZIP_INLINE_BYTES_MAX: u64 = 52_428_800;
/// Code and layers, unzipped.
pub const UNZIPPED_BYTES_MAX: u64 = 262_144_000;
/// Environment variables of the user as JSON.
pub const ENVIRONMENT_BYTES_MAX: usize = 4_096;
pub const MEMORY_MIB_DEFAULT: u32 = 128;
pub const MEMORY_MIB_MAX: u32 = 10_240;
pub const TIMEOUT_SECS_DEFAULT: u32 = 3;
pub const TIMEOUT_SECS_MAX: u32 = 900;
pub const EPHEMERAL_MIB_DEFAULT: u32 = 512;
/// Init of an on-demand environment; past it the first invoke pays again.
pub const INIT_SECS_MAX: u64 = 10;
/// Memory that buys one whole vCPU.
pub const MEMORY_MIB_PER_VCPU: u32 = 1_769;
/// Processes and threads in one environment.
pub const PROCESSES_MAX: u32 = 1_024;
pub const OPEN_FILES_MAX: u64 = 1_024;
/// The tail that `X-Amz-Log-Result` carries.
pub const LOG_TAIL_BYTES_MAX: usize = 4_096;
/// One log event; a longer line is cut here.
pub const LOG_LINE_BYTES_MAX: usize = 262_144;
/// Concurrency of an account in a region, and what must stay unreserved.
pub const ACCOUNT_CONCURRENCY_DEFAULT: u32 = 1_000;
pub const UNRESERVED_CONCURRENCY_MIN: u32 = 100;
