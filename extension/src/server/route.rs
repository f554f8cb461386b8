//! Which call a request makes.

use hyper::Method;

/// A call of the local API. Names are as they stand in the path, without escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Server,
    Live,
    Ready,
    ModelMetadata(Target),
    ModelReady(Target),
    Infer(Target),
    /// Triton's repository extension: every model and its state; a check now; what is not offered.
    RepositoryIndex,
    RepositoryLoad(String),
    RepositoryUnload(String),
    /// The plain form, for a model by name or for the only one.
    Predict(Option<String>),
}

/// A model, and a version of it where one is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) model: String,
    pub(super) version: Option<String>,
}

/// Why a request is no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    Unknown,
    Method { allowed: Method },
}

/// All paths, for the answer to a request that takes another.
pub(super) const PATHS: &str = "GET /v2, GET /v2/health/live, GET /v2/health/ready, \
     GET /v2/models/{model}[/versions/{version}], GET /v2/models/{model}[/versions/{version}]/ready, \
     POST /v2/models/{model}[/versions/{version}]/infer, POST /v2/repository/index, \
     POST /v2/repository/models/{model}/load, POST /predict, POST /models/{model}/predict";

impl Route {
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, NoRoute> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (allowed, route) = match parts.as_slice() {
            ["v2"] => (Method::GET, Route::Server),
            ["v2", "health", "live"] => (Method::GET, Route::Live),
            ["v2", "health", "ready"] => (Method::GET, Route::Ready),
            ["v2", "models", model, rest @ ..] => match rest {
                [] => (Method::GET, Route::ModelMetadata(target(model, None))),
                ["ready"] => (Method::GET, Route::ModelReady(target(model, None))),
                ["infer"] => (Method::POST, Route::Infer(target(model, None))),
                ["versions", version] => (
                    Method::GET,
                    Route::ModelMetadata(target(model, Some(version))),
                ),
                ["versions", version, "ready"] => {
                    (Method::GET, Route::ModelReady(target(model, Some(version))))
                }
                ["versions", version, "infer"] => {
                    (Method::POST, Route::Infer(target(model, Some(version))))
                }
                _ => return Err(NoRoute::Unknown),
            },
            ["v2", "repository", rest @ ..] => match rest {
                ["index"] => (Method::POST, Route::RepositoryIndex),
                ["models", model, "load"] => {
                    (Method::POST, Route::RepositoryLoad((*model).to_owned()))
                }
                ["models", model, "unload"] => {
                    (Method::POST, Route::RepositoryUnload((*model).to_owned()))
                }
                _ => return Err(NoRoute::Unknown),
            },
            ["predict"] => (Method::POST, Route::Predict(None)),
            ["models", model, "predict"] => {
                (Method::POST, Route::Predict(Some((*model).to_owned())))
            }
            _ => return Err(NoRoute::Unknown),
        };
        if *method == allowed || (allowed == Method::GET && *method == Method::HEAD) {
            Ok(route)
        } else {
            Err(NoRoute::Method { allowed })
        }
    }
}

fn target(model: &str, version: Option<&str>) -> Target {
    Target {
        model: model.to_owned(),
        version: version.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        let wine = |version: Option<&str>| target("wine", version);
        for (method, path, route) in [
            (Method::GET, "/v2", Route::Server),
            (Method::GET, "/v2/", Route::Server),
            (Method::HEAD, "/v2/health/live", Route::Live),
            (
                Method::GET,
                "/v2/models/wine",
                Route::ModelMetadata(wine(None)),
            ),
            (
                Method::GET,
                "/v2/models/wine/versions/1/ready",
                Route::ModelReady(wine(Some("1"))),
            ),
            (
                Method::POST,
                "/v2/models/wine/infer",
                Route::Infer(wine(None)),
            ),
            (Method::POST, "/v2/repository/index", Route::RepositoryIndex),
            (
                Method::POST,
                "/v2/repository/models/wine/load",
                Route::RepositoryLoad("wine".to_owned()),
            ),
            (Method::POST, "/predict", Route::Predict(None)),
            (
                Method::POST,
                "/models/wine/predict",
                Route::Predict(Some("wine".to_owned())),
            ),
        ] {
            assert_eq!(Route::of(&method, path), Ok(route), "{method} {path}");
        }
        assert_eq!(
            Route::of(&Method::GET, "/predict"),
            Err(NoRoute::Method {
                allowed: Method::POST
            })
        );
        assert_eq!(
            Route::of(&Method::POST, "/v2"),
            Err(NoRoute::Method {
                allowed: Method::GET
            })
        );
        for path in [
            "/",
            "",
            "/v3",
            "/v2/models",
            "/v2/models/wine/explain",
            "/v2/repository/models/wine",
            "/models/wine",
        ] {
            assert_eq!(
                Route::of(&Method::POST, path),
                Err(NoRoute::Unknown),
                "{path}"
            );
        }
    }
}
