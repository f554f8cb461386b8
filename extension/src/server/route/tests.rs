use proptest::prelude::*;

use super::*;
use crate::ids::VersionName;

fn target(model: &str, version: Option<&str>) -> ModelSelector {
    ModelSelector {
        model: model.to_owned(),
        version: version.map(str::to_owned),
        label: None,
    }
}

#[test]
fn paths_and_methods_have_routes() {
    let wine = |version: Option<&str>| target("wine", version);
    let (get, post) = (Method::GET, Method::POST);
    for (method, path, route) in [
        (&get, "/v2", Route::Server),
        (&get, "/v2/", Route::Server),
        (&Method::HEAD, "/v2/health/live", Route::Live),
        (&get, "/v2/models/wine", Route::ModelMetadata(wine(None))),
        (&get, "/v2/models/stats", Route::Statistics(None)),
        (
            &get,
            "/v2/models/stats/stats",
            Route::Statistics(Some(target("stats", None))),
        ),
        (
            &get,
            "/v2/models/wine/versions/1/stats",
            Route::Statistics(Some(wine(Some("1")))),
        ),
        (
            &get,
            "/v2/models/wine/versions/1/ready",
            Route::ModelReady(wine(Some("1"))),
        ),
        (
            &get,
            "/v2/models/wine/config",
            Route::ModelConfiguration(wine(None)),
        ),
        (&post, "/v2/models/wine/infer", Route::Infer(wine(None))),
        (&post, "/v2/repository/index", Route::RepositoryIndex),
        (&post, "/lambda/restore", Route::Restore),
        (
            &post,
            "/v2/repository/models/wine/load",
            Route::RepositoryLoad("wine".to_owned()),
        ),
        (&get, "/v1/models/wine", Route::TensorFlowStatus(wine(None))),
        (
            &get,
            "/v1/models/wine/versions/7/metadata",
            Route::TensorFlowMetadata(wine(Some("7"))),
        ),
        (
            &post,
            "/v1/models/wine:predict",
            Route::TensorFlowPredict(wine(None)),
        ),
        (
            &post,
            "/v1/models/wine%3Apredict",
            Route::TensorFlowPredict(wine(None)),
        ),
        (
            &post,
            "/v1/models/wine/versions/7:predict",
            Route::TensorFlowPredict(wine(Some("7"))),
        ),
        (&post, "/predict", Route::Predict(None)),
        (
            &post,
            "/models/wine/predict",
            Route::Predict(Some("wine".to_owned())),
        ),
        (
            &post,
            "/models/a%2Fb%20%C3%A9/predict",
            Route::Predict(Some("a/b é".to_owned())),
        ),
    ] {
        assert_eq!(Route::of(method, path), Ok(route), "{method} {path}");
    }
    for path in [
        "/",
        "",
        "*",
        "/v3",
        "/v2//health/live",
        "/v2/models",
        "/v2/models/",
        "/v2/models/wine/explain",
        "/v2/models/wine%2Finfer/x",
        "/v2/repository/models/wine",
        "/v1/models/wine/labels",
        "/models/wine",
    ] {
        assert_eq!(
            Route::of(&Method::POST, path),
            Err(RouteError::UnknownPath),
            "{path}"
        );
    }
}

#[test]
fn a_wrong_method_gets_the_allowed_ones() {
    let (gets, posts) = ("GET, HEAD, OPTIONS", "POST, OPTIONS");
    for (method, path, allowed) in [
        (Method::GET, "/predict", posts),
        (Method::HEAD, "/v1/models/wine:predict", posts),
        (Method::POST, "/v2", gets),
        (Method::TRACE, "/v2", gets),
    ] {
        let expected = Err(RouteError::MethodNotAllowed { allowed });
        assert_eq!(Route::of(&method, path), expected, "{method} {path}");
    }
    for (path, allowed) in [("/predict", posts), ("/v2", gets), ("*", ALL_METHODS)] {
        let expected = Ok(Route::Options { allowed });
        assert_eq!(Route::of(&Method::OPTIONS, path), expected, "{path}");
    }
}

#[test]
fn labels_have_paths_only_in_tensorflow_servings_api() {
    let labelled = || ModelSelector {
        label: Some("stable".to_owned()),
        ..target("wine", None)
    };
    let (get, post) = (Method::GET, Method::POST);
    for (method, path, route) in [
        (&post, ":predict", Route::TensorFlowPredict(labelled())),
        (&get, "", Route::TensorFlowStatus(labelled())),
        (&get, "/metadata", Route::TensorFlowMetadata(labelled())),
    ] {
        let path = format!("/v1/models/wine/labels/stable{path}");
        assert_eq!(Route::of(method, &path), Ok(route), "{path}");
        let other = path.replace("/v1/", "/v2/");
        assert_eq!(
            Route::of(method, &other),
            Err(RouteError::UnknownPath),
            "{other}"
        );
    }
}

#[test]
fn known_paths_lists_every_path_its_caller_may_use() {
    let (all, open) = (known_paths(true), known_paths(false));
    for path in PATHS {
        let without_version = path.template.replace("/versions/{version}", "");
        let without_version = without_version.replace("/labels/{label}", "");
        assert!(all.contains(&without_version), "{}", path.template);
        let is_operation = without_version.ends_with("/stats")
            || without_version == "/metrics"
            || without_version == "/lambda/restore"
            || without_version.contains("repository");
        let line = format!("{} {without_version},", path.method);
        assert_eq!(open.contains(&line), !is_operation, "{line} in {open}");
    }
}

#[test]
fn every_spelling_of_an_operators_path_is_the_operators() {
    for (method, path) in [
        (Method::GET, "/v2/models/stats"),
        (Method::HEAD, "/v2/models/stats/"),
        (Method::GET, "/v2/models/%73tats"),
        (Method::GET, "/%76%32/models/wine/st%61ts"),
        (Method::GET, "/v2/models/wine/versions/1/stats"),
        (Method::GET, "/metrics"),
        (Method::HEAD, "/m%65trics/"),
        (Method::POST, "/v2/repository/index"),
        (Method::POST, "/v2/%72epository/models/wine/load"),
        (Method::POST, "/v2/repository/models/wine/unload"),
        (Method::POST, "/lambda/restore"),
    ] {
        assert!(Route::of(&method, path).unwrap().is_operation(), "{path}");
    }
}

proptest! {
    #[test]
    fn any_model_name_is_decoded_from_its_path(name in "\\PC{1,20}") {
        let escaped = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/v2/models/{escaped}/infer");
        let expected = Ok(Route::Infer(target(&name, None)));
        prop_assert_eq!(Route::of(&Method::POST, &path), expected);
    }

    #[test]
    fn any_version_name_is_decoded_from_any_spelling_of_its_path(
        name in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}",
        escapes in proptest::collection::vec(any::<bool>(), 64),
    ) {
        prop_assert!(VersionName::parse(&name).is_ok());
        let written = name.bytes().zip(escapes);
        let written: String = written
            .map(|(byte, escaped)| {
                if escaped {
                    format!("%{byte:02x}")
                } else {
                    char::from(byte).to_string()
                }
            })
            .collect();
        let path = format!("/v2/models/wine/versions/{written}/infer");
        let expected = Ok(Route::Infer(target("wine", Some(&name))));
        prop_assert_eq!(Route::of(&Method::POST, &path), expected);
        let path = format!("/v1/models/wine/labels/{written}:predict");
        let label = Some(name);
        let labelled = ModelSelector { label, ..target("wine", None) };
        let expected = Ok(Route::TensorFlowPredict(labelled));
        prop_assert_eq!(Route::of(&Method::POST, &path), expected);
    }
}

#[test]
fn version_0_means_any_version_in_tensorflow_servings_api() {
    let route = |method: &Method, path: &str| Route::of(method, path).unwrap();
    let (get, post) = (Method::GET, Method::POST);
    let any_version = || target("wine", None);
    assert_eq!(
        route(&post, "/v1/models/wine/versions/0:predict"),
        Route::TensorFlowPredict(any_version())
    );
    assert_eq!(
        route(&get, "/v1/models/wine/versions/0"),
        Route::TensorFlowStatus(any_version())
    );
    assert_eq!(
        route(&get, "/v1/models/wine/versions/0/metadata"),
        Route::TensorFlowMetadata(any_version())
    );
    assert_eq!(
        route(&get, "/v2/models/wine/versions/0"),
        Route::ModelMetadata(target("wine", Some("0")))
    );
}

#[test]
fn unsupported_calls_of_tensorflow_serving_differ_from_unknown_paths() {
    for (path, verb) in [
        ("/v1/models/wine:classify", "classify"),
        ("/v1/models/wine:regress", "regress"),
        ("/v1/models/wine/versions/7:classify", "classify"),
        ("/v1/models/wine/labels/stable:regress", "regress"),
        ("/v1/models/wine%3Aclassify", "classify"),
        ("/v1/models/wine:", ""),
    ] {
        for method in [Method::POST, Method::GET] {
            let verb = verb.to_owned();
            assert_eq!(
                Route::of(&method, path),
                Err(RouteError::UnknownVerb { verb }),
                "{path}"
            );
        }
    }
    for path in [
        "/v1/models",
        "/v1/modelz/wine:classify",
        "/v2/models/wine:classify/x",
    ] {
        assert_eq!(
            Route::of(&Method::POST, path),
            Err(RouteError::UnknownPath),
            "{path}"
        );
    }
}
