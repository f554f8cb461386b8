//! HTTP/1.1 server on a Unix socket and on loopback TCP.
//!
//! Takes bound listeners and a stop signal, and runs on its own threads. A request passes through these files:
//!
//! ```text
//! acceptor ─▶ connection ─▶ router ─▶ auth ─▶ route
//!                             └─▶ routes/* ─▶ request, request_body ─▶ inference ─▶ response
//! ```
//!
//! A handler in this process has no connection: [`call`] passes its request to the router. `routes/attach`
//! holds the connection of the function's process.
//!
//! `limits` holds the limits on connections, heads and bodies; their timeouts count time awake. `error` maps every
//! error to its status. On Lambda, an idle connection has no timeout. It may have been frozen for an hour, and closing
//! it at the thaw would race with the next request.

mod acceptor;
mod attachment;
mod auth;
mod await_model;
mod buffer;
mod compression;
mod connection;
mod context;
mod decompression;
mod error;
mod headers;
mod host;
mod idle_timeout;
mod in_process;
mod inbound_body;
mod inference;
mod limits;
mod listen;
mod lookup;
mod media_type;
mod model_health;
mod observer;
mod off_thread;
mod request;
mod request_body;
mod response;
mod response_body;
mod rollback_policy;
mod route;
mod router;
mod routes;
mod server_timing;
mod statistics;
#[cfg(test)]
mod tests;

pub use acceptor::{ServerHandle, start};
pub use attachment::Attachment;
pub use context::ServerContext;
pub use in_process::call;
pub use listen::{BindError, Listeners};
