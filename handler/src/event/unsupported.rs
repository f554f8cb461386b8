//! Events without an inference request: the sending service, and the remedy.
//!
//! Lambda passes whatever a trigger sends. None of these events has an HTTP method and a path, or a
//! field of a direct invocation. The sidecar could only report a missing field. An event that is
//! unknown here is treated as a direct invocation, and gets that response.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::field;
use crate::failure::Failure;

/// Fields of an event or a message, each still in its JSON form.
pub(super) type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// A known event that the handler does not support.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsupported {
    what: Cow<'static, str>,
    remedy: &'static str,
}

const OWN_CODE: &str =
    "use a function with its own code that reads the event and calls the sidecar";
const QUEUE: &str = "send such messages to an SQS queue, with EventBridge Pipes or your own function, and let the \
                     queue invoke this function";
const TOPIC: &str = "subscribe an SQS queue to the topic, with raw message delivery, and let the queue invoke this \
                     function";
const RULE: &str = "add such a field with the rule's input transformer";
const OBJECTS: &str = "the handler reads no objects; use a function with its own code that reads the object and \
                       calls the sidecar";
const API: &str = "use an HTTP API, a REST API or a function URL";
const ROLE: &str = "use another function; this one only serves a model";

/// Services by the `eventSource` of their records, or of the event itself.
const SOURCES: &[(&str, &str, &str)] = &[
    (
        "aws:sqs",
        "SQS messages from EventBridge Pipes",
        "let the queue invoke this function directly",
    ),
    ("aws:sns", "an Amazon SNS notification", TOPIC),
    ("aws:kinesis", "Amazon Kinesis records", QUEUE),
    ("aws:dynamodb", "Amazon DynamoDB Streams records", QUEUE),
    ("aws:s3", "an Amazon S3 notification", OBJECTS),
    ("aws:ses", "an Amazon SES email", OWN_CODE),
    ("aws:kafka", "Amazon MSK (Kafka) records", QUEUE),
    ("SelfManagedKafka", "Apache Kafka records", QUEUE),
    ("aws:mq", "Amazon MQ (ActiveMQ) messages", QUEUE),
    ("aws:rmq", "Amazon MQ (RabbitMQ) messages", QUEUE),
    ("aws:docdb", "Amazon DocumentDB changes", QUEUE),
    ("aws:codecommit", "an AWS CodeCommit event", OWN_CODE),
];

/// Events by fields that all of them have and no other event has.
const SHAPES: &[(&[&str], &str, &str)] = &[
    (
        &["messageVersion", "agent"],
        "an Amazon Bedrock agent call",
        OWN_CODE,
    ),
    (
        &["messageVersion", "actionGroup"],
        "an Amazon Bedrock agent call",
        OWN_CODE,
    ),
    (
        &["messageVersion", "flow"],
        "an Amazon Bedrock flow call",
        OWN_CODE,
    ),
    (&["bot", "messageVersion"], "an Amazon Lex call", OWN_CODE),
    (&["bot", "sessionState"], "an Amazon Lex call", OWN_CODE),
    (
        &["awslogs"],
        "log lines of an Amazon CloudWatch Logs subscription",
        OWN_CODE,
    ),
    (
        &["alarmArn", "alarmData"],
        "an Amazon CloudWatch alarm",
        OWN_CODE,
    ),
    (
        &["triggerSource", "userPoolId"],
        "an Amazon Cognito trigger",
        ROLE,
    ),
    (
        &["identityPoolId", "datasetName"],
        "an Amazon Cognito trigger",
        ROLE,
    ),
    (
        &["deliveryStreamArn", "records"],
        "Amazon Data Firehose records",
        OWN_CODE,
    ),
    (
        &["applicationArn", "records"],
        "Amazon Managed Service for Apache Flink records",
        OWN_CODE,
    ),
    (&["info", "arguments"], "an AWS AppSync request", OWN_CODE),
    (
        &["raw_path", "method"],
        "an Amazon VPC Lattice request",
        API,
    ),
    (
        &["ResponseURL", "RequestType"],
        "a custom resource of AWS CloudFormation",
        ROLE,
    ),
    (&["CodePipeline.job"], "an AWS CodePipeline job", ROLE),
    (
        &["invokingEvent", "configRuleName"],
        "an AWS Config evaluation",
        ROLE,
    ),
    (
        &["SecretId", "ClientRequestToken"],
        "an AWS Secrets Manager rotation",
        ROLE,
    ),
    (
        &["invocationSchemaVersion", "tasks"],
        "Amazon S3 Batch Operations tasks",
        OBJECTS,
    ),
    (
        &["getObjectContext", "userRequest"],
        "an S3 Object Lambda request",
        OBJECTS,
    ),
    (&["Details", "Name"], "an Amazon Connect contact", OWN_CODE),
    (
        &["session", "request", "context"],
        "an Alexa request",
        OWN_CODE,
    ),
    (
        &["requestPayload", "requestContext"],
        "the record of an asynchronous invocation",
        "configure another destination",
    ),
    (
        &["Type", "TopicArn", "Message"],
        "an Amazon SNS notification",
        TOPIC,
    ),
    (
        &["detail-type", "source"],
        "an Amazon EventBridge event",
        RULE,
    ),
];

impl Unsupported {
    /// A request of a WebSocket API, detected by its context.
    pub(super) const WEB_SOCKET: Self = Self {
        what: Cow::Borrowed("a message of an API Gateway WebSocket API"),
        remedy: API,
    };
    /// A request to an authorizer, which otherwise looks like a request of the API itself.
    pub(super) const AUTHORIZER: Self = Self {
        what: Cow::Borrowed("a request to an API Gateway authorizer"),
        remedy: ROLE,
    };

    /// The service whose records are in this array of `EventBridge` Pipes.
    pub(super) fn of_records(event: &str) -> Option<Self> {
        let records: &RawValue = serde_json::from_str(event).ok()?;
        first_source(records).map(|source| Self::sent_by(&source))
    }

    /// The known service that sent an event or a message with these fields.
    pub(super) fn of(fields: &Fields) -> Option<Self> {
        let text = |name: &str| field::lenient_text(fields.get(name).copied());
        let records = fields.get("Records").copied();
        if let Some(source) = records
            .and_then(first_source)
            .or_else(|| text("eventSource"))
        {
            return Some(Self::sent_by(&source));
        }
        if records.is_some_and(|records| first(records).is_some_and(|it| it.contains_key("cf"))) {
            return Some(Self::known("an Amazon CloudFront request", API));
        }
        if text("Event").as_deref() == Some("s3:TestEvent") {
            return Some(Self::known(
                "an Amazon S3 test event (s3:TestEvent)",
                OBJECTS,
            ));
        }
        let context = fields
            .get("requestContext")
            .and_then(|raw| object(raw))
            .unwrap_or_default();
        if context.contains_key("targetGroupArn") {
            return Some(Self::known("an Amazon VPC Lattice request", API));
        }
        let has = |name: &&str| fields.contains_key(*name);
        if let Some((_, what, remedy)) = SHAPES.iter().find(|(names, _, _)| names.iter().all(has)) {
            return Some(Self::known(what, remedy));
        }
        (fields.contains_key("httpMethod") && !fields.contains_key("path")).then(|| {
            let what = "an HTTP event without the field path";
            Self::known(what, "add the path, such as /predict")
        })
    }

    fn known(what: &'static str, remedy: &'static str) -> Self {
        Self {
            what: what.into(),
            remedy,
        }
    }

    fn sent_by(source: &str) -> Self {
        SOURCES
            .iter()
            .find(|(name, _, _)| *name == source)
            .map_or_else(
                || Self {
                    what: format!("an event from the source {:?}", field::excerpt(source)).into(),
                    remedy: OWN_CODE,
                },
                |(_, what, remedy)| Self::known(what, remedy),
            )
    }

    /// Failure of an event.
    pub(super) fn event(&self) -> Failure {
        Failure::BadRequest(format!(
            "cannot process {}: supported are HTTP events, SQS messages, and direct invocations with one of the fields \
             features, instances and inputs; {}",
            self.what, self.remedy
        ))
    }

    /// Failure message of a queue's message.
    pub(super) fn message(&self) -> String {
        format!(
            "cannot process {} in an SQS message: a message must contain JSON with one of the fields features, instances \
             and inputs, like a direct invocation; {}",
            self.what, self.remedy
        )
    }
}

/// Fields of a JSON object.
pub(super) fn object(raw: &RawValue) -> Option<Fields<'_>> {
    serde_json::from_str(raw.get()).ok()
}

fn first(records: &RawValue) -> Option<Fields<'_>> {
    let records: Vec<Fields<'_>> = serde_json::from_str(records.get()).ok()?;
    records.into_iter().next()
}

/// Source of the first record; SNS spells the field differently.
fn first_source(records: &RawValue) -> Option<Cow<'_, str>> {
    let first = first(records)?;
    let source = first.get("eventSource").or(first.get("EventSource"))?;
    field::lenient_text(Some(*source))
}

#[cfg(test)]
mod tests;
