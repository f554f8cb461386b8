//! Construction of the reporter from the configuration.

use std::sync::Arc;

use aws_config::SdkConfig;

use super::cloudwatch::CloudWatchSink;
use super::defs::Set;
use super::dimensions::Dimensions;
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
        let added = config.metrics_dimensions.clone();
        let dimensions = Dimensions::new(config.function_name.clone(), added);
        let set = if config.has_all_metrics {
            Set::All
        } else {
            Set::Default
        };
        let log_level = log_level.unwrap_or("INFO");
        let emf = EmfSink::new(namespace.clone(), dimensions.clone(), set, log_level);
        let (sink, delivered): (Arc<dyn Sink>, Set) = match config.metrics {
            MetricsSink::CloudWatch => {
                let sink = CloudWatchSink::new(aws, namespace, dimensions);
                (Arc::new(sink), set)
            }
            // Metrics outside the set are properties.
            MetricsSink::Emf => (Arc::new(emf.clone()), Set::All),
            MetricsSink::None => (Arc::new(NoSink), set),
        };
        Self::new(recorder, clock, sink, emf, delivered)
    }
}
