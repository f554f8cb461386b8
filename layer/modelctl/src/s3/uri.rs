//! Location of an object, `s3://BUCKET/KEY`.

use std::fmt;
use std::str::FromStr;

/// Location of an object. The key may be empty or end in `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct S3Uri {
    pub(crate) bucket: String,
    pub(crate) key: String,
}

impl FromStr for S3Uri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.strip_prefix("s3://").and_then(|rest| {
            // The ARN of an access point has a slash itself.
            let arn = rest
                .starts_with("arn:")
                .then(|| rest.find(":accesspoint/"))
                .flatten();
            let from = arn.map_or(0, |at| at + ":accesspoint/".len());
            let slash = from + rest[from..].find('/')?;
            Some((&rest[..slash], &rest[slash + 1..]))
        });
        match parts {
            Some((bucket, key)) if !bucket.is_empty() => Ok(Self {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
            }),
            _ => {
                Err("expected s3://BUCKET/KEY, such as s3://models/fraud/manifest.json".to_owned())
            }
        }
    }
}

impl fmt::Display for S3Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_may_be_an_access_point() {
        let arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint/models";
        for (text, bucket, key) in [
            ("s3://b/k", "b", "k"),
            ("s3://b/", "b", ""),
            ("s3://b/fraud/m.json", "b", "fraud/m.json"),
            (&format!("s3://{arn}/fraud/m.json"), arn, "fraud/m.json"),
        ] {
            let uri: S3Uri = text.parse().expect(text);
            assert_eq!((uri.bucket.as_str(), uri.key.as_str()), (bucket, key));
            assert_eq!(uri.to_string(), text);
        }
        for wrong in ["", "b/k", "s3://b", "s3:///k", "https://b/k"] {
            assert!(wrong.parse::<S3Uri>().is_err(), "{wrong}");
        }
    }
}
