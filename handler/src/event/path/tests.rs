use proptest::prelude::*;

use super::*;

/// The sidecar's path within `path`, with `resource` matched by these parameters.
fn mapped(path: &str, resource: &str, parameters: &[(&str, &str)]) -> String {
    let parameters = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
    let mapping = Mapping {
        resource: Some(resource),
        parameters: parameters.collect(),
        ..Mapping::default()
    };
    mapping.local(path, &BasePath::default()).to_owned()
}

#[test]
fn the_part_that_the_resource_matched_is_the_sidecars_path() {
    let proxy = |path: &str, value: &str| mapped(path, "/{proxy+}", &[("proxy", value)]);
    assert_eq!(proxy("/scoring/predict", "predict"), "/predict");
    assert_eq!(
        proxy("/a/b/v2/models/m/infer", "v2/models/m/infer"),
        "/v2/models/m/infer"
    );
    assert_eq!(proxy("/predict", "predict"), "/predict");
    assert_eq!(proxy("/scoring/predict/", "predict"), "/predict/");
    assert_eq!(
        proxy("/path/to/resource", "/path/to/resource"),
        "/path/to/resource"
    );
    assert_eq!(mapped("/scoring/predict", "/predict", &[]), "/predict");
    assert_eq!(
        mapped(
            "/scoring/models/a/predict",
            "/models/{name}/predict",
            &[("name", "a")]
        ),
        "/models/a/predict"
    );
}

#[test]
fn escapes_are_compared_decoded_and_stay_as_they_were() {
    let proxy = |path: &str, value: &str| mapped(path, "/{proxy+}", &[("proxy", value)]);
    assert_eq!(
        proxy("/x/models/a%20b/predict", "models/a b/predict"),
        "/models/a%20b/predict"
    );
    assert_eq!(
        proxy("/x/models/a b/predict", "models/a%20b/predict"),
        "/models/a b/predict"
    );
    assert_eq!(
        proxy("/žluť/models/ž/predict", "models/%C5%BE/predict"),
        "/models/ž/predict"
    );
    assert_eq!(proxy("/x%2Fpredict", "predict"), "/x%2Fpredict");
}

#[test]
fn a_resource_that_does_not_fit_the_path_changes_nothing() {
    assert_eq!(
        mapped("/scoring/predict", "/{proxy+}", &[]),
        "/scoring/predict"
    );
    assert_eq!(
        mapped("/scoring/predict", "/{proxy+}", &[("proxy", "other")]),
        "/scoring/predict"
    );
    assert_eq!(
        mapped("/scoring/predict", "$default", &[]),
        "/scoring/predict"
    );
    assert_eq!(
        mapped("/scoringpredict", "/{proxy+}", &[("proxy", "predict")]),
        "/scoringpredict"
    );
    assert_eq!(mapped("/predict", "/", &[]), "/predict");
    assert_eq!(
        mapped("/predict", "/{proxy+", &[("proxy", "x")]),
        "/predict"
    );
}

/// With the stage in front there is no custom domain, and so no base path.
#[test]
fn nothing_else_is_removed_after_a_stage() {
    let mapping = Mapping {
        resource: Some("/{proxy+}"),
        parameters: [("proxy".to_owned(), Some("predict".to_owned()))].into(),
        stage: Some("dev"),
        ..Mapping::default()
    };
    let local = |path| mapping.local(path, &BasePath::default()).to_owned();
    assert_eq!(local("/dev/models/a/predict"), "/models/a/predict");
    assert_eq!(local("/scoring/predict"), "/predict");
}

#[test]
fn the_root_of_a_mapped_api_is_the_root() {
    let mapping = Mapping {
        is_mapped_root: true,
        ..Mapping::default()
    };
    assert_eq!(mapping.local("/scoring", &BasePath::default()), "/");
}

#[test]
fn only_the_stage_is_removed() {
    let local = |path: &'static str, stage| {
        let mapping = Mapping {
            stage,
            ..Mapping::default()
        };
        mapping.local(path, &BasePath::default())
    };
    assert_eq!(local("/prod/predict", Some("prod")), "/predict");
    assert_eq!(local("/prod", Some("prod")), "");
    assert_eq!(local("/prod/", Some("prod")), "/");
    assert_eq!(local("/production/x", Some("prod")), "/production/x");
    assert_eq!(local("/predict", Some("$default")), "/predict");
    assert_eq!(local("/predict", None), "/predict");
    assert_eq!(local("/predict", Some("")), "/predict");
}

#[test]
fn only_the_base_path_is_removed() {
    for text in ["/api/ml", "api/ml/", " /api/ml/ "] {
        let local = |path| {
            Mapping::default()
                .local(path, &BasePath::new(text))
                .to_owned()
        };
        assert_eq!(local("/api/ml/predict"), "/predict");
        assert_eq!(local("/api%2Fml/predict"), "/predict");
        assert_eq!(local("/api/ml"), "");
        assert_eq!(local("/api/mlops/predict"), "/api/mlops/predict");
        assert_eq!(local("/v2/api/ml/predict"), "/v2/api/ml/predict");
        assert_eq!(local("/api"), "/api");
    }
    for text in ["", "/", "//"] {
        assert_eq!(
            Mapping::default().local("/predict", &BasePath::new(text)),
            "/predict"
        );
    }
}

#[test]
fn the_base_path_is_removed_after_the_stage_and_within_the_resource() {
    let mapping = Mapping {
        resource: Some("/scoring/{proxy+}"),
        parameters: [("proxy".to_owned(), Some("predict".to_owned()))].into(),
        ..Mapping::default()
    };
    let base_path = BasePath::new("scoring");
    assert_eq!(
        mapping.local("/domain/scoring/predict", &base_path),
        "/predict"
    );
    let mapping = Mapping {
        stage: Some("prod"),
        ..Mapping::default()
    };
    assert_eq!(
        mapping.local("/prod/scoring/predict", &base_path),
        "/predict"
    );
}

proptest! {
    /// The path that the resource matched is unchanged after removing any prefix.
    #[test]
    fn any_base_path_is_removed(base in "(/[^/%{}]{1,8}){0,3}", rest in "[^/%{}]{1,8}(/[^/%{}]{1,8}){0,3}") {
        let path = format!("{base}/{rest}");
        prop_assert_eq!(mapped(&path, "/{proxy+}", &[("proxy", &rest)]), format!("/{rest}"));
    }

    /// The result is a suffix of the path, whatever the other fields are.
    #[test]
    fn the_result_is_a_suffix_of_the_path(path in ".*", resource in ".*", value in ".*", base in ".*") {
        let mapping = Mapping {
            resource: Some(&resource),
            parameters: [("proxy".to_owned(), Some(value))].into(),
            ..Mapping::default()
        };
        prop_assert!(path.ends_with(mapping.local(&path, &BasePath::new(&base))));
    }
}
