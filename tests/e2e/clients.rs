//! Third-party clients on the port and on the socket.

mod third_party;
