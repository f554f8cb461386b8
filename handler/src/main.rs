//! `bootstrap`, the function's runtime; see the library for its behaviour.

mod after_response;
mod setenv;
mod snapshot;

use std::pin::Pin;
use std::process::ExitCode;

use after_response::AfterResponse;
use lambda_runtime::layers::TracingLayer;
use lambda_runtime::tower::Service;
use lambda_runtime::{
    Diagnostic, Error, LambdaEvent, LambdaInvocation, Runtime as LambdaRuntime, service_fn,
};
use lambda_runtime_api_client::body::Body;
use lambda_runtime_api_client::{PooledClient, build_request};
use model_handler::Handler;
use model_handler::attachment::{FunctionProcess, attach};
use model_handler::invocation::Invocation;
use model_handler::settings::HandlerSettings;
use model_handler::sidecar::Sidecar;
use model_handler::trace::{Exporter, LAST_EXPORT, Traced, Tracer};
use serde_json::value::RawValue;
use snapshot::SidecarSnapshot;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
The model sidecar's Lambda handler. Lambda starts it as the bootstrap of a function with the model
sidecar's layer. It forwards each event to the sidecar and returns the sidecar's response.

Environment:
  MODEL_HANDLER    forward, or attach: the sidecar receives the events itself, and this process waits
                   (default forward)
  MODEL_SOCKET     the sidecar's Unix socket (default /tmp/model-sidecar.sock)
  MODEL_TOKEN      session: send the token that the sidecar then requires (default off)
  MODEL_BASE_PATH  prefix to remove from request paths, such as /scoring
  OTEL_EXPORTER_OTLP_ENDPOINT
                   collector of OpenTelemetry in the function, such as http://localhost:4318

AWS_LAMBDA_RUNTIME_API is required and set by Lambda or an emulator. Without Lambda, call the sidecar
directly over HTTP.";

/// Exit code for wrong usage, from sysexits.h.
const EX_USAGE: u8 = 64;

/// Type of the error if the process cannot attach to the sidecar.
const ATTACH_ERROR: &str = "Handler.Attach";

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
        .and_then(|runtime| runtime.block_on(runtime.spawn(run(settings)))?)
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the handler stopped: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread starts fastest and is sufficient for one invocation at a time, and to wait.
fn runtime(settings: &HandlerSettings) -> std::io::Result<Runtime> {
    let mut builder = if settings.concurrency > 1 && settings.attached.is_none() {
        Builder::new_multi_thread()
    } else {
        Builder::new_current_thread()
    };
    builder.enable_io().enable_time().build()
}

async fn run(settings: HandlerSettings) -> Result<(), Error> {
    let sidecar = Sidecar::new(settings.socket).with_token(settings.token);
    if let Some(process) = settings.attached {
        return Err(wait(&sidecar, &process).await);
    }
    for problem in &settings.otlp_errors {
        tracing::warn!("{problem}");
    }
    let exporter = settings
        .otlp
        .map(|otlp| Exporter::new(otlp, Handle::current()));
    let has_exporter = exporter.is_some();
    let tracer = Tracer::new(settings.xray_daemon.as_deref(), exporter);
    let last_spans = tracer.clone().filter(|_| has_exporter);
    let snapshot = SidecarSnapshot::new(sidecar.clone());
    let transport = Traced::new(sidecar, tracer.clone());
    let handler = Handler::new(transport).with_base_path(settings.base_path);
    let service = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let handler = handler.clone();
        async move {
            let invocation = Invocation::from(event.context);
            let outcome = handler.handle(Box::<str>::from(event.payload), &invocation);
            outcome.await.map_err(Diagnostic::from)
        }
    });
    let flush = AfterResponse::new(move || {
        if let Some(tracer) = &tracer {
            tracer.flush();
        }
    });
    let runtime = LambdaRuntime::new(service).register_snapstart_resource(snapshot);
    let runtime = runtime.layer(TracingLayer::new());
    let polls = poll(runtime.layer(flush));
    match last_spans {
        Some(tracer) => until_shutdown(polls, &tracer).await,
        None => polls.await,
    }
}

/// Polls until SIGTERM, which is Lambda's shutdown, and exports the last spans.
async fn until_shutdown(
    polls: impl Future<Output = Result<(), Error>>,
    tracer: &Tracer,
) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = polls => result,
        _ = terminate.recv() => {
            tracer.drain(LAST_EXPORT).await;
            Ok(())
        }
    }
}

/// Polls for events until the Runtime API fails. The future is boxed here, since the compiler cannot prove that of the
/// whole service to be `Send`.
fn poll<S>(runtime: LambdaRuntime<S>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>
where
    S: Service<LambdaInvocation, Response = (), Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    Box::pin(runtime.run_concurrent())
}

/// Attaches to the sidecar, and waits for its end, which is an error. Lambda then starts the environment anew.
async fn wait(sidecar: &Sidecar, process: &FunctionProcess) -> Error {
    let error = attach(sidecar, process).await;
    if error.is_of_init()
        && let Err(problem) = report_init_error(&error.to_string()).await
    {
        tracing::error!("cannot report the error to the platform: {problem}");
    }
    error.into()
}

/// Reports a failed Init to the platform.
async fn report_init_error(message: &str) -> Result<(), Error> {
    let body = serde_json::to_vec(&Diagnostic {
        error_type: ATTACH_ERROR.to_owned(),
        error_message: message.to_owned(),
    })?;
    let request = build_request()
        .method("POST")
        .uri("/2018-06-01/runtime/init/error")
        .header("lambda-runtime-function-error-type", ATTACH_ERROR)
        .body(Body::from(body))?;
    PooledClient::builder().build().call(request).await?;
    Ok(())
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
