//! An S3 server in the test's process: `s3s` implements the protocol and checks every signature, a
//! store in memory holds the objects.
//!
//! It implements what a reader of a model's bucket can observe: versions and delete markers,
//! `ETag`s, conditional requests, ranges, `versionId` and full-object checksums. It lists objects
//! and versions by prefix, and responds with 403 if a missing key must be indistinguishable from a
//! forbidden one. For a publisher it implements conditional and multipart uploads with SHA-256 or
//! another checksum, and user metadata. Buckets are addressed by path. Encryption, ACLs and tags
//! are `NotImplemented`.
//!
//! Every request is recorded ([`RequestRecord`]); a test waits for requests with
//! [`S3Server::wait_for_requests`]. [`Rule`]s make requests fail. The whole server goes
//! [`down`](S3Server::down) and [`up`](S3Server::up) on the same port. Response bodies are slices
//! of the stored object, so that large objects are never copied.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Incoming;
use s3s::S3ErrorCode;
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{HotReloadConfigProvider, S3Config};
use s3s::service::{S3Service, S3ServiceBuilder};

use crate::credentials;
use crate::listener::{Body, ConnectionControl, Handler, ListenError, Listener};
use crate::records::{NotSeen, Records};
use crate::tls::Tls;

pub(crate) mod client;
mod conditions;
mod faults;
mod fields;
mod multipart;
mod operations;
mod response_body;
mod store;
mod versions;

use faults::Faults;
use operations::Operations;
use response_body::RecordUpdater;
use store::Store;

pub use faults::Rule;
pub use store::{Checksum, Metadata, Object};

/// Maximum number of keys per page of a listing.
const MAX_KEYS: i32 = 1000;

/// A running S3 server on 127.0.0.1. It stops when dropped.
pub struct S3Server {
    listener: Listener<S3Handler>,
    front: Arc<S3Handler>,
}

/// One recorded request.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// `GET`, `HEAD`, `PUT`, `DELETE`.
    pub method: String,
    /// Bucket, empty if the path names none.
    pub bucket: String,
    /// Decoded key; empty for requests on a bucket.
    pub key: String,
    /// Query string as sent.
    pub query: String,
    /// Parameter `versionId` of the query.
    pub version_id: Option<String>,
    /// Header `Range`.
    pub range: Option<String>,
    /// Header `If-Match`.
    pub if_match: Option<String>,
    /// Header `If-None-Match`.
    pub if_none_match: Option<String>,
    /// Header `If-Modified-Since`.
    pub if_modified_since: Option<String>,
    /// Access key of the signature in the headers; `None` without one.
    pub access_key: Option<String>,
    /// Time of arrival.
    pub at: SystemTime,
    /// Status of the response; `None` until its headers are ready.
    pub status: Option<u16>,
    /// Bytes of the response body passed to the connection so far.
    pub sent: u64,
    /// Duration until the end of the response; `None` while it is in progress.
    pub took: Option<Duration>,
}

impl S3Server {
    /// Starts on a free port.
    ///
    /// # Errors
    /// [`ListenError`] if no port is available.
    pub async fn start() -> Result<Self, ListenError> {
        Self::start_on(0).await
    }

    /// Starts on a free port with TLS and HTTP/1.1 only, and a certificate signed by its
    /// [`authority`](S3Server::authority).
    ///
    /// # Errors
    /// [`ListenError`] if no port, or no certificate, is available.
    pub async fn start_tls() -> Result<Self, ListenError> {
        Self::start_with(Some(Tls::for_this_machine()?), 0).await
    }

    /// Starts on `port` of 127.0.0.1; 0 selects a free port.
    ///
    /// # Errors
    /// [`ListenError`] if the port is not available.
    pub async fn start_on(port: u16) -> Result<Self, ListenError> {
        Self::start_with(None, port).await
    }

    async fn start_with(tls: Option<Tls>, port: u16) -> Result<Self, ListenError> {
        let store = Arc::new(Store::default());
        let mut service = S3ServiceBuilder::new(Operations::new(Arc::clone(&store)));
        service.set_auth(Keys);
        let config = Arc::new(HotReloadConfigProvider::default());
        service.set_config(Arc::<HotReloadConfigProvider>::clone(&config));
        let front = Arc::new(S3Handler {
            service: service.build(),
            config,
            store,
            faults: Faults::default(),
            records: Arc::default(),
        });
        let listener = Listener::start_with(tls, port, Arc::clone(&front)).await?;
        Ok(Self { listener, front })
    }

    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL_S3`; with TLS `https`.
    #[must_use]
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// Certificate that clients must trust, in PEM; `None` without TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.listener.authority()
    }

    /// Port of the server, down or up.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Environment variables that make a process use this server: its address and the lab's keys.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        client::env(&self.url())
    }

    /// Accepts requests of any date from now on, for time that passed while an execution
    /// environment was frozen. The server's own clock cannot be set, and otherwise requests that
    /// are 15 minutes off are rejected.
    pub fn let_pass(&self) {
        let mut config = S3Config::default();
        config.presigned_url_max_skew_time_secs = u32::MAX;
        self.front.config.update(Arc::new(config));
    }

    /// An SDK client of this server, with the lab's keys. It trusts no authority of the lab, and so
    /// can only sign requests where the server uses TLS.
    #[must_use]
    pub fn client(&self) -> aws_sdk_s3::Client {
        self.client_with(credentials::ACCESS_KEY, credentials::SECRET_KEY)
    }

    /// An SDK client of this server with the given keys. It never retries.
    #[must_use]
    pub fn client_with(&self, access_key: &str, secret_key: &str) -> aws_sdk_s3::Client {
        client::new(&self.url(), access_key, secret_key)
    }

    /// Stores an object, creating the bucket if necessary, and returns the version id (`null` in an
    /// unversioned bucket). The object gets a CRC64NVME, which S3 computes for uploads without a
    /// checksum.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) -> String {
        self.front.store.create_bucket(bucket);
        self.front.store.put(bucket, key, bytes.into()).version_id
    }

    /// Deletes an object as `DeleteObject` does: in a versioned bucket by a delete marker.
    pub fn delete(&self, bucket: &str, key: &str) {
        self.front.store.delete(bucket, key);
    }

    /// Removes one version or delete marker permanently.
    pub fn delete_version(&self, bucket: &str, key: &str, version_id: &str) {
        self.front.store.delete_version(bucket, key, version_id);
    }

    /// Current version, `None` if there is none or it is a delete marker.
    #[must_use]
    pub fn get(&self, bucket: &str, key: &str) -> Option<Object> {
        self.front.store.current(bucket, key)
    }

    /// All versions and delete markers of a key, oldest first.
    #[must_use]
    pub fn versions(&self, bucket: &str, key: &str) -> Vec<Object> {
        self.front.store.versions(bucket, key)
    }

    /// Sorted keys of a bucket that have a current version.
    #[must_use]
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let listed = self.front.store.list(bucket, "");
        listed.into_iter().map(|(key, _)| key).collect()
    }

    /// Creates an empty bucket; without effect if it exists.
    pub fn create_bucket(&self, bucket: &str) {
        self.front.store.create_bucket(bucket);
    }

    /// Enables or suspends versioning of a bucket; enabled by default. In an unversioned bucket an
    /// overwrite replaces the object, and responses have no version id.
    pub fn keep_versions(&self, bucket: &str, keep: bool) {
        self.front.store.create_bucket(bucket);
        self.front.store.keep_versions(bucket, keep);
    }

    /// Grants or revokes `s3:ListBucket`; granted by default. Without it a missing key is 403
    /// `AccessDenied`, as in S3, and so is a listing.
    pub fn list_permission(&self, granted: bool) {
        self.front.store.set_list_permission(granted);
    }

    /// Adds a fault rule, in addition to the existing ones.
    pub fn fail(&self, rule: Rule) {
        self.front.faults.add(rule);
    }

    /// Removes all rules; responses in progress keep theirs.
    pub fn heal(&self) {
        self.front.faults.clear();
    }

    /// All requests so far, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.front.records.all()
    }

    /// Waits until `holds` is true for the list of requests, and returns it. `wanted` describes the
    /// condition in the error message.
    ///
    /// # Errors
    /// [`NotSeen`] with all requests, if the condition does not become true.
    pub async fn wait_for_requests(
        &self,
        wanted: &str,
        holds: impl FnMut(&[RequestRecord]) -> bool,
    ) -> Result<Vec<RequestRecord>, NotSeen> {
        self.front.records.wait_until(wanted, holds).await
    }

    /// Closes the port and cuts every connection.
    pub async fn down(&mut self) {
        self.listener.down().await;
    }

    /// Listens again on the same port and keeps the objects.
    ///
    /// # Errors
    /// [`ListenError`] if the port was taken in the interim.
    pub async fn up(&mut self) -> Result<(), ListenError> {
        self.listener.up().await
    }
}

/// Accepts the lab's keys; another access key gets S3's error for an unknown one.
struct Keys;

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> s3s::S3Result<SecretKey> {
        match credentials::secret_of(access_key) {
            Some(secret) => Ok(secret.into()),
            None => Err(S3ErrorCode::InvalidAccessKeyId.into()),
        }
    }
}

/// Wraps `s3s`: records requests and applies the faults.
struct S3Handler {
    config: Arc<HotReloadConfigProvider>,
    service: S3Service,
    store: Arc<Store>,
    faults: Faults,
    records: Arc<Records<RequestRecord>>,
}

impl Handler for S3Handler {
    async fn handle(
        &self,
        request: http::Request<Incoming>,
        line: Arc<ConnectionControl>,
    ) -> http::Response<Body> {
        let arrived = Instant::now();
        let record = RequestRecord::of(&request);
        let plan = self.faults.plan(&record);
        let (bucket, key) = (record.bucket.clone(), record.key.clone());
        let tally = RecordUpdater::new(Arc::clone(&self.records), record, arrived);

        if let Some(latency) = plan.latency {
            tokio::time::sleep(latency).await;
        }
        if let Some(bytes) = plan.overwrite.clone() {
            self.store.put(&bucket, &key, bytes);
        }
        let response = match plan.refusal {
            Some(ref refusal) => refusal.response(),
            None => self.answer(request).await,
        };
        tally.answered(response.status());
        response_body::wrap(response, plan, tally, line)
    }
}

impl S3Handler {
    async fn answer(&self, request: http::Request<Incoming>) -> http::Response<s3s::Body> {
        match self.service.call(request.map(s3s::Body::from)).await {
            Ok(response) => response,
            Err(error) => {
                let body = format!("{error:?}");
                let mut response = http::Response::new(s3s::Body::from(body));
                *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        }
    }
}

impl RequestRecord {
    fn of<B>(request: &http::Request<B>) -> Self {
        let path = percent_decoded(request.uri().path());
        let path = path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query = request.uri().query().unwrap_or_default();
        let version_id = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("versionId="))
            .map(percent_decoded);
        Self {
            method: request.method().to_string(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            query: query.to_owned(),
            version_id,
            range: text(request.headers(), http::header::RANGE),
            if_match: text(request.headers(), http::header::IF_MATCH),
            if_none_match: text(request.headers(), http::header::IF_NONE_MATCH),
            if_modified_since: text(request.headers(), http::header::IF_MODIFIED_SINCE),
            access_key: access_key(request.headers()),
            at: SystemTime::now(),
            status: None,
            sent: 0,
            took: None,
        }
    }
}

/// Returns the access key of `Authorization: AWS4-HMAC-SHA256 Credential=KEY/…`.
fn access_key(headers: &HeaderMap) -> Option<String> {
    let authorization = text(headers, http::header::AUTHORIZATION)?;
    let (_, credential) = authorization.split_once("Credential=")?;
    let (key, _) = credential.split_once('/')?;
    Some(key.to_owned())
}

fn text(headers: &HeaderMap, name: http::HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
