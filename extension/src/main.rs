//! `model-sidecar`: see `--help`.

use std::process::ExitCode;

use model_sidecar::config::{Environment, LogSettings};
use model_sidecar::{app, help, log, sys};

/// The exit code for a mistake in the program itself, from sysexits.h.
const EX_SOFTWARE: i32 = 70;

fn main() -> ExitCode {
    if let Some(answer) = help::answer(std::env::args().skip(1)) {
        return answer.print();
    }
    disable_telemetry();
    sys::share_one_heap();
    let environment = Environment::of_this_process();
    log::start(&LogSettings::read(&environment));
    // One thread: the server's work is microseconds, and loads, files and all but short runs have threads of their own.
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            // In a task, which is woken without a system call.
            let ran = runtime.block_on(runtime.spawn(app::run(environment)));
            // A run that is still under way must not hold up the end.
            runtime.shutdown_background();
            // Of a panic its message has told.
            sys::exit(ran.unwrap_or(EX_SOFTWARE))
        }
        Err(error) => {
            tracing::error!("cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    unsafe_code,
    reason = "the environment must be changed while there is one thread"
)]
fn disable_telemetry() {
    // SAFETY: called first thing in main; no other thread exists.
    unsafe { sys::disable_onnxruntime_telemetry() }
}
