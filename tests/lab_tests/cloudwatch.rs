//! The lab's `CloudWatch`, through AWS's SDK.

use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::retry::RetryConfig;
use aws_sdk_cloudwatch::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_cloudwatch::error::ProvideErrorMetadata;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::builders::MetricDatumBuilder;
use aws_sdk_cloudwatch::types::{
    Dimension, DimensionFilter, Metric, MetricDataQuery, MetricDatum, MetricStat, RecentlyActive,
    StandardUnit, StatisticSet,
};
use lab::cloudwatch::{CloudWatch, Filter, Values};
use lab::credentials::{ACCESS_KEY, REGION, SECRET_KEY};
use lab::gate::Gate;

fn client(cloudwatch: &CloudWatch, secret: &str) -> Client {
    let config = aws_sdk_cloudwatch::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(lab::http::sdk_client())
        .credentials_provider(Credentials::new(ACCESS_KEY, secret, None, None, "lab"))
        .region(Region::new(REGION))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(cloudwatch.url())
        .build();
    Client::from_conf(config)
}

fn dimension(name: &str, value: &str) -> Dimension {
    Dimension::builder().name(name).value(value).build()
}

fn latency() -> MetricDatumBuilder {
    MetricDatum::builder().metric_name("Latency")
}

/// Sends the data and returns the error code, `None` if they were accepted.
async fn send(client: &Client, namespace: &str, data: Vec<MetricDatum>) -> Option<String> {
    let put = client
        .put_metric_data()
        .namespace(namespace)
        .set_metric_data(Some(data));
    let error = put.send().await.err()?;
    Some(error.as_service_error().unwrap().code().unwrap().to_owned())
}

#[tokio::test]
async fn observations_are_kept_with_their_distribution() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let client = client(&cloudwatch, SECRET_KEY);
    let minute = SystemTime::UNIX_EPOCH
        + Duration::from_secs(
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs()
                / 60
                * 60,
        );
    let distribution = latency()
        .dimensions(dimension("ModelName", "fraud"))
        .timestamp(DateTime::from(minute))
        .unit(StandardUnit::Milliseconds)
        .storage_resolution(60)
        .set_values(Some(vec![10.0, 20.0, 400.0]))
        .set_counts(Some(vec![90.0, 9.0, 1.0]));
    let single = MetricDatum::builder()
        .metric_name("ColdStarts")
        .dimensions(dimension("ModelName", "churn"))
        .value(1.0);
    let summary = MetricDatum::builder()
        .metric_name("BatchSize")
        .statistic_values(
            StatisticSet::builder()
                .sample_count(4.0)
                .sum(10.0)
                .minimum(1.0)
                .maximum(4.0)
                .build(),
        );
    let data = vec![distribution.build(), single.build(), summary.build()];
    assert_eq!(send(&client, "ModelSidecar", data).await, None);

    let fraud = Filter::metric("Latency")
        .namespace("ModelSidecar")
        .dimension("ModelName", "fraud");
    let taken = cloudwatch.datapoints(&fraud);
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].timestamp, minute);
    assert_eq!(taken[0].unit.as_deref(), Some("Milliseconds"));
    assert_eq!(taken[0].storage_resolution, 60);
    assert_eq!(
        taken[0].values,
        Values::Distribution(vec![(10.0, 90.0), (20.0, 9.0), (400.0, 1.0)])
    );
    assert!((cloudwatch.count(&fraud) - 100.0).abs() < 1e-9);
    assert!((cloudwatch.sum(&fraud) - 1480.0).abs() < 1e-9);
    assert_eq!(cloudwatch.percentile(&fraud, 50.0), Some(10.0));
    assert_eq!(cloudwatch.percentile(&fraud, 99.0), Some(20.0));
    assert_eq!(cloudwatch.percentile(&fraud, 99.9), Some(400.0));
    assert!((cloudwatch.sum(&Filter::metric("BatchSize")) - 10.0).abs() < 1e-9);
    assert!(
        cloudwatch
            .datapoints(&Filter::metric("Latency").dimension("ModelName", "churn"))
            .is_empty()
    );
}

#[tokio::test]
async fn a_large_request_is_sent_compressed_and_accepted() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let client = client(&cloudwatch, SECRET_KEY);
    let data = (0..500)
        .map(|n| {
            latency()
                .dimensions(dimension("N", &n.to_string()))
                .value(1.0)
                .build()
        })
        .collect();
    assert_eq!(send(&client, "Lab", data).await, None);
    let request = cloudwatch.requests().pop().unwrap();
    assert!(request.is_compressed);
    assert_eq!((request.status, request.metrics), (200, 500));
    assert!((cloudwatch.count(&Filter::metric("Latency")) - 500.0).abs() < 1e-9);
}

#[tokio::test]
async fn only_signed_requests_are_taken() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let forged = client(&cloudwatch, "not the secret");
    let data = || vec![latency().value(1.0).build()];
    let code = send(&forged, "Lab", data()).await;
    assert_eq!(code.as_deref(), Some("SignatureDoesNotMatch"));
    let path = "/service/GraniteServiceVersion20100801/operation/PutMetricData";
    let mut unsigned = lab::http::request(http::Method::POST, path, vec![0xa0]).unwrap();
    let protocol = http::HeaderValue::from_static("rpc-v2-cbor");
    unsigned.headers_mut().insert("smithy-protocol", protocol);
    let answer = lab::http::Client::tcp(cloudwatch.port())
        .send(unsigned)
        .await
        .unwrap();
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.header("x-amzn-query-error"),
        Some("MissingAuthenticationToken;Sender")
    );
    assert!(cloudwatch.datapoints(&Filter::all()).is_empty());
}

const VALUE: Option<&str> = Some("InvalidParameterValue");
const COMBINATION: Option<&str> = Some("InvalidParameterCombination");
const MISSING: Option<&str> = Some("MissingParameter");

/// Sends each metric alone and compares the error code with the expected one.
async fn hold(cases: Vec<(&str, Option<&str>, MetricDatumBuilder)>) {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let client = client(&cloudwatch, SECRET_KEY);
    for (what, expected, datum) in cases {
        let code = send(&client, "Lab", vec![datum.build()]).await;
        assert_eq!(code.as_deref(), expected, "{what}");
    }
}

#[tokio::test]
async fn dimensions_have_their_limits() {
    let one = || latency().value(1.0);
    let many = |count: u32| {
        let dimensions = (0..count).map(|n| dimension(&n.to_string(), "x"));
        one().set_dimensions(Some(dimensions.collect()))
    };
    let with = |name: &str, value: &str| one().dimensions(dimension(name, value));
    hold(vec![
        ("31", VALUE, many(31)),
        ("30", None, many(30)),
        (
            "twice",
            VALUE,
            with("A", "1").dimensions(dimension("A", "2")),
        ),
        ("empty", VALUE, with("A", "")),
        ("too long", VALUE, with("A", &"x".repeat(1025))),
        ("long", None, with("A", &"x".repeat(1024))),
        ("a colon", VALUE, with(":A", "1")),
    ])
    .await;
}

#[tokio::test]
async fn values_have_their_limits() {
    let many = |count: u32| latency().set_values(Some((0..count).map(f64::from).collect()));
    let two = || latency().values(1.0).values(2.0);
    hold(vec![
        ("151", VALUE, many(151)),
        ("150", None, many(150)),
        ("twice", VALUE, latency().values(1.0).values(1.0)),
        ("fewer counts", VALUE, two().counts(1.0)),
        ("a count of 0", VALUE, two().counts(1.0).counts(0.0)),
        (
            "counts alone",
            COMBINATION,
            latency().value(1.0).counts(1.0),
        ),
        ("two forms", COMBINATION, latency().value(1.0).values(1.0)),
        ("none", COMBINATION, latency()),
        ("NaN", VALUE, latency().value(f64::NAN)),
        ("infinity", VALUE, latency().values(f64::INFINITY)),
        ("too large", VALUE, latency().value(1e109)),
    ])
    .await;
}

#[tokio::test]
async fn names_units_and_times_have_their_limits() {
    let one = || latency().value(1.0);
    let now = SystemTime::now();
    let at = |time: SystemTime| one().timestamp(time.into());
    let hours = Duration::from_hours;
    hold(vec![
        ("no name", MISSING, MetricDatum::builder().value(1.0)),
        ("an empty name", VALUE, one().metric_name("")),
        ("an unknown unit", VALUE, one().unit("Furlongs".into())),
        ("a resolution of 10", VALUE, one().storage_resolution(10)),
        ("too old", VALUE, at(now - hours(15 * 24))),
        ("old", None, at(now - hours(13 * 24))),
        ("too far ahead", VALUE, at(now + hours(3))),
        ("ahead", None, at(now + hours(1))),
    ])
    .await;
}

#[tokio::test]
async fn requests_have_limits_and_are_accepted_whole_or_not_at_all() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let client = client(&cloudwatch, SECRET_KEY);
    let one = || latency().value(1.0);
    let times = |count: usize| vec![one().build(); count];
    assert_eq!(
        send(&client, "AWS/Lambda", times(1)).await.as_deref(),
        VALUE
    );
    assert_eq!(send(&client, "a=b", times(1)).await.as_deref(), VALUE);
    assert_eq!(send(&client, "Lab", vec![]).await.as_deref(), MISSING);
    assert_eq!(send(&client, "Lab", times(1001)).await.as_deref(), VALUE);

    let large = one().dimensions(dimension("A", &"x".repeat(1024))).build();
    let code = send(&client, "Lab", vec![large; 1000]).await;
    assert_eq!(code.as_deref(), Some("RequestEntityTooLarge"));

    let mixed = vec![one().build(), latency().value(f64::NAN).build()];
    assert_eq!(send(&client, "Lab", mixed).await.as_deref(), VALUE);
    assert!(cloudwatch.datapoints(&Filter::all()).is_empty());
    assert_eq!(send(&client, "Lab", times(1000)).await, None);
    assert_eq!(cloudwatch.datapoints(&Filter::all()).len(), 1000);
}

#[tokio::test]
async fn it_fails_stalls_and_goes_down_on_demand() {
    let mut cloudwatch = CloudWatch::start().await.unwrap();
    let client = client(&cloudwatch, SECRET_KEY);
    let one = || vec![latency().value(1.0).build()];
    cloudwatch.fail_next(1, 400, "Throttling");
    cloudwatch.fail_next(1, 503, "ServiceUnavailable");
    assert_eq!(
        send(&client, "Lab", one()).await.as_deref(),
        Some("Throttling")
    );
    assert_eq!(
        send(&client, "Lab", one()).await.as_deref(),
        Some("ServiceUnavailable")
    );
    assert_eq!(send(&client, "Lab", one()).await, None);

    let gate = Gate::new();
    cloudwatch.stall(&gate);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { send(&client, "Lab", vec![latency().value(2.0).build()]).await }
    });
    gate.reached(1).await.unwrap();
    assert!((cloudwatch.sum(&Filter::all()) - 1.0).abs() < 1e-9);
    gate.open();
    assert_eq!(waiting.await.unwrap(), None);
    cloudwatch
        .wait_until("both observations", |taken| taken.len() == 2)
        .await
        .unwrap();

    cloudwatch.down().await;
    let put = client
        .put_metric_data()
        .namespace("Lab")
        .metric_data(latency().value(1.0).build());
    assert!(
        put.clone()
            .send()
            .await
            .unwrap_err()
            .raw_response()
            .is_none()
    );
    cloudwatch.up().await.unwrap();
    put.send().await.unwrap();
}

#[tokio::test]
async fn metrics_are_listed_page_by_page() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let client = client(&cloudwatch, SECRET_KEY);
    let data = (0..501)
        .map(|n| {
            latency()
                .dimensions(dimension("FunctionName", "fraud"))
                .dimensions(dimension("N", &n.to_string()))
                .value(1.0)
                .build()
        })
        .chain([
            latency()
                .dimensions(dimension("FunctionName", "churn"))
                .value(1.0)
                .build(),
            latency()
                .dimensions(dimension("FunctionName", "fraud"))
                .timestamp((SystemTime::now() - Duration::from_hours(4)).into())
                .value(1.0)
                .build(),
        ])
        .collect();
    assert_eq!(send(&client, "Lab", data).await, None);
    let of_fraud = DimensionFilter::builder()
        .name("FunctionName")
        .value("fraud")
        .build();
    let list = client.list_metrics().namespace("Lab").dimensions(of_fraud);
    let mut sizes = Vec::new();
    let mut pages = list.clone().into_paginator().send();
    while let Some(page) = pages.next().await {
        sizes.push(page.unwrap().metrics().len());
    }
    assert_eq!(sizes, [500, 2]);
    let recent = list.recently_active(RecentlyActive::Pt3H);
    let mut pages = recent.into_paginator().send();
    let mut count = 0;
    while let Some(page) = pages.next().await {
        count += page.unwrap().metrics().len();
    }
    assert_eq!(count, 501);
    let other = client.list_metrics().namespace("Other").send().await;
    assert!(other.unwrap().metrics().is_empty());
}

#[tokio::test]
async fn statistics_are_those_of_exactly_the_named_dimensions() {
    let cloudwatch = CloudWatch::start().await.unwrap();
    let client = client(&cloudwatch, SECRET_KEY);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let minute = now.unwrap().as_secs() / 300 * 300 - 300;
    let time = |second: u64| DateTime::from_secs(i64::try_from(second).unwrap());
    let at = |second: u64, value: f64| {
        latency()
            .dimensions(dimension("A", "1"))
            .timestamp(time(second))
            .value(value)
    };
    let data = vec![
        at(minute, 1.0).build(),
        at(minute + 59, 2.5).build(),
        at(minute + 60, 8.0).build(),
        at(minute + 60, 9.0).dimensions(dimension("B", "2")).build(),
        at(minute + 120, 16.0).build(),
    ];
    assert_eq!(send(&client, "Lab", data).await, None);
    let query = |id: &str, stat: &str, period: i32| {
        let metric = Metric::builder()
            .namespace("Lab")
            .metric_name("Latency")
            .dimensions(dimension("A", "1"));
        let stat = MetricStat::builder()
            .metric(metric.build())
            .stat(stat)
            .period(period);
        MetricDataQuery::builder()
            .id(id)
            .metric_stat(stat.build())
            .build()
    };
    let get = |queries: Vec<MetricDataQuery>| {
        client
            .get_metric_data()
            .set_metric_data_queries(Some(queries))
            .start_time(time(minute))
            .end_time(time(minute + 120))
    };
    let queries = vec![query("sum", "Sum", 60), query("max", "Maximum", 300)];
    let got = get(queries).send().await.unwrap();
    let results = got.metric_data_results();
    assert_eq!(results[0].id(), Some("sum"));
    assert_eq!(results[0].values(), [8.0, 3.5]);
    assert_eq!(results[0].timestamps(), [time(minute + 60), time(minute)]);
    assert_eq!(results[1].values(), [8.0]);
    for wrong in [
        vec![],
        vec![query("Sum", "Sum", 60)],
        vec![query("a", "Sum", 60), query("a", "Sum", 60)],
        vec![query("a", "Sum", 90)],
        vec![query("a", "Median", 60)],
        vec![
            MetricDataQuery::builder()
                .id("a")
                .expression("m1*2")
                .build(),
        ],
        vec![query("a", "Sum", 60); 501],
    ] {
        let error = get(wrong).send().await.unwrap_err();
        assert_eq!(error.raw_response().unwrap().status().as_u16(), 400);
    }
}
