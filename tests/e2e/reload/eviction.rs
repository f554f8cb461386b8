//! Eviction of earlier versions: least recently used first, within `MODEL_CACHE_MB`.

use lab::lambda::Clock;

use crate::support::{
    BUCKET, KEY, assert_only_kept, features, freeze, padded, platform, s3_with, with_both_clocks,
};
use lab::reference::WINE;

const MB: usize = 1024 * 1024;

with_both_clocks!(earlier_versions_stay_until_a_new_one_needs_the_space,);

async fn earlier_versions_stay_until_a_new_one_needs_the_space(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let versions = [
        padded("wine-v1.onnx", 3 * MB),
        padded("wine-v2.onnx", 3 * MB),
        padded("wine-v1.onnx", 3 * MB - 1),
        padded("wine-v2.onnx", 5 * MB),
        padded("wine-v1.onnx", 8 * MB),
    ];
    s3.put(BUCKET, KEY, versions[0].clone());
    let function = platform(&s3)
        .env("MODEL_REFRESH_INTERVAL", "0")
        .env("MODEL_TAIL_BUDGET", "30s")
        .env("MODEL_CACHE_MB", "7")
        .clock(clock);
    let function = function.start().await.unwrap();
    let assert_active = async |version: &lab::reference::Reference| {
        freeze(&function, &s3).await;
        version.check(&function.answer(&features(9)).await.unwrap(), 0..9);
    };
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let environment = function.environment().unwrap();
    s3.put(BUCKET, KEY, versions[1].clone());
    function.answer(&features(1)).await.unwrap();
    assert_active(&WINE.v2).await;
    assert_only_kept(&environment, &[&versions[0], &versions[1]], &["wine"]).await;

    s3.put(BUCKET, KEY, versions[2].clone());
    function.answer(&features(1)).await.unwrap();
    assert_active(&WINE.v1).await;
    assert_only_kept(&environment, &[&versions[1], &versions[2]], &["wine"]).await;

    // The active version is in memory, so its file is evicted where the new one does not fit next to it.
    s3.put(BUCKET, KEY, versions[3].clone());
    function.answer(&features(1)).await.unwrap();
    assert_active(&WINE.v2).await;
    assert_only_kept(&environment, &[&versions[3]], &["wine"]).await;

    s3.put(BUCKET, KEY, versions[4].clone());
    function.answer(&features(1)).await.unwrap();
    assert_active(&WINE.v2).await;
    let words = function
        .log()
        .wait_for("not enough cache space for the model")
        .await
        .unwrap();
    for part in [
        "8388608 bytes are required",
        "MODEL_CACHE_MB, which allows 7340032 bytes",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert_only_kept(&environment, &[&versions[3]], &["wine"]).await;
}
