//! Construction of the reporter from the configuration.

use std::sync::Arc;

use aws_config::SdkConfig;

use super::cloudwatch::CloudWatchSink;
use super::emf::EmfSink;
use super::recorder::Recorder;
use super::reporter::Reporter;
use super::sink::{NoSink, Sink};
use crate::clock::Clock;
use crate::config::{Config, MetricsSink};

impl Reporter {
    /// Builds a reporter to the configured sink. `log_level` is the function's log level, `None` for the default.
    #[must_use]
    pub fn from_config(
        config: &Config,
        log_level: Option<&str>,
        aws: &SdkConfig,
        recorder: Recorder,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let namespace = config.metrics_namespace.clone();
        let function = config.function_name.clone();
        let log_level = log_level.unwrap_or("INFO");
        let emf = EmfSink::new(namespace.clone(), function.clone(), log_level);
        let sink: Arc<dyn Sink> = match config.metrics {
            MetricsSink::CloudWatch => Arc::new(CloudWatchSink::new(aws, namespace, function)),
            MetricsSink::Emf => Arc::new(emf.clone()),
            MetricsSink::None => Arc::new(NoSink),
        };
        Self::new(recorder, clock, sink, emf)
    }
}
