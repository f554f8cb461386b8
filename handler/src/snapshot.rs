//! `SnapStart`: waits for the sidecar before the snapshot, and tells it of each restore.
//!
//! Lambda tells the function's runtime of a restore, but no extension.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri};
use lambda_runtime::{BoxFuture, Error, SnapStartResource};
use model_handler::failure::Failure;
use model_handler::invocation::DEADLINE;
use model_handler::response;
use model_handler::sidecar::Sidecar;
use model_handler::transport::{TimeLimit, Transport as _};

/// Readiness of all models; with `Prefer: wait`, the response waits for it.
const READY: &str = "/v2/health/ready";
/// Default of `MODEL_INIT_BUDGET`, for which the sidecar itself holds back the snapshot.
const WAIT: &str = "wait=120";
/// Maximum time for the sidecar to start and to load its models. Init has 130 s before a snapshot.
const READY_TIME: Duration = Duration::from_secs(125);
/// Path of the report of a restore.
const RESTORE: &str = "/lambda/restore";
/// Maximum time of the report, which takes milliseconds. Lambda's limit is 10 s for all hooks.
const RESTORE_TIME: Duration = Duration::from_secs(2);

/// Sidecar in a process of which Lambda makes a snapshot.
pub(crate) struct SidecarSnapshot {
    sidecar: Sidecar,
}

impl SidecarSnapshot {
    /// Returns the hooks for this sidecar.
    pub(crate) fn new(sidecar: Sidecar) -> Arc<Self> {
        Arc::new(Self { sidecar })
    }

    /// Makes a call; an error is the reason for the log.
    async fn call(&self, request: Request<Bytes>, time: Duration) -> Result<(), String> {
        let answer = self
            .sidecar
            .exchange(request, TimeLimit::starting_now(time))
            .await
            .map_err(|failure: Failure| failure.to_string())?;
        if answer.status.is_success() {
            return Ok(());
        }
        let message = response::message(answer.status, &answer.body);
        Err(format!("status {}: {message}", answer.status))
    }
}

impl SnapStartResource for SidecarSnapshot {
    /// Waits until the models are loaded. Without them the snapshot is made as well, since a restored environment can
    /// load them; `MODEL_REQUIRED` prevents that.
    fn before_snapshot(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = Uri::from_static(READY);
            let headers = request.headers_mut();
            headers.insert("prefer", HeaderValue::from_static(WAIT));
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let deadline = u64::try_from((now + READY_TIME).as_millis()).unwrap_or(u64::MAX);
            headers.insert(DEADLINE, HeaderValue::from(deadline));
            if let Err(problem) = self.call(request, READY_TIME).await {
                tracing::warn!("the snapshot is made before the model sidecar is ready: {problem}");
            }
            Ok(())
        })
    }

    /// Reports the restore. After a failure, the first invocation counts as the report.
    fn after_restore(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async {
            let mut request = Request::new(Bytes::new());
            *request.method_mut() = Method::POST;
            *request.uri_mut() = Uri::from_static(RESTORE);
            if let Err(problem) = self.call(request, RESTORE_TIME).await {
                tracing::warn!(
                    "cannot report the restore to the model sidecar, which notices it at the first invocation: {problem}"
                );
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Waker};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::time::Instant;

    use super::*;

    fn is_pending(future: Pin<&mut impl Future>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        future.poll(&mut context).is_pending()
    }

    /// Receives a request without a body. The response is the caller's.
    async fn receive(listener: &UnixListener) -> (UnixStream, String) {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a request"));
        }
        let head = String::from_utf8(head).expect("text");
        (stream, head)
    }

    #[tokio::test]
    async fn the_snapshot_waits_for_a_sidecar_that_answers_late() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("sidecar.sock");
        let hooks = SidecarSnapshot::new(Sidecar::new(socket.clone()));
        for status in ["200 OK", "503 Service Unavailable"] {
            let mut waiting = pin!(hooks.before_snapshot());
            // The sidecar does not listen yet.
            assert!(is_pending(waiting.as_mut()));
            let listener = UnixListener::bind(&socket).expect("a socket");
            let (mut stream, head) = tokio::select! {
                received = receive(&listener) => received,
                _ = &mut waiting => panic!("the snapshot is made before the response"),
            };
            assert!(
                head.starts_with("GET /v2/health/ready HTTP/1.1\r\n"),
                "{head}"
            );
            assert!(head.contains("prefer: wait=120\r\n"), "{head}");
            assert!(is_pending(waiting.as_mut()));
            let response = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
            stream
                .write_all(response.as_bytes())
                .await
                .expect("a response");
            waiting.await.expect("a snapshot");
            drop((listener, stream));
            std::fs::remove_file(&socket).expect("the socket");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_snapshot_is_made_without_a_sidecar_in_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let hooks = SidecarSnapshot::new(Sidecar::new(folder.path().join("sidecar.sock")));
        let began = Instant::now();
        hooks.before_snapshot().await.expect("a snapshot");
        assert_eq!(began.elapsed().as_secs(), READY_TIME.as_secs());
    }
}
