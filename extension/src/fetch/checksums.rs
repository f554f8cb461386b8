//! Checksums of a file, computed while its bytes arrive.

use aws_smithy_checksums::ChecksumAlgorithm as Computed;
use aws_smithy_checksums::http::HttpChecksum;
use aws_smithy_types::base64;
use sha2::{Digest as _, Sha256};

use crate::ids::{Checksum, ChecksumAlgorithm, Digest};

/// SHA-256 of a file, if required, and the checksum that the source declares.
pub(super) struct Checksums {
    sha256: Option<Sha256>,
    declared: Option<Checksum>,
    /// The declared checksum, unless it is the SHA-256.
    computed: Option<Box<dyn HttpChecksum>>,
}

impl Checksums {
    /// Computes the declared checksum, and the SHA-256 if `with_digest` is set.
    pub(super) fn new(declared: Option<Checksum>, with_digest: bool) -> Self {
        let algorithm = declared.as_ref().map(|declared| declared.algorithm);
        let computed = algorithm.and_then(|algorithm| match algorithm {
            ChecksumAlgorithm::Crc64Nvme => Some(Computed::Crc64Nvme),
            ChecksumAlgorithm::Crc32C => Some(Computed::Crc32c),
            ChecksumAlgorithm::Crc32 => Some(Computed::Crc32),
            ChecksumAlgorithm::Sha1 => Some(Computed::Sha1),
            ChecksumAlgorithm::Sha256 => None,
        });
        let with_sha256 = with_digest || algorithm == Some(ChecksumAlgorithm::Sha256);
        Self {
            sha256: with_sha256.then(Sha256::new),
            declared,
            computed: computed.map(Computed::into_impl),
        }
    }

    /// Adds the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
        if let Some(computed) = &mut self.computed {
            computed.update(bytes);
        }
    }

    /// Returns the SHA-256 of all bytes, if computed. The error is a checksum that differs from the declared one.
    pub(super) fn finish(self) -> Result<Option<Digest>, Checksum> {
        if let Some(declared) = self.declared {
            let value = match (self.computed, &self.sha256) {
                (Some(computed), _) => Some(base64::encode(computed.finalize())),
                (None, Some(sha256)) => Some(base64::encode(sha256.clone().finalize())),
                (None, None) => None,
            };
            if value.as_deref() != Some(&declared.value) {
                return Err(Checksum {
                    value: value.unwrap_or_default(),
                    ..declared
                });
            }
        }
        Ok(self.sha256.map(Digest::of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published check values of each algorithm, for the digits 1 to 9.
    #[test]
    fn each_algorithm_detects_a_changed_byte() {
        use ChecksumAlgorithm::{Crc32, Crc32C, Crc64Nvme, Sha1, Sha256};
        let published = [
            (Crc64Nvme, "rosUhgp5mIg="),
            (Crc32C, "4waSgw=="),
            (Crc32, "y/Q5Jg=="),
            (Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
            (Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
        ];
        for (algorithm, value) in published {
            let declared = Checksum {
                algorithm,
                value: value.to_owned(),
            };
            for (bytes, same, with_digest) in [
                (b"123456789", true, true),
                (b"123456789", true, false),
                (b"123456780", false, false),
            ] {
                let mut checksums = Checksums::new(Some(declared.clone()), with_digest);
                bytes.chunks(2).for_each(|chunk| checksums.update(chunk));
                assert_eq!(checksums.finish().is_ok(), same, "{algorithm:?}");
            }
        }
    }
}
