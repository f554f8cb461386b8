//! Takes what was observed to a sink, and loses none of it while the sink is away.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use tokio::sync::Mutex;

use super::{Datum, EmfSink, Recorder};

/// Where metrics go. A seam.
pub trait Sink: Send + Sync {
    /// Delivers all of `data`, or says how many from the front were delivered before it failed.
    fn send<'a>(&'a self, data: &'a [Datum]) -> BoxFuture<'a, Result<(), SinkError>>;
}

/// A delivery that failed.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct SinkError {
    /// How many data from the front were delivered.
    pub delivered: usize,
    /// Why the next was not.
    pub reason: String,
}

/// The sink that drops everything.
#[derive(Clone, Copy, Debug)]
pub struct NoSink;

impl Sink for NoSink {
    fn send<'a>(&'a self, _: &'a [Datum]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Data kept while the sink is away: about a day of minutes of a few models. The oldest go first.
const MOST_KEPT: usize = 20_000;

/// Takes observations from the recorder to the sink.
pub struct Reporter {
    recorder: Recorder,
    sink: Arc<dyn Sink>,
    last_resort: EmfSink,
    undelivered: Mutex<Vec<Datum>>,
}

impl Reporter {
    /// A reporter to `sink`; at the very end, what `sink` cannot take is written to the log by `last_resort`.
    #[must_use]
    pub fn new(recorder: Recorder, sink: Arc<dyn Sink>, last_resort: EmfSink) -> Self {
        Self {
            recorder,
            sink,
            last_resort,
            undelivered: Mutex::default(),
        }
    }

    /// Sends everything observed so far; what cannot be delivered is kept for the next time. Cancelled in the
    /// middle, it loses nothing, but may deliver something twice.
    pub async fn flush(&self) -> Result<(), SinkError> {
        let mut undelivered = self.undelivered.lock().await;
        undelivered.extend(self.recorder.drain());
        let surplus = undelivered.len().saturating_sub(MOST_KEPT);
        undelivered.drain(..surplus);
        if undelivered.is_empty() {
            return Ok(());
        }
        match self.sink.send(&undelivered).await {
            Ok(()) => {
                undelivered.clear();
                Ok(())
            }
            Err(error) => {
                let delivered = error.delivered.min(undelivered.len());
                undelivered.drain(..delivered);
                Err(error)
            }
        }
    }

    /// Writes all that is still undelivered to the log, for CloudWatch to read there.
    pub async fn write_rest_to_log(&self) {
        let mut undelivered = self.undelivered.lock().await;
        undelivered.extend(self.recorder.drain());
        self.last_resort.write(&undelivered);
        undelivered.clear();
    }
}
