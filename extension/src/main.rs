//! `model-sidecar`: see `--help`.

use std::process::ExitCode;

use model_sidecar::config::{Environment, LogSettings};
use model_sidecar::{app, help, log, sys};

fn main() -> ExitCode {
    if let Some(answer) = help::answer(std::env::args().skip(1)) {
        return answer.print();
    }
    disable_telemetry();
    let environment = Environment::of_this_process();
    log::start(&LogSettings::read(&environment));
    // One thread: the server's work is microseconds, and loads, files and all but short runs have threads of their own.
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(app::run(environment));
            // A run that is still under way must not hold up the end.
            runtime.shutdown_background();
            sys::exit(code)
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
