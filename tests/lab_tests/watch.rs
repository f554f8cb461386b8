//! A program that measures its own clocks, for the tests of the lab's clock.
//!
//! It arms the waits of the standard library and of tokio for `WATCH_FOR` milliseconds and prints
//! `armed`. For each wait it then prints its duration by both clocks and its number of wake-ups:
//! `NAME monotonic=MS wall=MS wakes=N`. Once `/tmp/ask` exists it prints `asked` with the same
//! values since its start, then arms everything again, for 200 ms.

use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// A point in time on both clocks.
#[derive(Clone, Copy)]
struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    fn report(self, name: &str, wakes: u32) {
        let wall = self.wall.elapsed().unwrap_or_default();
        println!(
            "{name} monotonic={} wall={} wakes={wakes}",
            self.monotonic.elapsed().as_millis(),
            wall.as_millis()
        );
    }
}

/// Waits in a thread of its own, repeatedly until the time is over by its own clock.
fn wait(
    name: &'static str,
    time: Duration,
    mut once: impl FnMut(Duration) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let begin = Moment::now();
        let mut wakes = 0;
        while let Some(left) = time
            .checked_sub(begin.monotonic.elapsed())
            .filter(|left| !left.is_zero())
        {
            once(left);
            wakes += 1;
        }
        begin.report(name, wakes);
    })
}

fn arm(time: Duration) -> Vec<JoinHandle<()>> {
    let (sender, receiver) = mpsc::channel::<()>();
    let pair = Arc::new((Mutex::new(()), Condvar::new()));
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().ok()
    };
    let tokio_runtime = runtime();
    vec![
        wait("park", time, std::thread::park_timeout),
        wait("sleep", time, std::thread::sleep),
        wait("condvar", time, move |left| {
            let guard = pair.0.lock().unwrap_or_else(PoisonError::into_inner);
            drop(pair.1.wait_timeout(guard, left));
        }),
        wait("channel", time, move |left| {
            let _held = &sender;
            let _ = receiver.recv_timeout(left);
        }),
        wait("tokio", time, move |left| {
            if let Some(runtime) = &tokio_runtime {
                runtime.block_on(async {
                    // Both on the runtime's own thread and on a worker.
                    let worker = tokio::spawn(tokio::time::sleep(left));
                    tokio::time::sleep(left).await;
                    let _ = worker.await;
                });
            }
        }),
    ]
}

fn main() {
    let begin = Moment::now();
    let milliseconds = std::env::var("WATCH_FOR")
        .ok()
        .and_then(|text| text.parse().ok());
    let first = arm(Duration::from_millis(milliseconds.unwrap_or(1_000)));
    println!("armed");
    while !std::path::Path::new("/tmp/ask").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    begin.report("asked", 0);
    let second = arm(Duration::from_millis(200));
    for thread in second {
        let _ = thread.join();
    }
    println!("second over");
    for thread in first {
        let _ = thread.join();
    }
    println!("first over");
}
