//! `bootstrap`, the function's runtime; see the library for its behaviour.

mod setenv;

use std::process::ExitCode;

use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use model_handler::Handler;
use model_handler::settings::HandlerSettings;
use model_handler::sidecar::Sidecar;
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};

const HELP: &str = "\
The model sidecar's Lambda handler. Lambda starts it as the bootstrap of a function with the model
sidecar's layer. It forwards each event to the sidecar and returns the sidecar's response.

Environment:
  MODEL_SOCKET     the sidecar's Unix socket (default /tmp/model-sidecar.sock)
  MODEL_TOKEN      session: send the token that the sidecar then requires (default off)
  MODEL_BASE_PATH  prefix to remove from request paths, such as /scoring

AWS_LAMBDA_RUNTIME_API is required and set by Lambda or an emulator. Without Lambda, call the sidecar
directly over HTTP.";

/// Exit code for wrong usage, from sysexits.h.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    // Other arguments are ignored: an emulator may pass the function's handler.
    match std::env::args().nth(1).as_deref() {
        Some("--version") => {
            println!("model-handler {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("--help") => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let settings = HandlerSettings::from_env();
    if !settings.on_lambda {
        eprintln!("AWS_LAMBDA_RUNTIME_API is not set.\n\n{HELP}");
        return ExitCode::from(EX_USAGE);
    }
    start_logs(&settings);
    match runtime(&settings)
        .map_err(Error::from)
        // A spawned task is woken without a system call.
        .and_then(|runtime| runtime.block_on(runtime.spawn(serve(settings)))?)
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the handler stopped: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread starts fastest and is sufficient for one invocation at a time.
fn runtime(settings: &HandlerSettings) -> std::io::Result<Runtime> {
    let mut builder = if settings.concurrency > 1 {
        Builder::new_multi_thread()
    } else {
        Builder::new_current_thread()
    };
    builder.enable_io().enable_time().build()
}

async fn serve(settings: HandlerSettings) -> Result<(), Error> {
    let sidecar = Sidecar::new(settings.socket).with_token(settings.token);
    let handler = Handler::new(sidecar).with_base_path(settings.base_path);
    lambda_runtime::run_concurrent(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let handler = handler.clone();
        async move { handler.handle(event).await.map_err(Diagnostic::from) }
    }))
    .await
}

/// Logs to standard error, in the format of the function's logging configuration. Lambda adds
/// timestamps to text lines; it reads the level of a JSON line only if it has a timestamp.
fn start_logs(settings: &HandlerSettings) {
    let logs = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(settings.log_level)
        .with_target(false)
        .with_ansi(false);
    if settings.json_logs {
        logs.json().flatten_event(true).with_span_list(false).init();
    } else {
        logs.without_time().init();
    }
}
