use super::*;
use crate::manifest::Choice;

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::read(&Environment::of(variables.iter().copied()))
}

#[test]
fn one_variable_is_enough() {
    let config = read(&[("MODEL_URI", "s3://models/fraud/model.onnx")]).unwrap();
    assert_eq!(config.models[0].name.as_str(), "fraud");
    assert_eq!(
        config.models[0].location.to_string(),
        "s3://models/fraud/model.onnx"
    );
    assert_eq!(config.tcp.unwrap().to_string(), "127.0.0.1:2774");
    assert_eq!(config.refresh_interval, Duration::from_secs(60));
    assert_eq!(config.init_budget, Duration::from_secs(9));
    assert_eq!(
        config.onnxruntime.to_str(),
        Some("/opt/model-sidecar/lib/libonnxruntime.so.1.28.0")
    );
}

#[test]
fn all_errors_are_reported_with_variable_value_and_what_is_allowed() {
    let error = read(&[
        ("MODEL_URI", "models/fraud"),
        ("MODEL_PORT", "99999"),
        ("MODEL_REFRESH_INTERVAL", "5"),
        ("MODEL_METRICS", "statsd"),
        ("MODEL_CACHE_DIR", "cache"),
        ("MODEL_LOG_LEVEL", "LOUD"),
        ("MODEL_METRICS_NAMESPACE", "AWS/Lambda"),
    ])
    .unwrap_err();
    assert_eq!(error.0.len(), 7, "{error}");
    let text = error.to_string();
    for part in [
        "MODEL_URI=\"models/fraud\"",
        "s3://BUCKET/KEY",
        "MODEL_PORT=\"99999\" is not allowed: expected a whole number from 0 to 65535",
        "MODEL_REFRESH_INTERVAL=\"5\"",
        "one of cloudwatch, emf, none",
        "MODEL_CACHE_DIR=\"cache\" is not allowed: expected an absolute path",
        "MODEL_LOG_LEVEL=\"LOUD\"",
        "MODEL_METRICS_NAMESPACE",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn control_characters_are_rejected_in_every_variable() {
    for Variable { name, .. } in VARIABLES {
        for value in [
            "s3://m/a\tb.onnx",
            "6\n0s",
            "/tmp/a\u{7f}b",
            "a\u{fffd}",
            "a\u{9b}b",
        ] {
            let mut variables = vec![(*name, value)];
            if !["MODEL_URI", "MODELS"].contains(name) {
                variables.push(URI);
            }
            let error = read(&variables).unwrap_err();
            let text = error.to_string();
            let words = format!("{name}={value:?} is not allowed: expected UTF-8 text");
            assert!(text.contains(&words), "{words}: {text}");
            let told = text.matches(&format!("{name}={value:?}")).count();
            assert_eq!(told, 1, "once: {text}");
        }
    }
    let lines = "a=s3://m/a.onnx,\n  b=s3://m/b.onnx,\n";
    assert_eq!(read(&[("MODELS", lines)]).unwrap().models.len(), 2);
}

#[test]
fn white_space_around_a_value_changes_nothing() {
    let config = read(&[
        ("MODEL_BUCKET", " models\n"),
        ("MODEL_KEY", "\twine/model.onnx "),
        ("MODEL_NAME", "wine\r\n"),
        ("MODEL_SOCKET", " /tmp/a.sock "),
        ("MODEL_CUSTOM_OPS", " \n"),
        ("MODEL_REQUIRED", " true"),
        ("ORT_DYLIB_PATH", "/opt/lib.so\n"),
        ("MODEL_VERSION", " 3HL4kqtJlcpXroDTDmJ "),
    ])
    .unwrap();
    let model = &config.models[0];
    assert_eq!(model.location.to_string(), "s3://models/wine/model.onnx");
    assert_eq!(model.name.as_str(), "wine");
    assert_eq!(
        model.choice,
        Choice::Version("3HL4kqtJlcpXroDTDmJ".to_owned())
    );
    assert_eq!(config.socket.to_str(), Some("/tmp/a.sock"));
    assert_eq!(config.onnxruntime.to_str(), Some("/opt/lib.so"));
    assert!(config.required && config.custom_ops.is_empty());
}

#[test]
fn invalid_buckets_are_rejected_with_a_hint() {
    for (bucket, key) in [
        ("s3://models", "a.onnx"),
        ("s3://models/", "a.onnx"),
        ("arn:aws:s3:::models", "a.onnx"),
        ("models/wine", "a.onnx"),
    ] {
        let error = read(&[("MODEL_BUCKET", bucket), ("MODEL_KEY", key)]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("MODEL_BUCKET={bucket:?}")), "{text}");
        assert!(text.contains("a bucket's name, or the ARN"), "{text}");
    }
    let key = "s3://models/a.onnx";
    let error = read(&[("MODEL_BUCKET", "models"), ("MODEL_KEY", key)]).unwrap_err();
    assert!(error.to_string().contains(&format!("MODEL_KEY={key:?}")));
    let arn = "arn:aws:s3:eu-central-1:123456789012:accesspoint/models";
    assert!(read(&[("MODEL_BUCKET", arn), ("MODEL_KEY", "a.onnx")]).is_ok());
}

#[test]
fn models_must_be_set_in_exactly_one_way() {
    for variables in [
        &[][..],
        &[("MODEL_BUCKET", "models")],
        &[("MODEL_URI", "s3://models/a.onnx"), ("MODEL_KEY", "a.onnx")],
        &[
            ("MODEL_URI", "s3://models/a.onnx"),
            ("MODELS", "a=s3://models/a.onnx"),
        ],
    ] {
        let text = read(variables).unwrap_err().to_string();
        assert!(
            text.contains("exactly one of MODEL_URI, MODELS, or MODEL_BUCKET with MODEL_KEY"),
            "{text}"
        );
    }
    let config = read(&[("MODEL_BUCKET", "models"), ("MODEL_KEY", "x/churn.onnx")]).unwrap();
    assert_eq!(config.models[0].name.as_str(), "churn");
}

#[test]
fn several_models_have_unique_names() {
    let config = read(&[("MODELS", "fraud=s3://m/f.onnx, churn=s3://m/c.onnx")]).unwrap();
    let names: Vec<_> = config
        .models
        .iter()
        .map(|model| model.name.as_str())
        .collect();
    assert_eq!(names, ["fraud", "churn"]);
    let error = read(&[("MODELS", "a=s3://m/f.onnx,a=s3://m/c.onnx,b=nowhere")]).unwrap_err();
    assert_eq!(error.0.len(), 2, "{error}");
}

const URI: (&str, &str) = ("MODEL_URI", "s3://m/a.onnx");
const ON_LAMBDA: (&str, &str) = ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001");

#[test]
fn single_invocations_use_all_vcpus_of_the_memory_size() {
    let config = |mb: &str| read(&[URI, ON_LAMBDA, ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", mb)]);
    let threads = |mb: &str| config(mb).unwrap().threads;
    assert_eq!(threads("128"), 1);
    assert_eq!(threads("1769"), 1);
    assert_eq!(threads("1770"), crate::sys::cpus().min(2));
    assert_eq!(config("10240").unwrap().runs, 1);
}

#[test]
fn concurrent_requests_use_one_thread_per_run_and_a_run_per_cpu() {
    let managed = ("AWS_LAMBDA_INITIALIZATION_TYPE", "lambda-managed-instances");
    // The vCPUs of managed instances do not follow from the memory size.
    let memory = ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512");
    for variables in [vec![URI], vec![URI, ON_LAMBDA, managed, memory]] {
        let config = read(&variables).unwrap();
        assert_eq!((config.threads, config.runs), (1, crate::sys::cpus()));
        let all = crate::sys::cpus().to_string();
        let config = read(&[variables, vec![("MODEL_THREADS", &all)]].concat()).unwrap();
        assert_eq!((config.threads, config.runs), (crate::sys::cpus(), 1));
    }
    let more = read(&[URI, ("MODEL_THREADS", "256")]).unwrap();
    assert_eq!((more.threads, more.runs), (256, 1));
}

#[test]
fn the_queue_and_batches_have_limits() {
    let config = read(&[URI]).unwrap();
    assert_eq!((config.queue, config.batch_rows), (200, None));
    let config = read(&[
        URI,
        ("MODEL_QUEUE", "0"),
        ("MODEL_BATCH_MAX", "64"),
        ("MODEL_BATCH_DELAY", "5ms"),
    ])
    .unwrap();
    assert_eq!((config.queue, config.batch_rows), (0, Some(64)));
    assert_eq!(config.batch_delay, Duration::from_millis(5));
    let wrong = [("MODEL_QUEUE", "-1"), ("MODEL_BATCH_MAX", "1")];
    let error = read(&[vec![URI], wrong.to_vec()].concat()).unwrap_err();
    for part in [
        "MODEL_QUEUE=\"-1\" is not allowed: expected a whole number from 0 to 65536",
        "MODEL_BATCH_MAX=\"1\" is not allowed: expected a whole number from 2 to 65536",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = read(&[URI, ("MODEL_BATCH_DELAY", "5ms")]).unwrap_err();
    let expected =
        "MODEL_BATCH_DELAY=\"5ms\" is not allowed: expected no value without MODEL_BATCH_MAX";
    assert!(error.0[0].starts_with(expected), "{error}");
}

#[test]
fn a_misspelled_variable_is_reported() {
    let environment = Environment::of([
        ("MODEL_URI", "s3://m/a.onnx"),
        ("MODEL_REFRESH", "1s"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(environment.unknown(), ["MODEL_REFRESH"]);
}

#[test]
fn the_cache_is_limited_by_its_disk_by_default() {
    let uri = ("MODEL_URI", "s3://models/m.onnx");
    let config = read(&[uri]).unwrap();
    assert_eq!((config.cache_bytes, config.cache_shared), (None, None));
    let config = read(&[
        uri,
        ("MODEL_CACHE_MB", "64"),
        ("MODEL_CACHE_SHARED", "true"),
    ])
    .unwrap();
    assert_eq!(
        (config.cache_bytes, config.cache_shared),
        (Some(64 << 20), Some(true))
    );
    let error = read(&[
        uri,
        ("MODEL_CACHE_MB", "64MB"),
        ("MODEL_CACHE_SHARED", "efs"),
    ]);
    let error = error.unwrap_err().to_string();
    for part in [
        "MODEL_CACHE_MB=\"64MB\" is not allowed: expected a whole number",
        "MODEL_CACHE_SHARED=\"efs\" is not allowed: expected one of true, false",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn reload_mode_is_one_of_four_words() {
    let uri = ("MODEL_URI", "s3://models/m.onnx");
    assert_eq!(read(&[uri]).unwrap().reload, Reload::Auto);
    for (word, reload) in [
        ("overlap", Reload::Overlap),
        ("Replace", Reload::Replace),
        ("off", Reload::Off),
    ] {
        let config = read(&[uri, ("MODEL_RELOAD", word)]).unwrap();
        assert_eq!(config.reload, reload, "{word}");
    }
    let error = read(&[uri, ("MODEL_RELOAD", "never")]).unwrap_err();
    let expected =
        "MODEL_RELOAD=\"never\" is not allowed: expected one of auto, overlap, replace, off";
    assert_eq!(error.0, [expected]);
}

#[test]
fn max_staleness_needs_version_checks() {
    let uri = ("MODEL_URI", "s3://models/m.onnx");
    let (off, limit) = (("MODEL_RELOAD", "off"), ("MODEL_MAX_STALENESS", "5m"));
    let error = read(&[uri, off, limit]).unwrap_err();
    let expected = "MODEL_MAX_STALENESS=\"5m\" is not allowed: expected no value together with MODEL_RELOAD=off";
    assert!(error.0[0].starts_with(expected), "{error}");
    // An interval is allowed with MODEL_RELOAD=off, because templates often set both.
    let interval = ("MODEL_REFRESH_INTERVAL", "5m");
    assert!(read(&[uri, off, interval]).is_ok());
    assert!(read(&[uri, limit]).is_ok());
}
