//! Routes of the local API: the table of paths, and the route of a request.

use hyper::Method;
use percent_encoding::percent_decode_str;

/// Call of the local API. Names are decoded from the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Server,
    Live,
    Ready,
    OpenApi,
    /// Metrics in Prometheus' text format.
    Metrics,
    ModelMetadata(ModelSelector),
    /// Triton's configuration extension.
    ModelConfiguration(ModelSelector),
    ModelReady(ModelSelector),
    Infer(ModelSelector),
    /// Triton's statistics extension, for one model or for all models.
    Statistics(Option<ModelSelector>),
    /// Triton's repository extension.
    RepositoryIndex,
    RepositoryLoad(String),
    RepositoryUnload(String),
    /// TensorFlow Serving's REST API.
    TensorFlowStatus(ModelSelector),
    TensorFlowMetadata(ModelSelector),
    TensorFlowPredict(ModelSelector),
    /// The sidecar's own format, for a model by name or for the only model.
    Predict(Option<String>),
    /// Report of an after-restore hook.
    Restore,
    /// Request for the methods of the path.
    Options {
        allowed: &'static str,
    },
}

/// Model, and optionally the version, that a path names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModelSelector {
    pub(super) model: String,
    pub(super) version: Option<String>,
    /// Label that the version must have, of TensorFlow Serving's REST API.
    pub(super) label: Option<String>,
}

impl ModelSelector {
    /// Removes the version 0, by which clients such as OpenVINO's `ovmsclient` mean any version.
    fn without_version_0(mut self) -> Self {
        self.version.take_if(|version| version == "0");
        self
    }
}

/// Error of a request that has no route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RouteError {
    UnknownPath,
    /// Call of TensorFlow Serving's REST API that is not supported.
    UnknownVerb {
        verb: String,
    },
    MethodNotAllowed {
        allowed: &'static str,
    },
}

/// Path with its parameters in braces, its method, and its route.
pub(super) struct PathTemplate {
    pub(super) method: Method,
    pub(super) template: &'static str,
    route: fn(ModelSelector) -> Route,
}

const fn get(template: &'static str, route: fn(ModelSelector) -> Route) -> PathTemplate {
    PathTemplate {
        method: Method::GET,
        template,
        route,
    }
}

const fn post(template: &'static str, route: fn(ModelSelector) -> Route) -> PathTemplate {
    PathTemplate {
        method: Method::POST,
        template,
        route,
    }
}

/// All paths. The first match wins: inference comes first, as the most frequent call. As with Triton, the metadata of a
/// model named `stats` is only available under its version.
pub(super) static PATHS: &[PathTemplate] = &[
    post("/predict", |_| Route::Predict(None)),
    post("/models/{model}/predict", |target| {
        Route::Predict(Some(target.model))
    }),
    post("/v2/models/{model}/infer", Route::Infer),
    get("/v2", |_| Route::Server),
    get("/v2/health/live", |_| Route::Live),
    get("/v2/health/ready", |_| Route::Ready),
    get("/v2/models/stats", |_| Route::Statistics(None)),
    get("/v2/models/{model}", Route::ModelMetadata),
    get("/v2/models/{model}/config", Route::ModelConfiguration),
    get("/v2/models/{model}/ready", Route::ModelReady),
    get("/v2/models/{model}/stats", |target| {
        Route::Statistics(Some(target))
    }),
    get(
        "/v2/models/{model}/versions/{version}",
        Route::ModelMetadata,
    ),
    get(
        "/v2/models/{model}/versions/{version}/config",
        Route::ModelConfiguration,
    ),
    get(
        "/v2/models/{model}/versions/{version}/ready",
        Route::ModelReady,
    ),
    post("/v2/models/{model}/versions/{version}/infer", Route::Infer),
    get("/v2/models/{model}/versions/{version}/stats", |target| {
        Route::Statistics(Some(target))
    }),
    post("/v2/repository/index", |_| Route::RepositoryIndex),
    post("/v2/repository/models/{model}/load", |target| {
        Route::RepositoryLoad(target.model)
    }),
    post("/v2/repository/models/{model}/unload", |target| {
        Route::RepositoryUnload(target.model)
    }),
    post("/v1/models/{model}:predict", Route::TensorFlowPredict),
    post("/v1/models/{model}/versions/{version}:predict", |target| {
        Route::TensorFlowPredict(target.without_version_0())
    }),
    post(
        "/v1/models/{model}/labels/{label}:predict",
        Route::TensorFlowPredict,
    ),
    get("/v1/models/{model}", Route::TensorFlowStatus),
    get("/v1/models/{model}/versions/{version}", |target| {
        Route::TensorFlowStatus(target.without_version_0())
    }),
    get("/v1/models/{model}/labels/{label}", Route::TensorFlowStatus),
    get("/v1/models/{model}/metadata", Route::TensorFlowMetadata),
    get("/v1/models/{model}/versions/{version}/metadata", |target| {
        Route::TensorFlowMetadata(target.without_version_0())
    }),
    get(
        "/v1/models/{model}/labels/{label}/metadata",
        Route::TensorFlowMetadata,
    ),
    get("/openapi.json", |_| Route::OpenApi),
    get("/metrics", |_| Route::Metrics),
    post("/lambda/restore", |_| Route::Restore),
];

/// Maximum number of segments of a path in [`PATHS`], and the empty one before the first slash.
const MAX_SEGMENTS: usize = 7;

/// Methods of the server as a whole, for `OPTIONS *`.
const ALL_METHODS: &str = "GET, HEAD, POST, OPTIONS";

impl Route {
    /// Returns `true` for the operator's calls, which inspect or change the server and which no inference needs.
    pub(super) fn is_operation(&self) -> bool {
        match self {
            Route::Statistics(_)
            | Route::Metrics
            | Route::RepositoryIndex
            | Route::RepositoryLoad(_)
            | Route::RepositoryUnload(_)
            | Route::Restore => true,
            Route::Server
            | Route::Live
            | Route::Ready
            | Route::OpenApi
            | Route::ModelMetadata(_)
            | Route::ModelConfiguration(_)
            | Route::ModelReady(_)
            | Route::Infer(_)
            | Route::TensorFlowStatus(_)
            | Route::TensorFlowMetadata(_)
            | Route::TensorFlowPredict(_)
            | Route::Predict(_)
            | Route::Options { .. } => false,
        }
    }

    /// Returns the route of this method and path. Segments are decoded one by one, so that an escaped slash does not
    /// separate segments. A trailing slash is ignored.
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, RouteError> {
        if method == Method::OPTIONS && path == "*" {
            return Ok(Route::Options {
                allowed: ALL_METHODS,
            });
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = Vec::with_capacity(MAX_SEGMENTS);
        let decoded = |segment| percent_decode_str(segment).decode_utf8_lossy();
        segments.extend(path.split('/').map(decoded));
        if let Some(verb) = unsupported_verb(&segments) {
            return Err(RouteError::UnknownVerb {
                verb: verb.to_owned(),
            });
        }
        let (path, target) = PATHS
            .iter()
            .find_map(|path| Some((path, path.matches(&segments)?)))
            .ok_or(RouteError::UnknownPath)?;
        let is_get = path.method == Method::GET;
        let allowed = if is_get {
            "GET, HEAD, OPTIONS"
        } else {
            "POST, OPTIONS"
        };
        match method {
            method if *method == path.method => Ok((path.route)(target)),
            &Method::HEAD if is_get => Ok((path.route)(target)),
            &Method::OPTIONS => Ok(Route::Options { allowed }),
            _ => Err(RouteError::MethodNotAllowed { allowed }),
        }
    }
}

/// Returns the verb of a path of TensorFlow Serving's REST API, such as `classify`, if it is not supported.
fn unsupported_verb(segments: &[impl AsRef<str>]) -> Option<&str> {
    let mut segments = segments.iter().map(AsRef::as_ref);
    let is_tensorflow = segments.by_ref().take(3).eq(["", "v1", "models"]);
    let last = segments.last().filter(|_| is_tensorflow)?;
    let (_, verb) = last.split_once(':')?;
    (verb != "predict").then_some(verb)
}

impl PathTemplate {
    /// Returns the parameters of a path of these segments, if the path matches the template.
    fn matches(&self, segments: &[impl AsRef<str>]) -> Option<ModelSelector> {
        let mut target = ModelSelector::default();
        let mut given = segments.iter().map(AsRef::as_ref);
        for wanted in self.template.split('/') {
            let segment: &str = given.next()?;
            match wanted.strip_prefix('{').and_then(|it| it.split_once('}')) {
                None if wanted == segment => {}
                None => return None,
                Some((name, suffix)) => {
                    let value = segment.strip_suffix(suffix)?;
                    if value.is_empty() {
                        return None;
                    }
                    match name {
                        "version" => target.version = Some(value.to_owned()),
                        "label" => target.label = Some(value.to_owned()),
                        _ => value.clone_into(&mut target.model),
                    }
                }
            }
        }
        given.next().is_none().then_some(target)
    }
}

/// Returns all paths, for the error of an unknown path. Paths of a version or label are described once; the operator's
/// are listed on demand.
pub(super) fn known_paths(with_operations: bool) -> String {
    let mut text = String::new();
    for path in PATHS {
        let is_operation = (path.route)(ModelSelector::default()).is_operation();
        let is_variant = ["{version}", "{label}"]
            .iter()
            .any(|part| path.template.contains(part));
        if !is_variant && (with_operations || !is_operation) {
            text.push_str(path.method.as_str());
            text.push(' ');
            text.push_str(path.template);
            text.push_str(", ");
        }
    }
    text + "and below /v1 and /v2 with /versions/{version} after {model}, below /v1 also with /labels/{label}"
}

#[cfg(test)]
mod tests;
