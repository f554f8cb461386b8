//! Driven by Lambda's Extensions API, through `lambda-extension`.
//!
//! That crate's loop asks for the next event, hands it to a processor, and asks again when the processor has
//! returned. Ours passes events on over a channel, and returns when told to: so the loop can run from the end
//! of Init on, `next` can be held back while there is work, and after SHUTDOWN it is never called again.

use std::convert::Infallible;
use std::time::Duration;

use lambda_extension::{
    Error, Extension, LambdaEvent, NextEvent, ShutdownEvent, requests, service_fn,
};
use lambda_runtime_api_client::PooledClient;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{error, info};

use super::Driver;
use crate::clock::{Clock, Deadline};

/// Lambda kills 2 s after SHUTDOWN; what is done by then is done.
const SHUTDOWN_MARGIN: Duration = Duration::from_millis(500);
/// The longest time for the last flush, whatever deadline the event brings.
const SHUTDOWN_TIME: Duration = Duration::from_millis(1_500);

/// An event, and the word that `next` may be called again.
struct Delivery {
    event: NextEvent,
    done: oneshot::Sender<()>,
}

/// A registered extension whose Init has not ended yet.
pub struct Registration {
    id: String,
    run: futures_core::future::BoxFuture<'static, Result<(), Error>>,
    deliveries: mpsc::Receiver<Delivery>,
}

/// Registers with the platform, for these events.
pub async fn register(events: &[&str]) -> Result<Registration, Error> {
    let (sender, deliveries) = mpsc::channel(1);
    let processor = service_fn(move |event: LambdaEvent| {
        let sender: mpsc::Sender<Delivery> = sender.clone();
        async move {
            let (done, may_go_on) = oneshot::channel();
            if sender
                .send(Delivery {
                    event: event.next,
                    done,
                })
                .await
                .is_ok()
            {
                let _ = may_go_on.await;
            }
            Ok::<(), Infallible>(())
        }
    });
    let extension = Extension::new()
        .with_events(events)
        .with_events_processor(processor)
        .register()
        .await?;
    Ok(Registration {
        id: extension.extension_id.clone(),
        run: Box::pin(extension.run()),
        deliveries,
    })
}

impl Registration {
    /// Tells the platform that Init failed, and why. The process ends after this.
    pub async fn init_error(self, kind: &str, message: &str) {
        let body = requests::ErrorRequest {
            error_message: message,
            error_type: kind,
            stack_trace: Vec::new(),
        };
        let sent = match requests::init_error(&self.id, kind, Some(body)) {
            Ok(request) => PooledClient::builder()
                .build()
                .call(request)
                .await
                .map(drop),
            Err(error) => Err(error),
        };
        if let Err(problem) = sent {
            error!("the platform could not be told that Init failed: {problem}");
        }
    }

    /// Ends Init by the first call of `next`, and gives the events from there on.
    #[must_use]
    pub fn ready(self) -> Events {
        Events {
            loop_task: tokio::spawn(self.run),
            deliveries: self.deliveries,
        }
    }
}

/// The events of a registered extension.
pub struct Events {
    loop_task: JoinHandle<Result<(), Error>>,
    deliveries: mpsc::Receiver<Delivery>,
}

impl Events {
    /// Does what is due at each invocation, until SHUTDOWN; gives the time that is left for the end. An error
    /// is that of the connection to the platform.
    pub async fn invocations(
        mut self,
        driver: &mut Driver,
        clock: &dyn Clock,
    ) -> Result<Duration, Error> {
        driver.next_called();
        loop {
            let Delivery { event, done } = self.next().await?;
            match event {
                NextEvent::Invoke(invoke) => {
                    driver.invoked(invoke.deadline_ms).await;
                    driver.next_called();
                    let _ = done.send(());
                }
                NextEvent::Shutdown(shutdown) => {
                    driver.shut_down();
                    return Ok(self.last(&shutdown, clock));
                }
            }
        }
    }

    /// Waits for SHUTDOWN alone, on managed instances; gives the time that is left for the end.
    pub async fn shutdown(mut self, clock: &dyn Clock) -> Result<Duration, Error> {
        loop {
            let Delivery { event, done } = self.next().await?;
            match event {
                NextEvent::Invoke(_) => {
                    let _ = done.send(());
                }
                NextEvent::Shutdown(shutdown) => return Ok(self.last(&shutdown, clock)),
            }
        }
    }

    async fn next(&mut self) -> Result<Delivery, Error> {
        tokio::select! {
            Some(delivery) = self.deliveries.recv() => Ok(delivery),
            ended = &mut self.loop_task => Err(ended_by(ended)),
        }
    }

    fn last(self, shutdown: &ShutdownEvent, clock: &dyn Clock) -> Duration {
        info!(reason = shutdown.shutdown_reason, "shutting down");
        // After SHUTDOWN there is no next event to ask for.
        self.loop_task.abort();
        let deadline = Deadline::at_unix_ms(shutdown.deadline_ms).less(SHUTDOWN_MARGIN);
        deadline.remaining(clock.now()).min(SHUTDOWN_TIME)
    }
}

fn ended_by(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Error {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) => "the loop of the Extensions API ended".into(),
        Err(error) => error.into(),
    }
}
