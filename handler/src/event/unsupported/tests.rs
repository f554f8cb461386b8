use serde_json::json;

use super::*;

fn of(event: &serde_json::Value) -> Option<String> {
    let text = event.to_string();
    let fields: Fields = serde_json::from_str(&text).unwrap();
    Unsupported::of(&fields).map(|unsupported| unsupported.event().to_string())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of events")]
fn the_services_of_lambdas_triggers_are_named_with_a_remedy() {
    let record = |source: &str| json!({ "Records": [{ "eventSource": source }] });
    for (event, service, remedy) in [
        (
            json!({ "Records": [{ "EventSource": "aws:sns", "Sns": { "Message": "{}" } }] }),
            "Amazon SNS",
            "SQS queue",
        ),
        (record("aws:kinesis"), "Amazon Kinesis", "SQS queue"),
        (record("aws:dynamodb"), "DynamoDB", "SQS queue"),
        (record("aws:s3"), "Amazon S3", "reads the object"),
        (record("aws:ses"), "Amazon SES", "calls the sidecar"),
        (
            record("aws:new-service"),
            "aws:new-service",
            "calls the sidecar",
        ),
        (
            json!({ "Records": [{ "cf": { "request": {} } }] }),
            "CloudFront",
            "function URL",
        ),
        (
            json!({ "eventSource": "aws:kafka", "records": { "t-0": [] } }),
            "MSK",
            "SQS queue",
        ),
        (
            json!({ "eventSource": "SelfManagedKafka", "records": {} }),
            "Kafka",
            "SQS queue",
        ),
        (
            json!({ "eventSource": "aws:mq", "messages": [] }),
            "ActiveMQ",
            "SQS queue",
        ),
        (
            json!({ "eventSource": "aws:rmq", "rmqMessagesByQueue": {} }),
            "RabbitMQ",
            "SQS queue",
        ),
        (
            json!({ "eventSource": "aws:docdb", "events": [] }),
            "DocumentDB",
            "SQS queue",
        ),
        (
            json!({ "awslogs": { "data": "H4sI" } }),
            "CloudWatch Logs",
            "calls the sidecar",
        ),
        (
            json!({ "source": "aws.cloudwatch", "alarmArn": "a", "alarmData": {} }),
            "CloudWatch alarm",
            "calls the sidecar",
        ),
        (
            json!({ "source": "aws.s3", "detail-type": "Object Created", "detail": {} }),
            "EventBridge",
            "input transformer",
        ),
        (
            json!({ "triggerSource": "PreSignUp_SignUp", "userPoolId": "p", "request": {} }),
            "Cognito",
            "another function",
        ),
        (
            json!({ "messageVersion": "1.0", "agent": {}, "actionGroup": "a", "apiPath": "/predict", "httpMethod": "POST" }),
            "Bedrock agent",
            "calls the sidecar",
        ),
        (
            json!({ "messageVersion": "1.0", "actionGroup": "a", "function": "f" }),
            "Bedrock agent",
            "calls the sidecar",
        ),
        (
            json!({ "messageVersion": "1.0", "bot": {}, "sessionState": {} }),
            "Lex",
            "calls the sidecar",
        ),
        (
            json!({ "invocationId": "i", "deliveryStreamArn": "a", "records": [] }),
            "Firehose",
            "calls the sidecar",
        ),
        (
            json!({ "arguments": {}, "info": { "fieldName": "f" } }),
            "AppSync",
            "calls the sidecar",
        ),
        (
            json!({ "raw_path": "/x", "method": "GET", "headers": {} }),
            "VPC Lattice",
            "function URL",
        ),
        (
            json!({ "path": "/x", "method": "GET", "requestContext": { "targetGroupArn": "a" } }),
            "VPC Lattice",
            "function URL",
        ),
        (
            json!({ "RequestType": "Create", "ResponseURL": "u", "StackId": "s" }),
            "CloudFormation",
            "another function",
        ),
        (
            json!({ "CodePipeline.job": { "id": "1" } }),
            "CodePipeline",
            "another function",
        ),
        (
            json!({ "requestPayload": {}, "requestContext": { "functionArn": "a" } }),
            "asynchronous invocation",
            "destination",
        ),
        (
            json!({ "Service": "Amazon S3", "Event": "s3:TestEvent" }),
            "s3:TestEvent",
            "reads the object",
        ),
        (
            json!({ "Type": "Notification", "TopicArn": "a", "Message": "{}" }),
            "Amazon SNS",
            "raw message delivery",
        ),
        (
            json!({ "httpMethod": "GET", "headers": {} }),
            "field path",
            "/predict",
        ),
    ] {
        let words = of(&event).unwrap_or_else(|| panic!("{event}"));
        for part in [service, remedy, "features"] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }
}

#[test]
fn an_unknown_shape_is_left_to_the_sidecar() {
    for event in [
        json!({}),
        json!({ "rows": [[1, 2]] }),
        json!({ "Records": [] }),
        json!({ "Records": [{ "data": 1 }] }),
        json!({ "source": "mine" }),
        json!({ "model": "wine", "path": "/predict" }),
    ] {
        assert_eq!(of(&event), None, "{event}");
    }
}

#[test]
fn a_list_of_records_is_recognised_as_eventbridge_pipes() {
    let named = |event: &str| Unsupported::of_records(event).map(|it| it.event().to_string());
    let words = named(r#"[{"messageId":"m","body":"{}","eventSource":"aws:sqs"}]"#).unwrap();
    assert!(
        words.contains("Pipes") && words.contains("the queue invoke this function directly"),
        "{words}"
    );
    assert!(
        named(r#"[{"eventSource":"aws:kinesis"}]"#)
            .unwrap()
            .contains("Kinesis")
    );
    assert_eq!(named("[1,2]"), None);
    assert_eq!(named("[[1,2]"), None);
}

#[test]
fn a_source_of_any_length_is_quoted_in_part() {
    let event = json!({ "eventSource": "x".repeat(100_000) });
    assert!(of(&event).unwrap().len() < 500);
}
