//! `GET /metrics`: all metrics since the start of the process, for Prometheus.

use hyper::header::{CONTENT_TYPE, HeaderValue};

use crate::metrics::prometheus;
use crate::server::context::ServerContext;
use crate::server::response::ApiResponse;
use crate::server::response_body::ResponseBody;

/// Returns all metrics in Prometheus' text format.
pub(in crate::server) fn metrics(context: &ServerContext) -> ApiResponse {
    let text = prometheus::text(context.recorder.totals());
    let mut response = ApiResponse::new(ResponseBody::from(bytes::Bytes::from(text)));
    let media_type = HeaderValue::from_static(prometheus::MEDIA_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}
