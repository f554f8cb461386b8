//! Log: text or JSON lines on standard output, according to the function's logging configuration.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LogSettings};

/// Beginning of the names of the AWS SDK's libraries. Their lines at DEBUG or TRACE have credentials: the ID of the
/// access key, and the headers of a signed request.
const AWS_SDK: &str = "aws_";

/// Starts logging. Libraries log from WARN on; with DEBUG or TRACE they log at that level, and the AWS SDK at
/// INFO.
pub fn start(settings: &LogSettings) {
    let own = LevelFilter::from_level(settings.level);
    let others = if settings.level >= tracing::Level::DEBUG {
        own
    } else {
        own.min(LevelFilter::WARN)
    };
    let targets = Targets::new()
        .with_default(others)
        .with_target("model_sidecar", own)
        .with_target("onnxruntime", own)
        .with_target(AWS_SDK, others.min(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false);
    // A second start, as in tests, keeps the first subscriber.
    let _ = match settings.format {
        LogFormat::Json => {
            let lines = lines
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            tracing_subscriber::registry()
                .with(lines.with_filter(targets))
                .try_init()
        }
        LogFormat::Text => tracing_subscriber::registry()
            .with(lines.with_filter(targets))
            .try_init(),
    };
}
