//! Objects in S3, as a publisher needs them: conditional writes, uploads that are verified, and
//! listings. Every error names the object, the cause and a remedy.

mod error;
pub(crate) mod upload;
mod uri;

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::ChecksumMode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use error::S3Call;
pub(crate) use uri::S3Uri;

/// Bucket, through a client.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    client: Client,
    pub(crate) name: String,
}

/// Object that was read as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) etag: String,
    pub(crate) modified: SystemTime,
}

/// Properties of an object.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) size: u64,
    /// SHA-256 in base64, as S3 has it: of the object, or composite with `-` and a number of parts.
    pub(crate) sha256: Option<String>,
    pub(crate) metadata: HashMap<String, String>,
    /// Protection by Object Lock, in words.
    pub(crate) lock: Option<String>,
}

/// Object in a listing.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
}

/// Version of an object in a listing.
#[derive(Clone, Debug)]
pub(crate) struct ListedVersion {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    pub(crate) is_latest: bool,
    pub(crate) is_delete_marker: bool,
}

/// Condition of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// No object has this key.
    Absent,
    /// The object has this `ETag`.
    Matches(String),
}

/// Outcome of a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The object is stored, with this `ETag`.
    Stored(String),
    /// The condition does not hold, or another write happened at the same time.
    Conflict,
}

impl Bucket {
    pub(crate) fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
        }
    }

    /// URI of an object, for messages.
    pub(crate) fn uri(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    fn call(&self, verb: &'static str, key: &str, permission: &'static str) -> S3Call {
        S3Call {
            verb,
            uri: self.uri(key),
            permission,
        }
    }

    /// Reads an object of at most `limit` bytes; `None` if there is none.
    pub(crate) async fn get(&self, key: &str, limit: u64) -> anyhow::Result<Option<Content>> {
        self.get_version(key, None, limit).await
    }

    /// Reads a version of an object; `None` if there is none.
    pub(crate) async fn get_version(
        &self,
        key: &str,
        version: Option<&str>,
        limit: u64,
    ) -> anyhow::Result<Option<Content>> {
        let permission = match version {
            None => "s3:GetObject",
            Some(_) => "s3:GetObjectVersion",
        };
        let call = self.call("read", key, permission);
        let get = self.client.get_object().bucket(&self.name).key(key);
        let output = match get.set_version_id(version.map(str::to_owned)).send().await {
            Ok(output) => output,
            Err(error) if call.is_missing(&error) => return Ok(None),
            Err(error) => return Err(call.error(&error)),
        };
        let size = size(output.content_length());
        if size > limit {
            let uri = self.uri(key);
            bail!("cannot read {uri}: it has {size} bytes; the maximum is {limit}");
        }
        let modified = time(output.last_modified());
        let etag = output.e_tag().unwrap_or_default().to_owned();
        let bytes = output.body.collect().await;
        let bytes = bytes.with_context(|| format!("cannot read {}", self.uri(key)))?;
        Ok(Some(Content {
            bytes: bytes.to_vec(),
            etag,
            modified,
        }))
    }

    /// Opens an object for reading; `None` if there is none.
    pub(crate) async fn open(&self, key: &str) -> anyhow::Result<Option<ByteStream>> {
        let call = self.call("read", key, "s3:GetObject");
        let get = self.client.get_object().bucket(&self.name).key(key);
        match get.send().await {
            Ok(output) => Ok(Some(output.body)),
            Err(error) if call.is_missing(&error) => Ok(None),
            Err(error) => Err(call.error(&error)),
        }
    }

    /// Returns the properties of an object; `None` if there is none.
    pub(crate) async fn head(&self, key: &str) -> anyhow::Result<Option<Head>> {
        let call = self.call("read", key, "s3:GetObject");
        let head = self.client.head_object().bucket(&self.name).key(key);
        let output = match head.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(output) => output,
            Err(error) if call.is_missing(&error) => return Ok(None),
            Err(error) => return Err(call.error(&error)),
        };
        let hold = output.object_lock_legal_hold_status();
        let hold = hold.is_some_and(|hold| hold.as_str() == "ON");
        let until = output.object_lock_retain_until_date();
        let until = until.map(|until| format!("retained until {}", date(time(Some(until)))));
        Ok(Some(Head {
            size: size(output.content_length()),
            sha256: output.checksum_sha256().map(str::to_owned),
            metadata: output.metadata().cloned().unwrap_or_default(),
            lock: hold.then(|| "on legal hold".to_owned()).or(until),
        }))
    }

    /// Writes a small JSON object under a condition.
    pub(crate) async fn put_json(
        &self,
        key: &str,
        bytes: Vec<u8>,
        condition: &Condition,
    ) -> anyhow::Result<Written> {
        let put = self.client.put_object().bucket(&self.name).key(key);
        let put = put.content_type("application/json").body(bytes.into());
        let put = match condition {
            Condition::Absent => put.if_none_match("*"),
            Condition::Matches(etag) => put.if_match(etag),
        };
        let call = self.call("write", key, "s3:PutObject");
        match put.send().await {
            Ok(output) => {
                let etag = output.e_tag().unwrap_or_default();
                Ok(Written::Stored(etag.to_owned()))
            }
            Err(error) if call.is_conflict(&error) => Ok(Written::Conflict),
            // An object that was read before is gone.
            Err(error) if *condition != Condition::Absent && call.is_missing(&error) => {
                Ok(Written::Conflict)
            }
            Err(error) => Err(call.error(&error)),
        }
    }

    /// Lists the objects whose keys begin with `prefix`.
    pub(crate) async fn list(&self, prefix: &str) -> anyhow::Result<Vec<Listed>> {
        let call = self.call("list", prefix, "s3:ListBucket");
        let mut listed = Vec::new();
        let mut token = None;
        loop {
            let list = self.client.list_objects_v2().bucket(&self.name);
            let page = list.prefix(prefix).set_continuation_token(token).send();
            let page = page.await.map_err(|error| call.error(&error))?;
            listed.extend(page.contents().iter().filter_map(|object| {
                Some(Listed {
                    key: object.key()?.to_owned(),
                    size: size(object.size()),
                    modified: time(object.last_modified()),
                })
            }));
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                return Ok(listed);
            }
        }
    }

    /// Lists the versions and delete markers of the objects whose keys begin with `prefix`: by key,
    /// then newest first.
    pub(crate) async fn versions(&self, prefix: &str) -> anyhow::Result<Vec<ListedVersion>> {
        let call = self.call("list the versions of", prefix, "s3:ListBucketVersions");
        let mut listed = Vec::new();
        let (mut key, mut id) = (None, None);
        loop {
            let list = self.client.list_object_versions().bucket(&self.name);
            let list = list.set_key_marker(key).set_version_id_marker(id);
            let page = list.prefix(prefix).send().await;
            let page = page.map_err(|error| call.error(&error))?;
            listed.extend(page.versions().iter().filter_map(|version| {
                Some(ListedVersion {
                    key: version.key()?.to_owned(),
                    id: version.version_id().unwrap_or("null").to_owned(),
                    size: size(version.size()),
                    modified: time(version.last_modified()),
                    is_latest: version.is_latest().unwrap_or_default(),
                    is_delete_marker: false,
                })
            }));
            listed.extend(page.delete_markers().iter().filter_map(|marker| {
                Some(ListedVersion {
                    key: marker.key()?.to_owned(),
                    id: marker.version_id().unwrap_or("null").to_owned(),
                    size: 0,
                    modified: time(marker.last_modified()),
                    is_latest: marker.is_latest().unwrap_or_default(),
                    is_delete_marker: true,
                })
            }));
            if page.is_truncated() != Some(true) {
                break;
            }
            key = page.next_key_marker().map(str::to_owned);
            id = page.next_version_id_marker().map(str::to_owned);
        }
        // Stable: S3 lists the versions of a key newest first, also within one second.
        listed.sort_by(|one, other| {
            let newest_first = other.modified.cmp(&one.modified);
            one.key.cmp(&other.key).then(newest_first)
        });
        Ok(listed)
    }

    /// Deletes an object. A bucket that keeps versions gets a delete marker.
    pub(crate) async fn delete(&self, key: &str) -> anyhow::Result<()> {
        let call = self.call("delete", key, "s3:DeleteObject");
        let delete = self.client.delete_object().bucket(&self.name).key(key);
        delete.send().await.map_err(|error| call.error(&error))?;
        Ok(())
    }
}

/// SHA-256 in the form of S3's headers.
pub(crate) fn base64(digest: &[u8]) -> String {
    STANDARD.encode(digest)
}

fn size(length: Option<i64>) -> u64 {
    length
        .and_then(|length| u64::try_from(length).ok())
        .unwrap_or_default()
}

/// Time of an S3 response, which has no fractions of seconds.
fn time(time: Option<&DateTime>) -> SystemTime {
    let seconds = time.map_or(0, DateTime::secs);
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// `2026-11-29T12:34:56Z`.
pub(crate) fn date(time: SystemTime) -> String {
    let date = DateTime::from(time);
    let text = date.fmt(aws_sdk_s3::primitives::DateTimeFormat::DateTime);
    text.unwrap_or_else(|_| format!("{} s after 1970", date.secs()))
}
