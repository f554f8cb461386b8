//! Sources of models: S3, `file://`, proxies and credentials.

mod credentials;
mod fetch;
mod layouts;
mod local_file;
mod multipart_uploads;
mod proxy;
mod public_errors;
mod s3_errors;
mod s3_unavailable;
mod s3_unreachable;
mod shared_cache;
