//! `modelctl call`, against a server that records one request.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

use crate::support::Store;

/// Reads one request, and sends this response. Returns the request.
async fn answer(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    response: &str,
) -> String {
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let count = stream.read(&mut buffer).await.unwrap();
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request);
        if count == 0
            || text
                .split_once("\r\n\r\n")
                .is_some_and(|(_, body)| body.ends_with('}'))
        {
            break;
        }
    }
    stream.write_all(response.as_bytes()).await.unwrap();
    String::from_utf8(request).unwrap()
}

const OK: &str = "HTTP/1.1 200 OK\r\nserver-timing: run;dur=1\r\ncontent-length: 18\r\nconnection: close\r\n\r\n\
                  {\"prediction\":[1]}";

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_and_its_response() {
    let store = Store::lab().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    let call = ["call", &target, "--row", "[1, 2]", "--sign"];
    let (called, request) = tokio::join!(store.run(&call), async {
        answer(listener.accept().await.unwrap().0, OK).await
    });
    assert_eq!(called.code, 0, "{}", called.errors);
    assert_eq!(called.result["body"]["prediction"][0], 1);
    assert_eq!(called.result["headers"]["server-timing"], "run;dur=1");
    assert!(request.starts_with("POST /predict HTTP/1.1"), "{request}");
    assert!(request.ends_with("{\"features\":[[1,2]]}"), "{request}");
    let scope = "/eu-central-1/lambda/aws4_request";
    assert!(
        request.contains("AWS4-HMAC-SHA256") && request.contains(scope),
        "{request}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_and_a_failure() {
    let store = Store::lab().await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let target = format!("unix:{}", socket.display());
    let unavailable = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}";
    let call = [
        "call",
        &target,
        "--row",
        "[1]",
        "--header",
        "Authorization: Bearer x",
    ];
    let (errors, request) = tokio::join!(store.fails(1, &call), async {
        answer(listener.accept().await.unwrap().0, unavailable).await
    });
    assert!(errors.contains("the response is 503"), "{errors}");
    assert!(
        request.contains("Bearer x") && !request.contains("AWS4"),
        "{request}"
    );
    let errors = store
        .fails(1, &["call", "unix:/nowhere", "--row", "[1]"])
        .await;
    assert!(
        errors.contains("no sidecar listens on /nowhere"),
        "{errors}"
    );
}
