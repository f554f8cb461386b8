//! Report of a startup: duration of each phase of Init, as one log line and as metrics.

use std::path::Path;
use std::time::{Duration, Instant};

use tracing::info;

use crate::ids::ModelName;
use crate::metrics::defs;
use crate::reload::{Outcome, Timings, milliseconds};

/// Durations of Init's phases.
pub(super) struct Phases {
    started: Instant,
    /// Registration with the platform; `None` outside Lambda.
    pub(super) register: Option<Duration>,
    /// Reading of the configuration.
    pub(super) configure: Duration,
    /// Construction of the parts.
    pub(super) build: Duration,
    /// Opening of ONNX Runtime; `None` until it has succeeded.
    pub(super) open: Option<Duration>,
}

impl Phases {
    /// Phases of a startup that began at `started`.
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            register: None,
            configure: Duration::ZERO,
            build: Duration::ZERO,
            open: None,
        }
    }

    /// Time since the startup began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Logs one line with all durations, and records them as metrics. Models are loaded in parallel, so the line has
    /// the longest duration of each step.
    pub(super) fn report(&self, outcomes: &[(ModelName, Outcome)], socket: &Path) {
        let loaded: Vec<&Timings> = outcomes
            .iter()
            .filter_map(|(_, outcome)| {
                if let Outcome::Loaded(timings) = outcome {
                    Some(timings)
                } else {
                    None
                }
            })
            .collect();
        self.record(outcomes);
        let longest = |step: fn(&Timings) -> Duration| {
            loaded
                .iter()
                .map(|timings| step(timings))
                .max()
                .map(milliseconds)
        };
        info!(
            total_ms = milliseconds(self.started.elapsed()),
            register_ms = self.register.map(milliseconds),
            configure_ms = milliseconds(self.configure),
            build_ms = milliseconds(self.build),
            open_onnxruntime_ms = self.open.map(milliseconds),
            cache_ms = longest(|timings| timings.cache),
            check_ms = longest(|timings| timings.check),
            fetch_ms = longest(|timings| timings.steps.fetch.unwrap_or_default()),
            load_ms = longest(|timings| timings.steps.load),
            warm_up_ms = loaded.iter().filter_map(|timings| timings.steps.warm_up).max().map(milliseconds),
            models = outcomes.len(),
            loaded = loaded.len(),
            socket = %socket.display(),
            "{}",
            if loaded.len() == outcomes.len() { "ready" } else { "started, but not every model is loaded" }
        );
    }

    /// Records the durations as metrics; fetch, load and warm-up are recorded where they happen.
    fn record(&self, outcomes: &[(ModelName, Outcome)]) {
        let times = [
            (defs::INIT_REGISTER_TIME, self.register),
            (defs::INIT_CONFIGURE_TIME, Some(self.configure)),
            (defs::INIT_BUILD_TIME, Some(self.build)),
            (defs::ONNXRUNTIME_OPEN_TIME, self.open),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                metrics::histogram!(name).record(milliseconds(time));
            }
        }
        for (model, outcome) in outcomes {
            if let Outcome::Loaded(steps) = outcome {
                let model = model.as_str();
                for (name, time) in [
                    (defs::MODEL_CACHE_TIME, steps.cache),
                    (defs::MODEL_CHECK_TIME, steps.check),
                ] {
                    metrics::histogram!(name, defs::MODEL_LABEL => model.to_owned())
                        .record(milliseconds(time));
                }
            }
        }
    }
}
