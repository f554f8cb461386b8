//! `model-sidecar`: see `--help`.

use std::ffi::c_void;
use std::process::ExitCode;

use model_sidecar::config::{Environment, LogSettings};
use model_sidecar::{app, help, log, sys};

/// Exit code of an error in the program itself, from sysexits.h.
const EX_SOFTWARE: i32 = 70;

fn main() -> ExitCode {
    if let Some(output) = help::output(std::env::args().skip(1)) {
        return output.print();
    }
    disable_telemetry();
    sys::share_one_heap();
    let environment = Environment::of_this_process();
    log::start(&LogSettings::read(&environment));
    // One thread: it only does work of microseconds. Loads, files, and all but short runs have threads of their own.
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            // Spawned, because waking a task takes no system call.
            let ran = runtime.block_on(runtime.spawn(app::run(environment)));
            // Blocking tasks that are still running must not delay the exit.
            runtime.shutdown_background();
            // A panic was reported by its own message.
            sys::exit(ran.unwrap_or(EX_SOFTWARE))
        }
        Err(error) => {
            tracing::error!("cannot start the async runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    unsafe_code,
    reason = "the environment must be changed while the process has one thread"
)]
fn disable_telemetry() {
    // SAFETY: called at the beginning of main, when no other thread exists.
    unsafe { sys::disable_onnxruntime_telemetry() }
}

/// Allocates aligned memory, as C specifies it. ONNX Runtime allocates weights with this symbol of the program instead
/// of the C library's.
#[unsafe(no_mangle)]
#[expect(
    unsafe_code,
    reason = "the symbol must be the program's, since libraries are searched later"
)]
extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    sys::allocate_aligned(alignment, size)
}
