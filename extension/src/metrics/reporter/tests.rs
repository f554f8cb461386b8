use std::sync::Mutex as StdMutex;

use futures_core::future::BoxFuture;

use super::*;
use crate::clock::wall::Wall;
use crate::metrics::Rejection;
use crate::metrics::dimensions::Dimensions;

/// Reaction of the sink to a delivery. By default, it takes nothing and is not reachable.
#[derive(Default)]
struct Reaction {
    /// Number of data that it takes.
    settled: usize,
    rejected: Vec<Rejection>,
    /// `true` if it does not respond for the rest.
    hangs: bool,
    /// `true` if it took everything.
    succeeds: bool,
}

/// A sink that follows a script, and then takes everything.
#[derive(Default)]
struct Scripted {
    reactions: StdMutex<Vec<Reaction>>,
    taken: StdMutex<Vec<Datum>>,
}

impl Scripted {
    fn new(mut reactions: Vec<Reaction>) -> Arc<Self> {
        reactions.reverse();
        Arc::new(Self {
            reactions: StdMutex::new(reactions),
            taken: StdMutex::default(),
        })
    }

    /// Sum of the delivered values of a metric.
    fn sum(&self, name: &str) -> f64 {
        let taken = self.taken.lock().unwrap();
        let of_metric = taken.iter().filter(|datum| datum.metric.name == name);
        let values = of_metric.flat_map(|datum| &datum.values);
        values.map(|(value, count)| value * count).sum()
    }
}

impl Sink for Scripted {
    fn send<'a>(
        &'a self,
        data: &'a [Datum],
        progress: &'a DeliveryProgress,
    ) -> BoxFuture<'a, Result<(), String>> {
        let reaction = self.reactions.lock().unwrap().pop();
        let reaction = reaction.unwrap_or_else(|| Reaction {
            settled: data.len(),
            succeeds: true,
            ..Reaction::default()
        });
        let rejected = |datum: &&Datum| {
            let metric = datum.metric.name;
            !reaction.rejected.iter().any(|one| one.metric == metric)
        };
        let taken = data[..reaction.settled].iter().filter(rejected).cloned();
        self.taken.lock().unwrap().extend(taken);
        for rejection in reaction.rejected {
            progress.reject(reaction.settled, rejection);
        }
        progress.settle(reaction.settled);
        Box::pin(async move {
            if reaction.hangs {
                std::future::pending::<()>().await;
            }
            if reaction.succeeds {
                return Ok(());
            }
            Err("no connection".to_owned())
        })
    }
}

struct Bench {
    wall: Arc<Wall>,
    recorder: Recorder,
    sink: Arc<Scripted>,
    reporter: Reporter,
}

fn bench(reactions: Vec<Reaction>) -> Bench {
    bench_of(Set::All, reactions)
}

fn bench_of(set: Set, reactions: Vec<Reaction>) -> Bench {
    let wall = Wall::new();
    let recorder = Recorder::new(Arc::clone(&wall) as _);
    let sink = Scripted::new(reactions);
    let log = EmfSink::new("N".to_owned(), Dimensions::default(), set, "INFO");
    let reporter = Reporter::new(
        recorder.clone(),
        Arc::clone(&wall) as _,
        Arc::clone(&sink) as _,
        log,
        set,
    );
    Bench {
        wall,
        recorder,
        sink,
        reporter,
    }
}

/// Reactions of a sink that cannot be reached.
fn unreachable(times: usize) -> Vec<Reaction> {
    std::iter::repeat_with(Reaction::default)
        .take(times)
        .collect()
}

impl Bench {
    fn count(&self, name: &'static str, times: u64) {
        metrics::with_local_recorder(&self.recorder, || {
            metrics::counter!(name).increment(times);
        });
    }

    /// Flushes while the recorder of the bench counts dropped data.
    async fn flush(&self) -> Result<(), Undelivered> {
        let _guard = metrics::set_default_local_recorder(&self.recorder);
        self.reporter.flush().await
    }
}

#[tokio::test]
async fn undelivered_data_are_delivered_later() {
    let bench = bench(unreachable(2));
    for flush in 0..3 {
        bench.count(defs::INFERENCES, 10);
        assert_eq!(bench.flush().await.is_ok(), flush == 2);
    }
    assert!((bench.sink.sum("Inferences") - 30.0).abs() < 1e-9);
    assert_eq!(bench.reporter.failures(), 0);
}

#[tokio::test]
async fn repeated_failures_write_to_the_log_until_a_delivery_succeeds() {
    let away = usize::try_from(FAILURES_BEFORE_LOG).unwrap() + 2;
    let bench = bench(unreachable(away));
    for flush in 1..=away {
        bench.count(defs::INFERENCES, 1);
        let failed = bench.flush().await.is_err();
        let expected = flush < usize::try_from(FAILURES_BEFORE_LOG).unwrap();
        assert_eq!(failed, expected, "flush {flush}");
    }
    bench.count(defs::INFERENCES, 100);
    bench.flush().await.unwrap();
    assert!((bench.sink.sum("Inferences") - 100.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_rejected_datum_is_counted_and_blocks_nothing() {
    let rejection = Rejection {
        metric: defs::INFERENCES,
        reason: "invalid".to_owned(),
    };
    let bench = bench(vec![Reaction {
        settled: 2,
        rejected: vec![rejection],
        succeeds: true,
        ..Reaction::default()
    }]);
    bench.count(defs::INFERENCES, 7);
    bench.count(defs::QUEUE_FULL, 3);
    bench.flush().await.unwrap();
    bench.flush().await.unwrap();
    assert!(bench.sink.sum("Inferences").abs() < 1e-9);
    assert!((bench.sink.sum("QueueFull") - 3.0).abs() < 1e-9);
    assert!((bench.sink.sum("MetricsDropped") - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_cancelled_flush_delivers_nothing_twice_that_was_taken() {
    let bench = bench(vec![Reaction {
        settled: 1,
        hangs: true,
        ..Reaction::default()
    }]);
    bench.count(defs::INFERENCES, 7);
    bench.count(defs::QUEUE_FULL, 3);
    tokio::select! {
        biased;
        _ = bench.flush() => panic!("the sink does not respond"),
        () = tokio::task::yield_now() => {}
    }
    bench.flush().await.unwrap();
    assert!((bench.sink.sum("Inferences") - 7.0).abs() < 1e-9);
    assert!((bench.sink.sum("QueueFull") - 3.0).abs() < 1e-9);
}

#[tokio::test]
async fn outdated_data_are_dropped_and_new_data_delivered() {
    let bench = bench(vec![]);
    bench.count(defs::COLD_STARTS, 1);
    bench
        .wall
        .pass(std::time::Duration::from_secs(15 * 24 * 3600));
    bench.count(defs::INFERENCES, 5);
    bench.flush().await.unwrap();
    bench.flush().await.unwrap();
    assert!(bench.sink.sum("ColdStarts").abs() < 1e-9);
    assert!((bench.sink.sum("Inferences") - 5.0).abs() < 1e-9);
    assert!((bench.sink.sum("MetricsDropped") - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn undelivered_data_are_limited_in_bytes_and_the_oldest_are_dropped() {
    let bench = bench(unreachable(3));
    for minute in 0..200_u32 {
        metrics::with_local_recorder(&bench.recorder, || {
            let latency = metrics::histogram!(defs::INFERENCE_LATENCY);
            for value in 100..999_u32 {
                latency.record(f64::from(value) + f64::from(minute) * 1_000.0);
            }
        });
        bench.wall.pass(std::time::Duration::from_secs(60));
    }
    bench.count(defs::INFERENCES, 5);
    for _ in 0..3 {
        assert!(bench.flush().await.is_err());
        let state = bench.reporter.state.lock().await;
        let bytes: usize = state.undelivered.iter().map(Datum::bytes).sum();
        assert!(bytes <= MAX_KEPT_BYTES, "{bytes}");
    }
    bench.flush().await.unwrap();
    assert!((bench.sink.sum("Inferences") - 5.0).abs() < 1e-9);
}

#[tokio::test]
async fn observations_from_before_a_snapshot_are_discarded() {
    let bench = bench(unreachable(1));
    bench.count(defs::COLD_STARTS, 1);
    assert!(bench.flush().await.is_err());
    bench.count(defs::COLD_STARTS, 1);
    bench.reporter.discard().await;
    bench.count(defs::INFERENCES, 1);
    bench.flush().await.unwrap();
    assert!(bench.sink.sum("ColdStarts").abs() < 1e-9);
    assert!((bench.sink.sum("Inferences") - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn metrics_outside_the_set_are_not_delivered() {
    for (set, full) in [(Set::Default, 0.0), (Set::All, 3.0)] {
        let bench = bench_of(set, vec![]);
        bench.count(defs::INFERENCES, 2);
        bench.count(defs::QUEUE_FULL, 3);
        bench.flush().await.unwrap();
        assert!((bench.sink.sum("Inferences") - 2.0).abs() < 1e-9);
        assert!((bench.sink.sum("QueueFull") - full).abs() < 1e-9);
    }
}
