//! Object store: buckets of keys, each with its versions, oldest first.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};

/// Version id in an unversioned bucket.
pub(super) const NULL_VERSION: &str = "null";

/// One version of an object, or a delete marker.
#[derive(Clone, Debug)]
pub struct Object {
    /// Version id; `null` in an unversioned bucket.
    pub version_id: String,
    /// Content; empty for a delete marker.
    pub bytes: Bytes,
    /// `ETag` without quotes.
    pub etag: String,
    /// Checksum of the upload.
    pub checksum: Checksum,
    /// Time of the upload.
    pub modified: SystemTime,
    /// `true` for a delete marker.
    pub is_delete_marker: bool,
    /// User metadata, `x-amz-meta-…`.
    pub metadata: Metadata,
}

/// User metadata by name, in lower case and without `x-amz-meta-`.
pub type Metadata = BTreeMap<String, String>;

/// Object to store, complete and verified.
pub(super) struct NewObject {
    pub(super) bytes: Bytes,
    pub(super) etag: String,
    pub(super) checksum: Checksum,
    pub(super) metadata: Metadata,
}

impl NewObject {
    /// Object of a single upload.
    pub(super) fn whole(bytes: Bytes, checksum: Checksum, metadata: Metadata) -> Self {
        Self {
            etag: hex(&Md5::digest(&bytes)),
            bytes,
            checksum,
            metadata,
        }
    }
}

/// Checksum in base64, as in the headers `x-amz-checksum-…`. A composite checksum of a multipart
/// upload ends in `-` and the number of parts; any other covers the object as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// `x-amz-checksum-crc64nvme`.
    Crc64Nvme(String),
    /// `x-amz-checksum-crc32`, the default of the SDKs' uploads.
    Crc32(String),
    /// `x-amz-checksum-crc32c`.
    Crc32C(String),
    /// `x-amz-checksum-sha256`.
    Sha256(String),
}

impl Checksum {
    /// Checksum of `bytes` of the same kind as `self`.
    pub(super) fn again(&self, bytes: &[u8]) -> Self {
        match self {
            Self::Crc64Nvme(_) => Self::crc64nvme(bytes),
            Self::Crc32(_) => Self::Crc32(crc32(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes)),
            Self::Crc32C(_) => Self::Crc32C(crc32(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes)),
            Self::Sha256(_) => {
                use sha2::Digest as _;
                Self::Sha256(STANDARD.encode(sha2::Sha256::digest(bytes)))
            }
        }
    }

    /// Value in base64.
    pub(super) fn value(&self) -> &str {
        match self {
            Self::Crc64Nvme(value)
            | Self::Crc32(value)
            | Self::Crc32C(value)
            | Self::Sha256(value) => value,
        }
    }

    pub(super) fn crc64nvme(bytes: &[u8]) -> Self {
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes);
        Self::Crc64Nvme(STANDARD.encode(sum.to_be_bytes()))
    }
}

fn crc32(algorithm: crc_fast::CrcAlgorithm, bytes: &[u8]) -> String {
    // A 32-bit sum is in the low half of the 64 bits.
    let sum = crc_fast::checksum(algorithm, bytes).to_be_bytes();
    STANDARD.encode(&sum[4..])
}

#[derive(Debug)]
pub(super) struct Store {
    buckets: Mutex<BTreeMap<String, Bucket>>,
    list_permission: AtomicBool,
    puts: AtomicU64,
}

#[derive(Debug)]
struct Bucket {
    keep_versions: bool,
    keys: BTreeMap<String, Vec<Object>>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            buckets: Mutex::default(),
            list_permission: AtomicBool::new(true),
            puts: AtomicU64::new(0),
        }
    }
}

impl Store {
    fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn list_permission(&self) -> bool {
        self.list_permission.load(Ordering::Relaxed)
    }

    pub(super) fn set_list_permission(&self, granted: bool) {
        self.list_permission.store(granted, Ordering::Relaxed);
    }

    pub(super) fn create_bucket(&self, bucket: &str) {
        self.buckets().entry(bucket.into()).or_insert(Bucket {
            keep_versions: true,
            keys: BTreeMap::new(),
        });
    }

    pub(super) fn has_bucket(&self, bucket: &str) -> bool {
        self.buckets().contains_key(bucket)
    }

    pub(super) fn keep_versions(&self, bucket: &str, keep: bool) {
        if let Some(bucket) = self.buckets().get_mut(bucket) {
            bucket.keep_versions = keep;
        }
    }

    pub(super) fn put(&self, bucket: &str, key: &str, bytes: Bytes) -> Object {
        let checksum = Checksum::crc64nvme(&bytes);
        let object = NewObject::whole(bytes, checksum, Metadata::new());
        self.push(bucket, key, stored(object))
    }

    /// Stores an object if `allowed` accepts the current one. No other write happens in between.
    pub(super) fn put_if<E>(
        &self,
        bucket: &str,
        key: &str,
        object: NewObject,
        allowed: impl FnOnce(Option<&Object>) -> Result<(), E>,
    ) -> Result<Object, E> {
        let mut buckets = self.buckets();
        let versions = buckets.get(bucket).and_then(|bucket| bucket.keys.get(key));
        let last = versions.and_then(|versions| versions.last());
        allowed(last.filter(|last| !last.is_delete_marker))?;
        Ok(self.push_into(&mut buckets, bucket, key, stored(object)))
    }

    pub(super) fn delete(&self, bucket: &str, key: &str) -> Option<Object> {
        let marker = Object {
            version_id: String::new(),
            bytes: Bytes::new(),
            etag: String::new(),
            checksum: Checksum::crc64nvme(&[]),
            modified: SystemTime::now(),
            is_delete_marker: true,
            metadata: Metadata::new(),
        };
        let kept = self.buckets().get(bucket)?.keep_versions;
        if kept {
            return Some(self.push(bucket, key, marker));
        }
        self.delete_version(bucket, key, NULL_VERSION);
        None
    }

    fn push(&self, bucket: &str, key: &str, object: Object) -> Object {
        self.push_into(&mut self.buckets(), bucket, key, object)
    }

    fn push_into(
        &self,
        buckets: &mut BTreeMap<String, Bucket>,
        bucket: &str,
        key: &str,
        mut object: Object,
    ) -> Object {
        if let Some(bucket) = buckets.get_mut(bucket) {
            let versions = bucket.keys.entry(key.into()).or_default();
            if bucket.keep_versions {
                let number = self.puts.fetch_add(1, Ordering::Relaxed);
                object.version_id = version_id(number, &object.etag);
            } else {
                object.version_id = NULL_VERSION.into();
                versions.retain(|version| version.version_id != NULL_VERSION);
            }
            versions.push(object.clone());
        }
        object
    }

    pub(super) fn delete_version(&self, bucket: &str, key: &str, version_id: &str) {
        if let Some(bucket) = self.buckets().get_mut(bucket)
            && let Some(versions) = bucket.keys.get_mut(key)
        {
            versions.retain(|version| version.version_id != version_id);
            if versions.is_empty() {
                bucket.keys.remove(key);
            }
        }
    }

    pub(super) fn versions(&self, bucket: &str, key: &str) -> Vec<Object> {
        let buckets = self.buckets();
        let versions = buckets.get(bucket).and_then(|bucket| bucket.keys.get(key));
        versions.cloned().unwrap_or_default()
    }

    pub(super) fn current(&self, bucket: &str, key: &str) -> Option<Object> {
        let last = self.versions(bucket, key).pop()?;
        (!last.is_delete_marker).then_some(last)
    }

    /// Current objects whose keys begin with `prefix`, sorted by key.
    pub(super) fn list(&self, bucket: &str, prefix: &str) -> Vec<(String, Object)> {
        let buckets = self.buckets();
        let Some(bucket) = buckets.get(bucket) else {
            return Vec::new();
        };
        bucket
            .keys
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .filter_map(|(key, versions)| {
                let last = versions.last().filter(|last| !last.is_delete_marker)?;
                Some((key.clone(), last.clone()))
            })
            .collect()
    }
}

impl Store {
    /// Sorted keys that begin with `prefix`, with their versions and delete markers, newest first.
    pub(super) fn list_versions(&self, bucket: &str, prefix: &str) -> Vec<(String, Vec<Object>)> {
        let buckets = self.buckets();
        let keys = buckets
            .get(bucket)
            .into_iter()
            .flat_map(|bucket| &bucket.keys);
        let keys = keys.filter(|(key, _)| key.starts_with(prefix));
        keys.map(|(key, versions)| (key.clone(), versions.iter().rev().cloned().collect()))
            .collect()
    }
}

fn stored(object: NewObject) -> Object {
    let NewObject {
        bytes,
        etag,
        checksum,
        metadata,
    } = object;
    Object {
        version_id: String::new(),
        bytes,
        etag,
        checksum,
        modified: SystemTime::now(),
        is_delete_marker: false,
        metadata,
    }
}

/// An opaque id from which a client cannot derive an order, as in S3.
fn version_id(number: u64, etag: &str) -> String {
    let digest = Md5::digest(format!("{number} {etag}"));
    let mut id = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest);
    id.retain(|letter| letter.is_ascii_alphanumeric());
    id
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
