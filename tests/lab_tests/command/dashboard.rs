//! The page of `lab serve --dashboard`.

use http::Request;
use lab::http::Client;

use super::{Folders, Served};

async fn get(served: &Served, path: &str) -> lab::http::HttpResponse {
    let request = Request::get(path).body(Vec::new().into()).unwrap();
    Client::tcp(served.port).send(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_invocations_environments_and_the_log() {
    let folders = Folders::new();
    let served = folders.serve(&["--dashboard"]).await;
    assert_eq!(served.invoke("{}").await.status, 200);
    let page = get(&served, "/").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        page.text().contains("fetch('/dashboard'"),
        "{}",
        page.text()
    );

    let content = get(&served, "/dashboard").await;
    assert_eq!(content.status, 200, "{}", content.text());
    let content = content.text();
    for part in [
        "<h2>Traffic and errors</h2>",
        ">Error rate</text>",
        "environment 0",
        "START RequestId",
        "● OK",
        "lab-model-error-rate",
    ] {
        assert!(content.contains(part), "{part} is not in:\n{content}");
    }
    let picture = get(&served, "/dashboard.svg?model=wine").await;
    assert_eq!(picture.header("content-type"), Some("image/svg+xml"));
    assert!(picture.text().contains("lab-wine-error-rate"));
    assert_eq!(get(&served, "/other").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_there_is_no_page() {
    let served = Folders::new().serve(&[]).await;
    assert_eq!(get(&served, "/").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cloudwatch_is_rejected() {
    let folders = Folders::new();
    let (layer, function) = (folders.layer(), folders.function());
    let variable = "AWS_ENDPOINT_URL_CLOUDWATCH=http://127.0.0.1:1";
    let output = super::lab(&[
        "serve",
        "--port",
        "0",
        "--layer",
        &layer,
        "--function",
        &function,
        "--dashboard",
        "--env",
        variable,
    ])
    .await;
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("cannot use --dashboard with --env"),
        "{error}"
    );
}
