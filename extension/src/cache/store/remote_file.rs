//! Identification of a file at its source.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{Checksum, Digest, Identity};

/// File at a source, in one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// URI of the file.
    pub location: String,
    /// Identity of the content, as the source declares it.
    pub identity: Identity,
    /// Length in bytes.
    pub size: u64,
    /// Checksum of the whole file; `None` if the source declares none or it is not known.
    pub checksum: Option<Checksum>,
}

impl RemoteFile {
    /// Returns the file name, without extension, of a partial download of this version.
    pub(super) fn download_name(&self) -> String {
        let Identity { etag, version_id } = &self.identity;
        let version_id = version_id.as_deref().unwrap_or_default();
        let content = short_hash([&etag.0, version_id, &self.size.to_string()]);
        format!("{}{content}", name_prefix(&self.location))
    }

    /// Returns the file name of the origin of this content. The version id is not part of the name: content that is
    /// uploaded again has a new version id and the same ETag.
    pub(super) fn origin_name(&self) -> String {
        let content = short_hash([self.identity.etag.0.as_str(), &self.size.to_string()]);
        format!("{}{content}", name_prefix(&self.location))
    }
}

/// Returns the prefix of the names of all files from one location.
pub(super) fn name_prefix(location: &str) -> String {
    format!("{}-", short_hash([location]))
}

fn short_hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Digest::of(hash).as_str()[..16].to_owned()
}
