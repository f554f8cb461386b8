//! Third-party clients on the port and on the socket.

mod examples;
mod third_party;
