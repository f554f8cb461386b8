//! Start and end of the lab's `SeaweedFS`.

use std::sync::Arc;

use lab::seaweedfs::SeaweedFs;
use tokio::net::TcpStream;

/// Returns `true` if a server listens there.
async fn listens(url: &str) -> bool {
    let address = url.strip_prefix("http://").unwrap();
    TcpStream::connect(address).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_users_share_a_server_that_ends_with_the_last() {
    let one = SeaweedFs::shared().await.unwrap();
    let other = SeaweedFs::shared().await.unwrap();
    assert!(Arc::ptr_eq(&one, &other));
    assert_ne!(one.bucket(), other.bucket());
    let url = one.url();
    drop(one);
    assert!(listens(&url).await);
    drop(other);
    assert!(!listens(&url).await);

    let again = SeaweedFs::shared().await.unwrap();
    assert!(listens(&again.url()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_a_test_that_panics() {
    let server = SeaweedFs::start().await.unwrap();
    let url = server.url();
    let test = tokio::spawn(async move {
        panic!("a test that fails while {} runs", server.url());
    });
    assert!(test.await.unwrap_err().is_panic());
    assert!(!listens(&url).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_counts_responses_by_bucket_and_status() {
    let server = SeaweedFs::start().await.unwrap();
    let (client, bucket) = (server.client(), server.bucket());
    client.create_bucket().bucket(&bucket).send().await.unwrap();
    let get = |bucket: &str| client.get_object().bucket(bucket).key("m").send();
    get(&bucket).await.unwrap_err();
    let put = client.put_object().bucket(&bucket).key("m");
    put.body(vec![42; 1000].into()).send().await.unwrap();
    for _ in 0..2 {
        let answer = get(&bucket).await.unwrap();
        assert_eq!(answer.body.collect().await.unwrap().to_vec(), [42; 1000]);
    }
    get("other").await.unwrap_err();
    assert_eq!(server.gets(&bucket, 404, 1).await.unwrap(), 1);
    assert_eq!(server.gets(&bucket, 200, 2).await.unwrap(), 2);
    assert_eq!(server.gets(&bucket, 304, 0).await.unwrap(), 0);
}
