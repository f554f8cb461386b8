//! Replacement of the C library's `setenv`.
//!
//! `lambda_runtime` sets `_X_AMZN_TRACE_ID` at every invocation, and glibc keeps every past value
//! of a variable, because a pointer to it may still be in use. A trace id is new each time, so a
//! busy environment would grow by 140 bytes per invocation, for hours. Nothing in this program
//! reads the variable: a call to the sidecar carries the trace of its invocation. This definition
//! therefore ignores that variable and sets all others as usual.
//!
//! The linker prefers this definition to the C library's.
#![expect(
    unsafe_code,
    reason = "a function of the C library cannot be replaced by a safe one"
)]

use std::ffi::{CStr, CString, c_char, c_int};

/// The ignored variable.
const TRACE_ID: &CStr = c"_X_AMZN_TRACE_ID";

/// As in POSIX, except for [`TRACE_ID`].
///
/// # Safety
/// `name` and `value` point to strings that end in NUL. No other thread uses the environment at the
/// same time, as for the C library's own function.
#[unsafe(no_mangle)]
unsafe extern "C" fn setenv(name: *const c_char, value: *const c_char, overwrite: c_int) -> c_int {
    // SAFETY: guaranteed by the caller.
    let (name, value) = unsafe { (CStr::from_ptr(name), CStr::from_ptr(value)) };
    if name == TRACE_ID {
        return 0;
    }
    if name.is_empty() || name.to_bytes().contains(&b'=') {
        return -1;
    }
    // SAFETY: the string ends in NUL; the result is only compared.
    let is_set = !unsafe { libc::getenv(name.as_ptr()) }.is_null();
    if is_set && overwrite == 0 {
        return 0;
    }
    let pair = [name.to_bytes(), b"=", value.to_bytes()].concat();
    match CString::new(pair) {
        // SAFETY: the string ends in NUL and is never freed, as putenv requires.
        Ok(pair) => unsafe { libc::putenv(pair.into_raw()) },
        Err(_) => -1,
    }
}
