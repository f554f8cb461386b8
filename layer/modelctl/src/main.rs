//! The program `modelctl`; the library has all of it.

use std::process::ExitCode;

use model_sidecar::sys;

fn main() -> ExitCode {
    disable_telemetry();
    modelctl::main()
}

#[expect(
    unsafe_code,
    reason = "the environment must be changed while there is one thread"
)]
fn disable_telemetry() {
    // SAFETY: called first in main; no other thread exists.
    unsafe { sys::disable_onnxruntime_telemetry() }
}
