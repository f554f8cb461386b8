//! No connection to a service: which, and what is likely missing.
//!
//! On Lambda this is nearly always the network of a VPC, where nothing answers and nothing refuses. Whoever
//! reads the log cannot see that from a timeout, so the error says it.

use std::error::Error;

/// A connection that could not be made: the name was not found, nothing answered, or it was refused.
#[derive(Debug, thiserror::Error)]
#[error("no connection to {host}: {}", self.advice())]
pub struct Unreachable {
    pub(super) host: String,
    pub(super) source: Box<dyn Error + Send + Sync>,
}

impl Unreachable {
    /// The one among `error` and its sources, if a missing connection is what it comes from.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Unreachable> {
        std::iter::successors(Some(error), |&error| error.source())
            .find_map(|error| error.downcast_ref())
    }

    /// With what happened, cause by cause.
    #[must_use]
    pub fn in_full(&self) -> String {
        let causes: Vec<String> = self.causes().collect();
        format!("{self} ({})", causes.join(": "))
    }

    fn causes(&self) -> impl Iterator<Item = String> {
        let first: &(dyn Error + 'static) = &*self.source;
        std::iter::successors(Some(first), |&error| error.source()).map(ToString::to_string)
    }

    /// Whether the host's name was not found. The client's own type for that is not public: its words are.
    fn is_unknown(&self) -> bool {
        self.causes().any(|cause| cause.starts_with("dns error"))
    }

    /// What is to be looked at first.
    fn advice(&self) -> &'static str {
        let host = self.host.split(':').next().unwrap_or_default();
        let is_aws = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"]
            .iter()
            .any(|domain| host.ends_with(domain));
        let mut labels = host.split('.');
        if self.is_unknown() && is_aws {
            "nobody knows that name: is AWS_REGION a region, and has the VPC support for DNS enabled?"
        } else if self.is_unknown() {
            "nobody knows that name: is AWS_ENDPOINT_URL right?"
        } else if !is_aws {
            "is AWS_ENDPOINT_URL right, and does it answer there?"
        } else if labels
            .clone()
            .any(|label| label == "s3" || label.starts_with("s3-"))
        {
            "in a VPC, the subnet's route table needs a gateway endpoint for S3, or a NAT gateway"
        } else if labels.any(|label| label == "monitoring") {
            "in a VPC, the subnet needs an interface endpoint for CloudWatch (monitoring), or a NAT gateway; \
             MODEL_METRICS=emf needs neither"
        } else {
            "in a VPC, the subnet needs an endpoint for the service, or a NAT gateway"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_fits_the_host() {
        for (host, part) in [
            (
                "bucket.s3.eu-central-1.amazonaws.com",
                "gateway endpoint for S3",
            ),
            ("s3.cn-north-1.amazonaws.com.cn", "gateway endpoint for S3"),
            (
                "b.s3.dualstack.eu-west-1.amazonaws.com:443",
                "gateway endpoint for S3",
            ),
            (
                "monitoring.us-east-1.amazonaws.com",
                "CloudWatch (monitoring)",
            ),
            ("monitoring.us-east-1.api.aws", "CloudWatch (monitoring)"),
            ("sts.us-east-1.amazonaws.com", "an endpoint for the service"),
            ("s3.example.com:9000", "AWS_ENDPOINT_URL"),
            ("127.0.0.1:9000", "AWS_ENDPOINT_URL"),
        ] {
            let error = Unreachable {
                host: host.to_owned(),
                source: "refused".into(),
            };
            let text = error.to_string();
            assert!(text.contains(host) && text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_name_that_nobody_knows_is_told_from_a_host_that_does_not_answer() {
        for (host, part) in [
            ("b.s3.eu-centrall-1.amazonaws.com", "is AWS_REGION a region"),
            ("s3.example.com:9000", "is AWS_ENDPOINT_URL right?"),
        ] {
            let error = Unreachable {
                host: host.to_owned(),
                source: "dns error: no such name".into(),
            };
            let text = error.to_string();
            assert!(
                text.contains("nobody knows that name") && text.contains(part),
                "{text}"
            );
        }
    }
}
