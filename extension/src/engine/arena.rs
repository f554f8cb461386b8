//! The memory arena that all sessions share, and its limit.
//!
//! A run takes memory for its tensors from an arena of ONNX Runtime. By default each session has one without a limit. But
//! the values of a request may set sizes, as a shape does that an operator like `ConstantOfShape`, `Expand`, `Range` or
//! `Tile` is given: then a request of 80 bytes takes gigabytes, and the environment is killed. With a limit such a run
//! ends with an error, and so do runs in parallel with it that find no memory.
//!
//! ONNX Runtime has a limit only for an arena that is the environment's. It costs nothing measurable: the sessions take
//! from it as they take from their own. Weights are in it as well, outside of its regions, and are given back when their
//! session ends.
#![expect(
    unsafe_code,
    reason = "the bindings have no way to this; each block says why it is sound"
)]

use std::ffi::{CStr, c_char};
use std::ptr;

use ort::AsPointer as _;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::sys;

/// The arena grows by regions, each twice as large as the one before, up to this part of its limit: beyond, a region is
/// as large as it must be. So what is reserved in vain is a small part of the limit.
const LARGEST_REGION: u64 = 16;
/// The least that the largest region is.
const MIN_REGION: u64 = 1024 * 1024;

/// Gives the environment an arena, from which the sessions that ask for it take up to `limit` bytes together.
pub(super) fn register(environment: &Environment, limit: u64) -> ort::Result<()> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let region = (limit as u64 / LARGEST_REGION).max(MIN_REGION);
    let settings: [(&CStr, usize); 2] = [
        (c"max_mem", limit),
        (
            c"max_power_of_two_extend_bytes",
            usize::try_from(region).unwrap_or(usize::MAX),
        ),
    ];
    let keys = settings.map(|(key, _)| key.as_ptr());
    let values = settings.map(|(_, value)| value);
    let memory = MemoryInfo::new(
        AllocationDevice::CPU,
        0,
        AllocatorType::Arena,
        MemoryType::Default,
    )?;
    let settings = Settings::new(&keys, &values)?;
    // SAFETY: the environment, the description of the memory and the settings are whole and outlive the call, which keeps
    // none of them. The environment has locks of its own for what it changes in it.
    unsafe {
        let status = (ort::api().CreateAndRegisterAllocator)(
            environment.ptr().cast_mut(),
            memory.ptr(),
            settings.0,
        );
        ort::Error::result_from_status(status)
    }
}

/// The settings of an arena.
struct Settings(*mut sys::OrtArenaCfg);

impl Settings {
    fn new(keys: &[*const c_char; 2], values: &[usize; 2]) -> ort::Result<Self> {
        let mut settings = ptr::null_mut();
        // SAFETY: there are as many keys, which are C strings, and values as is said; the call writes the address of new
        // settings, which are the caller's.
        unsafe {
            let status = (ort::api().CreateArenaCfgV2)(
                keys.as_ptr(),
                values.as_ptr(),
                keys.len(),
                &raw mut settings,
            );
            ort::Error::result_from_status(status)?;
        }
        Ok(Self(settings))
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // SAFETY: the settings are this value's alone, and this is the last use of them.
        unsafe { (ort::api().ReleaseArenaCfg)(self.0) };
    }
}
