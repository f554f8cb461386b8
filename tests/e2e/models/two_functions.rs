//! Two functions with one layer: each serves a model of its own.

use lab::cloudwatch::{CloudWatch, Filter};
use lab::lambda::{Clock, Function};
use lab::reference::WINE;
use lab::s3::S3Server;

use crate::support::{
    BUCKET, KEY, features, freeze, invoke_until_logged, model, platform, s3_with,
};

/// Key of the second function's model.
const GRADES: &str = "grades/model.onnx";

async fn start(name: &str, key: &str, s3: &S3Server, cloudwatch: &CloudWatch) -> Function {
    let builder = platform(s3)
        .clock(Clock::Jumps)
        .envs(cloudwatch.env())
        .env("AWS_LAMBDA_FUNCTION_NAME", name)
        .env("MODEL_URI", format!("s3://{BUCKET}/{key}"))
        .env("MODEL_METRICS", "cloudwatch");
    builder.start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_one_function_is_none_of_the_other() {
    let s3 = s3_with("wine-v1.onnx").await;
    s3.put(BUCKET, GRADES, model("wine-names.onnx"));
    let cloudwatch = CloudWatch::start().await.unwrap();
    let (wine, grades) = tokio::join!(
        start("wine", KEY, &s3, &cloudwatch),
        start("grades", GRADES, &s3, &cloudwatch),
    );
    let answer = async |function: &Function| function.answer(&features(9)).await.unwrap();
    WINE.v1.check(&answer(&wine).await, 0..9);
    WINE.names.check(&answer(&grades).await, 0..9);

    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    freeze(&wine, &s3).await;
    freeze(&grades, &s3).await;
    invoke_until_logged(&wine, "a new version is active").await;
    WINE.v2.check(&answer(&wine).await, 0..9);
    WINE.names.check(&answer(&grades).await, 0..9);

    let (_, log) = tokio::join!(wine.shutdown(), grades.shutdown());
    assert!(!log.text().contains("a new version is active"));
    for (function, loads) in [("wine", 2.0), ("grades", 1.0)] {
        let sum =
            |metric| cloudwatch.sum(&Filter::metric(metric).dimension("FunctionName", function));
        assert!((sum("ModelLoads") - loads).abs() < 0.5, "{function}");
        assert!((sum("Inferences") - 2.0).abs() < 0.5, "{function}");
    }
}
