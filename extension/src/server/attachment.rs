//! The function's process, attached to the sidecar over the Unix socket with `MODEL_HANDLER=attach`.

use std::convert::Infallible;

use model_handler::attachment::FunctionProcess;
use tokio::sync::oneshot;

/// Attached process. Dropping it releases the process.
#[derive(Debug)]
pub struct Attachment {
    /// Description of the process.
    pub process: FunctionProcess,
    /// Never used to send: closed with the connection.
    connection: oneshot::Receiver<Infallible>,
}

impl Attachment {
    /// Creates an attachment, with the other end of its connection.
    pub(super) fn new(process: FunctionProcess) -> (Self, oneshot::Sender<Infallible>) {
        let (held, connection) = oneshot::channel();
        let attachment = Self {
            process,
            connection,
        };
        (attachment, held)
    }

    /// Waits until the process has closed its connection, which normally is its end.
    pub async fn ended(self) {
        let _ = self.connection.await;
    }
}
