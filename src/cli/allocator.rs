//! jemalloc for the whole process, in place of the C library's allocator: the store, the runtime and the network pass
//! memory from thread to thread, which that one makes them wait for.
//!
//! It takes the C library's names rather than being Rust's global allocator, since the compiler knows what `calloc`
//! promises: sled's metrics, 21 MB of zeroes, are otherwise written out at the start.

use std::ffi::c_void;

/// Names jemalloc, so that the linker takes it.
#[used]
static CALLOC: unsafe extern "C" fn(usize, usize) -> *mut c_void = tikv_jemalloc_sys::calloc;
