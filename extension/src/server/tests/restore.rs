//! Reports of after-restore hooks.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, Request, StatusCode};
use tokio::sync::mpsc;

use crate::clock::{SystemClock, Thaws};
use crate::models::Models;
use crate::scheduler::ExecutorLimits;
use crate::server::context::ServerContext;
use crate::server::in_process::call;
use crate::status::{ModelCommand, Status};

fn server(is_for_snapshot: bool) -> (ServerContext, mpsc::Receiver<ModelCommand>) {
    let (status, commands) = Status::new([]);
    let context = ServerContext::new(
        Arc::new(Models::new([])),
        Arc::new(status.for_snapshot(is_for_snapshot)),
        ExecutorLimits::default(),
        Arc::new(SystemClock),
        Thaws::default(),
        None,
    );
    (context, commands)
}

async fn report(context: &ServerContext, remote: bool) -> (StatusCode, String) {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = "/lambda/restore".parse().unwrap();
    if remote {
        let yes = "true".parse().unwrap();
        request.headers_mut().insert("x-model-remote", yes);
    }
    let response = call(request, context).await;
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    (response.status(), text)
}

#[tokio::test]
async fn a_report_is_rejected_where_no_snapshot_was_restored() {
    let (context, _commands) = server(false);
    let (status, text) = report(&context, false).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(
        text.contains("AWS_LAMBDA_INITIALIZATION_TYPE is not snap-start"),
        "{text}"
    );

    let (context, _commands) = server(true);
    let (status, text) = report(&context, false).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(text.contains("Init has not ended"), "{text}");
}

#[tokio::test]
async fn a_caller_from_outside_is_rejected() {
    let (context, _commands) = server(true);
    context.status.ready_for_snapshot();
    assert_eq!(report(&context, true).await.0, StatusCode::FORBIDDEN);
    let context = context.allow_remote_operations(true);
    let (status, text) = report(&context, true).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        text.contains("from outside the execution environment"),
        "{text}"
    );
}

#[tokio::test]
async fn the_work_is_done_before_the_response_and_once() {
    let (context, mut commands) = server(true);
    context.status.ready_for_snapshot();
    let work = async {
        let Some(ModelCommand::Restored(done)) = commands.recv().await else {
            panic!("another command");
        };
        context.status.restored();
        done.send(()).unwrap();
    };
    let ((status, text), ()) = tokio::join!(report(&context, false), work);
    assert_eq!((status, &*text), (StatusCode::OK, r#"{"restored":true}"#));
    assert_eq!(report(&context, false).await.0, StatusCode::OK);
    assert!(commands.try_recv().is_err(), "the work was done before");
}
