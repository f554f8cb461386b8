//! The memory arena that all sessions share, and its limit.
//!
//! ONNX Runtime allocates the tensors of a run from an arena. By default each session has an arena of its own without a
//! limit. But the values of a request may set sizes, such as a shape that is passed to `ConstantOfShape`, `Expand`,
//! `Range` or `Tile`. A request of 80 bytes can then allocate gigabytes, and the environment is killed. With a limit
//! such a run ends with an error, as do concurrent runs that find no memory.
//!
//! ONNX Runtime supports a limit only for an arena of the environment. Its cost is not measurable: sessions allocate
//! from it as from their own arenas. Weights are in the shared arena as well, outside of its regions, and are released
//! when their session ends.
#![expect(
    unsafe_code,
    reason = "the bindings do not expose this call; each block says why it is sound"
)]

use std::ffi::{CStr, c_char};
use std::ptr;

use ort::AsPointer as _;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::sys;

/// Divisor of the limit that gives the size of the largest region. The arena grows by regions, each twice as large as
/// the previous; beyond this size a region is as large as needed. So unused reserved memory is a small part of the
/// limit.
const REGION_DIVISOR: u64 = 16;
/// Minimum size of the largest region, in bytes.
const MIN_REGION: u64 = 1024 * 1024;

/// Registers an arena with the environment, from which participating sessions allocate up to `limit` bytes together.
pub(super) fn register(environment: &Environment, limit: u64) -> ort::Result<()> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let region = (limit as u64 / REGION_DIVISOR).max(MIN_REGION);
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
    let settings = ArenaSettings::new(&keys, &values)?;
    // SAFETY: the environment, the memory description and the settings are valid and outlive the call, which keeps none
    // of them. The environment locks its own state while it changes.
    unsafe {
        let status = (ort::api().CreateAndRegisterAllocator)(
            environment.ptr().cast_mut(),
            memory.ptr(),
            settings.0,
        );
        ort::Error::result_from_status(status)
    }
}

/// Settings of an arena.
struct ArenaSettings(*mut sys::OrtArenaCfg);

impl ArenaSettings {
    fn new(keys: &[*const c_char; 2], values: &[usize; 2]) -> ort::Result<Self> {
        let mut settings = ptr::null_mut();
        // SAFETY: both arrays have the given number of elements, and the keys are C strings. The call writes the
        // address of new settings, which the caller owns.
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

impl Drop for ArenaSettings {
    fn drop(&mut self) {
        // SAFETY: this value alone owns the settings, and this is their last use.
        unsafe { (ort::api().ReleaseArenaCfg)(self.0) };
    }
}
