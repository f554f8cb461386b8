//! An S3 server in this process: `s3s` speaks the protocol and checks every signature, an
//! in-memory store of our own holds the objects.
//!
//! It does what a client of a model's bucket can notice: versions and delete markers, `ETag`s,
//! conditional GET, HEAD and PUT, ranges, `versionId`, full-object checksums, listing by prefix, of versions too,
//! and 403 where a missing key may not be told from a forbidden one. Buckets are addressed by
//! path. It does not do multipart uploads, encryption, ACLs or tags, and answers
//! `NotImplemented` for them.
//!
//! Every request is recorded ([`Record`]); a test waits for what it expects with
//! [`S3Server::wait_for_requests`]. Requests can be made to fail by [`Rule`]s, and the whole
//! server goes [`down`](S3Server::down) and [`up`](S3Server::up) on the same port.
//! Bodies leave in slices of the stored object, so that a large one is never copied.

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

use crate::credentials::{ACCESS_KEY, SECRET_KEY};
use crate::listener::{Body, Handler, Line, ListenError, Listener};
use crate::records::{NotSeen, Records};
use crate::tls::Tls;

mod answer;
pub(crate) mod client;
mod conditions;
mod faults;
mod operations;
mod store;
mod versions;

use answer::Tally;
use faults::Faults;
use operations::Operations;
use store::Store;

pub use faults::Rule;
pub use store::{Checksum, Object};

/// A running S3 server on 127.0.0.1. It stops when dropped.
pub struct S3Server {
    listener: Listener<Front>,
    front: Arc<Front>,
}

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub struct Record {
    /// `GET`, `HEAD`, `PUT`, `DELETE`.
    pub method: String,
    /// The bucket, empty where the path names none.
    pub bucket: String,
    /// The key, decoded; empty for requests on a bucket.
    pub key: String,
    /// The query string as sent.
    pub query: String,
    /// `versionId` of the query.
    pub version_id: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `If-Match` header.
    pub if_match: Option<String>,
    /// The `If-None-Match` header.
    pub if_none_match: Option<String>,
    /// The `If-Modified-Since` header.
    pub if_modified_since: Option<String>,
    /// When the request arrived.
    pub at: SystemTime,
    /// The answer's status; `None` until its head is ready.
    pub status: Option<u16>,
    /// Bytes of the answer's body given to the connection so far.
    pub sent: u64,
    /// How long the whole answer took; `None` while it is under way.
    pub took: Option<Duration>,
}

impl S3Server {
    /// Starts on a free port.
    ///
    /// # Errors
    /// [`ListenError`] when no port can be had.
    pub async fn start() -> Result<Self, ListenError> {
        Self::start_on(0).await
    }

    /// Starts on a free port, and speaks TLS there alone, in HTTP/1.1, with a certificate that its
    /// [`authority`](S3Server::authority) has signed.
    ///
    /// # Errors
    /// [`ListenError`] when no port, or no certificate, can be had.
    pub async fn start_tls() -> Result<Self, ListenError> {
        Self::start_with(Some(Tls::for_this_machine()?), 0).await
    }

    /// Starts on `port` of 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    /// [`ListenError`] when the port cannot be had.
    pub async fn start_on(port: u16) -> Result<Self, ListenError> {
        Self::start_with(None, port).await
    }

    async fn start_with(tls: Option<Tls>, port: u16) -> Result<Self, ListenError> {
        let store = Arc::new(Store::default());
        let mut service = S3ServiceBuilder::new(Operations::new(Arc::clone(&store)));
        service.set_auth(Keys);
        let config = Arc::new(HotReloadConfigProvider::default());
        service.set_config(Arc::<HotReloadConfigProvider>::clone(&config));
        let front = Arc::new(Front {
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

    /// The certificate, in PEM, that clients must trust; `None` without TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.listener.authority()
    }

    /// The port it listens on, down or up.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// The environment that makes a process use this server: its address and the lab's keys.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        client::env(&self.url())
    }

    /// Time has passed for an execution environment that was frozen, and so for the world it
    /// belongs to. The server's own clock cannot be set: from here on it takes requests of any
    /// date, where it refused those that are a quarter of an hour off.
    pub fn let_pass(&self) {
        let mut config = S3Config::default();
        config.presigned_url_max_skew_time_secs = u32::MAX;
        self.front.config.update(Arc::new(config));
    }

    /// An SDK client of this server, with the lab's keys. It trusts no authority of the lab's, and so
    /// can only sign requests where the server speaks TLS.
    #[must_use]
    pub fn client(&self) -> aws_sdk_s3::Client {
        self.client_with(ACCESS_KEY, SECRET_KEY)
    }

    /// An SDK client of this server with keys of the caller's choice. It never retries.
    #[must_use]
    pub fn client_with(&self, access_key: &str, secret_key: &str) -> aws_sdk_s3::Client {
        client::new(&self.url(), access_key, secret_key)
    }

    /// Stores an object, making the bucket where there is none, and returns the version's id
    /// (`null` in a bucket without versions). It carries a CRC64NVME, as S3 gives to an upload
    /// that brings no checksum.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) -> String {
        self.front.store.create_bucket(bucket);
        self.front.store.put(bucket, key, bytes.into()).version_id
    }

    /// Deletes an object as `DeleteObject` does: with versions by a delete marker.
    pub fn delete(&self, bucket: &str, key: &str) {
        self.front.store.delete(bucket, key);
    }

    /// Removes one version, or one delete marker, for good.
    pub fn delete_version(&self, bucket: &str, key: &str, version_id: &str) {
        self.front.store.delete_version(bucket, key, version_id);
    }

    /// The current version, `None` where there is none or it is a delete marker.
    #[must_use]
    pub fn get(&self, bucket: &str, key: &str) -> Option<Object> {
        self.front.store.current(bucket, key)
    }

    /// Every version and delete marker of a key, oldest first.
    #[must_use]
    pub fn versions(&self, bucket: &str, key: &str) -> Vec<Object> {
        self.front.store.versions(bucket, key)
    }

    /// The keys of a bucket that have a current version, in order.
    #[must_use]
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let listed = self.front.store.list(bucket, "");
        listed.into_iter().map(|(key, _)| key).collect()
    }

    /// Makes an empty bucket; without effect where it exists.
    pub fn create_bucket(&self, bucket: &str) {
        self.front.store.create_bucket(bucket);
    }

    /// Whether a bucket keeps versions, as it does at first. Without them an overwrite leaves
    /// nothing of what was there, and answers name no version.
    pub fn keep_versions(&self, bucket: &str, keep: bool) {
        self.front.store.create_bucket(bucket);
        self.front.store.keep_versions(bucket, keep);
    }

    /// Whether the caller may list buckets, as it may at first. If not, a missing key is answered
    /// with 403 `AccessDenied`, as S3 does so as not to betray it, and so is a listing.
    pub fn list_permission(&self, granted: bool) {
        self.front.store.set_list_permission(granted);
    }

    /// Adds a rule by which requests fail; it applies beside those that stand.
    pub fn fail(&self, rule: Rule) {
        self.front.faults.add(rule);
    }

    /// Takes all rules away; answers that are under way keep theirs.
    pub fn heal(&self) {
        self.front.faults.clear();
    }

    /// Every request so far, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Record> {
        self.front.records.all()
    }

    /// Waits until the list of requests is as `holds` wants it, and returns it. `wanted` says
    /// what that is, for the failure's message.
    ///
    /// # Errors
    /// [`NotSeen`] with all that was requested, when it does not come about.
    pub async fn wait_for_requests(
        &self,
        wanted: &str,
        holds: impl FnMut(&[Record]) -> bool,
    ) -> Result<Vec<Record>, NotSeen> {
        self.front.records.wait_until(wanted, holds).await
    }

    /// Closes the port and cuts every connection.
    pub async fn down(&mut self) {
        self.listener.down().await;
    }

    /// Listens again on the same port, with the same objects.
    ///
    /// # Errors
    /// [`ListenError`] when the port was taken meanwhile.
    pub async fn up(&mut self) -> Result<(), ListenError> {
        self.listener.up().await
    }
}

/// The lab's one pair of keys; any other access key is answered as S3 answers an unknown one.
struct Keys;

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> s3s::S3Result<SecretKey> {
        if access_key == ACCESS_KEY {
            Ok(SECRET_KEY.into())
        } else {
            Err(S3ErrorCode::InvalidAccessKeyId.into())
        }
    }
}

/// What stands before `s3s`: it records, and applies the faults.
struct Front {
    config: Arc<HotReloadConfigProvider>,
    service: S3Service,
    store: Arc<Store>,
    faults: Faults,
    records: Arc<Records<Record>>,
}

impl Handler for Front {
    async fn handle(
        &self,
        request: http::Request<Incoming>,
        line: Arc<Line>,
    ) -> http::Response<Body> {
        let arrived = Instant::now();
        let record = Record::of(&request);
        let plan = self.faults.plan(&record);
        let (bucket, key) = (record.bucket.clone(), record.key.clone());
        let tally = Tally::new(Arc::clone(&self.records), record, arrived);

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
        answer::shape(response, plan, tally, line)
    }
}

impl Front {
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

impl Record {
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
            at: SystemTime::now(),
            status: None,
            sent: 0,
            took: None,
        }
    }
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
