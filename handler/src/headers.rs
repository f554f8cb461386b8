//! Hop-by-hop headers, which neither direction forwards.

use http::header::{self, HeaderName};

/// Headers of one connection and not of the message: RFC 9110, section 7.6.1, and two that clients
/// send in spite of it.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::PROXY_AUTHENTICATE
        || *name == header::PROXY_AUTHORIZATION
        || *name == header::TE
        || *name == header::TRAILER
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || name == "keep-alive"
        || name == "proxy-connection"
}
