//! Error of a service that cannot be reached, with the likely cause.
//!
//! On Lambda the cause is nearly always the network of a VPC, where packets are dropped silently. A timeout alone
//! does not show that, so the error names it.

use std::error::Error;

/// Error of a failed connection: the name was not found, the host did not answer, or it refused.
#[derive(Debug, thiserror::Error)]
#[error("no connection to {host}: {}", self.hint())]
pub struct Unreachable {
    pub(super) host: String,
    pub(super) source: Box<dyn Error + Send + Sync>,
}

impl Unreachable {
    /// Finds this error among `error` and its sources.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Unreachable> {
        std::iter::successors(Some(error), |&error| error.source())
            .find_map(|error| error.downcast_ref())
    }

    /// Returns the message with the chain of causes.
    #[must_use]
    pub fn in_full(&self) -> String {
        let causes: Vec<String> = self.causes().collect();
        format!("{self} ({})", causes.join(": "))
    }

    fn causes(&self) -> impl Iterator<Item = String> {
        let first: &(dyn Error + 'static) = &*self.source;
        std::iter::successors(Some(first), |&error| error.source()).map(ToString::to_string)
    }

    /// Returns `true` if the host's name was not found. The client's type for that is private, so the text is compared.
    fn is_unknown(&self) -> bool {
        self.causes().any(|cause| cause.starts_with("dns error"))
    }

    /// Returns the first thing to check.
    fn hint(&self) -> &'static str {
        let host = self.host.split(':').next().unwrap_or_default();
        let is_aws = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"]
            .iter()
            .any(|domain| host.ends_with(domain));
        let mut labels = host.split('.');
        if self.is_unknown() && is_aws {
            "the name does not resolve; check AWS_REGION, and that the VPC has DNS support enabled"
        } else if self.is_unknown() {
            "the name does not resolve; check AWS_ENDPOINT_URL"
        } else if !is_aws {
            "check AWS_ENDPOINT_URL, and that the endpoint is running"
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
    fn hint_fits_the_host() {
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
    fn an_unknown_name_is_distinguished_from_an_unreachable_host() {
        for (host, part) in [
            ("b.s3.eu-centrall-1.amazonaws.com", "check AWS_REGION"),
            ("s3.example.com:9000", "check AWS_ENDPOINT_URL"),
        ] {
            let error = Unreachable {
                host: host.to_owned(),
                source: "dns error: no such name".into(),
            };
            let text = error.to_string();
            assert!(
                text.contains("the name does not resolve") && text.contains(part),
                "{text}"
            );
        }
    }
}
