//! Error messages for the errors of S3: object, cause, remedy.

use lab::credentials::REGION;
use lab::s3::{Rule, S3Server};
use model_sidecar::source::SourceError;

use crate::support::download::{BUCKET, KEY, source};
use crate::support::{Alone, error};

/// Error for a response of S3.
async fn error_for(rule: Rule) -> SourceError {
    let s3 = S3Server::start().await.unwrap();
    s3.fail(rule);
    let opened = source(&s3.url(), KEY).open(None).await;
    let Err(error) = opened else {
        panic!("S3 returned an error")
    };
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot read s3://{BUCKET}/{KEY}: ")),
        "{error}"
    );
    error
}

/// Asserts the words of a permanent error.
async fn permanent(rule: Rule, words: &[&str]) {
    let error = error_for(rule).await;
    assert!(!error.is_transient() && !error.is_changed(), "{error}");
    assert_says(&error, words);
}

/// Asserts the words of a transient error.
async fn transient(rule: Rule, words: &[&str]) {
    let error = error_for(rule).await;
    assert!(error.is_transient(), "{error}");
    assert_says(&error, words);
}

fn assert_says(error: &SourceError, words: &[&str]) {
    let error = error.to_string();
    for word in words {
        assert!(error.contains(word), "{word}: {error}");
    }
}

/// Error response of S3.
fn answer(status: u16, code: &str, message: &str) -> Rule {
    Rule::any().error(
        status,
        code,
        message,
        "<RequestId>4442587FB7D0A2F9</RequestId>",
    )
}

#[tokio::test]
async fn a_denied_kms_key_needs_a_permission() {
    let message = "User: arn:aws:sts::111122223333:assumed-role/fraud/fraud is not authorized to perform: \
                   kms:Decrypt on resource: arn:aws:kms:eu-central-1:111122223333:key/1234abcd because no \
                   identity-based policy allows the kms:Decrypt action";
    let rule = answer(403, "AccessDenied", message);
    permanent(
        rule,
        &[
            "the function's role needs kms:Decrypt",
            "key/1234abcd",
            "403 AccessDenied",
        ],
    )
    .await;
}

#[tokio::test]
async fn an_unusable_kms_key_is_named_with_its_state() {
    for (code, message, words) in [
        (
            "KMS.DisabledException",
            "arn:aws:kms:…:key/1 is disabled.",
            "is disabled: enable it",
        ),
        (
            "KMS.NotFoundException",
            "Key 'arn:aws:kms:…:key/1' does not exist",
            "does not exist",
        ),
        (
            "KMS.KMSInvalidStateException",
            "arn:aws:kms:…:key/1 is pending deletion.",
            "such as pending deletion",
        ),
        (
            "KMS.UnrecognizedClientException",
            "no",
            "cannot use the KMS key of the object: check the key in KMS",
        ),
    ] {
        permanent(answer(400, code, message), &[words, code, message]).await;
    }
}

#[tokio::test]
async fn kms_throttling_is_transient() {
    let rule = answer(400, "KMS.ThrottlingException", "Rate exceeded");
    transient(
        rule,
        &[
            "KMS is temporarily unavailable",
            "retrying",
            "Rate exceeded",
        ],
    )
    .await;
}

#[tokio::test]
async fn access_denied_has_the_reason_of_s3() {
    let message = "User: kms-reader is not authorized to perform: s3:GetObject because no VPC endpoint policy allows \
                   the s3:GetObject action";
    let rule = answer(403, "AccessDenied", message);
    permanent(
        rule,
        &["needs s3:GetObject", "s3:ListBucket", "VPC endpoint policy"],
    )
    .await;
}

#[tokio::test]
async fn an_archived_object_must_be_restored() {
    let message = "The operation is not valid for the object's storage class";
    let more = "<StorageClass>GLACIER</StorageClass>";
    let rule = Rule::any().error(403, "InvalidObjectState", message, more);
    permanent(rule, &["archived: restore it", message]).await;
}

#[tokio::test]
async fn a_bucket_in_another_region_is_named_with_its_region() {
    let message =
        "The bucket you are attempting to access must be addressed using the specified endpoint.";
    let here = format!("AWS_REGION is {REGION}");
    let expected = [
        "the bucket models is in eu-west-1",
        here.as_str(),
        "a bucket in the function's region",
    ];
    for status in [301, 307] {
        let rule = answer(status, "PermanentRedirect", message);
        let rule = rule.header("x-amz-bucket-region", "eu-west-1");
        permanent(rule, &expected).await;
    }

    let message = "The authorization header is malformed; the region 'eu-central-1' is wrong; expecting 'eu-west-1'";
    let code = "AuthorizationHeaderMalformed";
    let rule = Rule::any().error(400, code, message, "<Region>eu-west-1</Region>");
    permanent(rule, &expected).await;

    let nameless = answer(301, "PermanentRedirect", message);
    permanent(nameless, &["the bucket models is in another region", &here]).await;
    let strange = Rule::any().error(400, code, message, "<Region>not a region</Region>");
    let error = error_for(strange).await.to_string();
    assert!(
        error.contains("S3 rejected the request") && !error.contains("not a region"),
        "{error}"
    );
}

#[tokio::test]
async fn a_requester_pays_bucket_is_not_supported() {
    let message = "Access denied: the bucket is a Requester Pays bucket";
    let rule = answer(403, "AccessDenied", message);
    permanent(
        rule,
        &["Requester Pays", "copy the model to a bucket of your own"],
    )
    .await;
}

#[tokio::test]
async fn a_wrong_clock_must_be_set() {
    let message = "The difference between the request time and the current time is too large.";
    let rule = answer(403, "RequestTimeTooSkewed", message);
    transient(rule, &["differs too much from that of S3", "set the clock"]).await;
}

#[tokio::test]
async fn expired_and_unknown_credentials_differ() {
    let rule = answer(400, "ExpiredToken", "The provided token has expired.");
    permanent(rule, &["S3 rejected the credentials: they have expired"]).await;
    let rule = answer(
        403,
        "InvalidAccessKeyId",
        "The AWS Access Key Id you provided does not exist",
    );
    permanent(
        rule,
        &["S3 rejected the credentials: access key, secret key and session token"],
    )
    .await;
}

#[tokio::test]
async fn other_errors_have_the_message_of_s3() {
    let rule = answer(
        400,
        "InvalidBucketName",
        "The specified bucket is not valid.",
    );
    permanent(
        rule,
        &[
            "S3 rejected the request",
            "400 InvalidBucketName: The specified bucket",
        ],
    )
    .await;
    let endless = "very ".repeat(100_000);
    let error = error_for(answer(400, "InvalidRequest", &endless))
        .await
        .to_string();
    assert!(error.len() < 1000 && error.contains('…'), "{}", error.len());
}

#[tokio::test]
async fn throttling_and_server_errors_differ() {
    let rule = answer(503, "SlowDown", "Please reduce your request rate.");
    transient(
        rule,
        &["S3 is throttling: too many requests", "503 SlowDown"],
    )
    .await;
    let rule = answer(
        503,
        "ServiceUnavailable",
        "Service is unable to handle request.",
    );
    transient(
        rule,
        &["throttling or unavailable", "503 ServiceUnavailable"],
    )
    .await;
    let rule = answer(
        500,
        "InternalError",
        "We encountered an internal error. Please try again.",
    );
    let rule = rule.header("x-amz-request-id", "4442587FB7D0A2F9");
    transient(
        rule,
        &[
            "internal error of S3",
            "500 InternalError",
            "request 4442587FB7D0A2F9",
        ],
    )
    .await;
}

#[tokio::test]
async fn an_html_page_is_attributed_to_a_proxy() {
    let page = "<!DOCTYPE html>\n<html><body><h1>Access blocked</h1></body></html>";
    for status in [403, 404] {
        let rule = Rule::any().answer(status, "text/html; charset=utf-8", page);
        permanent(
            rule,
            &["the response is a web page", "a proxy", "AWS_ENDPOINT_URL"],
        )
        .await;
    }
    let rule = Rule::any().answer(502, "text/plain", "<html>bad gateway</html>");
    transient(rule, &["the response is a web page", "status 502"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_named() {
    let s3 = S3Server::start().await.unwrap();
    // A domain that never exists (RFC 2606).
    let nowhere = [("AWS_ENDPOINT_URL_S3", "http://s3.invalid:9000")];
    let alone = Alone::start(&s3, &nowhere);
    let said = alone
        .process
        .wait_for("no version is loaded")
        .await
        .unwrap();
    for words in [
        "no connection to s3.invalid:9000",
        "the name does not resolve; check AWS_ENDPOINT_URL",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let missing = "not every model is loaded";
    alone.process.wait_for(missing).await.unwrap();
    let answer = alone.predict(1).await;
    let answer = answer.json().unwrap();
    let told = "no connection to S3";
    assert!(error(&answer).contains(told), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_a_repository_needs_another_permission() {
    let s3 = S3Server::start().await.unwrap();
    s3.fail(Rule::any().status(403, "AccessDenied"));
    let alone = Alone::start(&s3, &[("MODEL_URI", "s3://models/fraud/")]);
    alone
        .process
        .wait_for("needs s3:ListBucket on the bucket, for this prefix")
        .await
        .unwrap();
}
