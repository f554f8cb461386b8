//! Which call a request makes.

use hyper::Method;
use percent_encoding::percent_decode_str;

/// A call of the local API. Names are as they stand in the path, without escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Server,
    Live,
    Ready,
    OpenApi,
    ModelMetadata(Target),
    /// Triton's configuration extension.
    ModelConfiguration(Target),
    ModelReady(Target),
    Infer(Target),
    /// Triton's statistics extension, for one model or for all.
    Statistics(Option<Target>),
    /// Triton's repository extension: every model and its state; a check now; what is not offered.
    RepositoryIndex,
    RepositoryLoad(String),
    RepositoryUnload(String),
    /// TensorFlow Serving's form.
    TensorFlowStatus(Target),
    TensorFlowMetadata(Target),
    TensorFlowPredict(Target),
    /// The plain form, for a model by name or for the only one.
    Predict(Option<String>),
    /// Which methods the path takes.
    Options {
        allowed: &'static str,
    },
}

/// A model, and a version of it where one is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) model: String,
    pub(super) version: Option<String>,
    /// In TensorFlow Serving's form, a label that the version must have.
    pub(super) label: Option<String>,
}

impl Target {
    /// Where a client of TensorFlow Serving is given no version it may ask for 0, as OpenVINO's `ovmsclient` does.
    fn newest_for_0(mut self) -> Self {
        self.version.take_if(|version| version == "0");
        self
    }
}

/// Why a request is no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    Unknown,
    /// A call of TensorFlow Serving's form that is not offered.
    Verb {
        verb: String,
    },
    Method {
        allowed: &'static str,
    },
}

/// A path with its parameters in braces, the one method that it takes, and the call that it is.
pub(super) struct Path {
    pub(super) method: Method,
    pub(super) template: &'static str,
    call: fn(Target) -> Route,
}

const fn get(template: &'static str, call: fn(Target) -> Route) -> Path {
    Path {
        method: Method::GET,
        template,
        call,
    }
}

const fn post(template: &'static str, call: fn(Target) -> Route) -> Path {
    Path {
        method: Method::POST,
        template,
        call,
    }
}

/// Every path, those of inference first, which are asked most. The first that fits is meant: a model of the name `stats`
/// has its metadata under its version alone, as with Triton.
pub(super) static PATHS: &[Path] = &[
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
        Route::TensorFlowPredict(target.newest_for_0())
    }),
    post(
        "/v1/models/{model}/labels/{label}:predict",
        Route::TensorFlowPredict,
    ),
    get("/v1/models/{model}", Route::TensorFlowStatus),
    get("/v1/models/{model}/versions/{version}", |target| {
        Route::TensorFlowStatus(target.newest_for_0())
    }),
    get("/v1/models/{model}/labels/{label}", Route::TensorFlowStatus),
    get("/v1/models/{model}/metadata", Route::TensorFlowMetadata),
    get("/v1/models/{model}/versions/{version}/metadata", |target| {
        Route::TensorFlowMetadata(target.newest_for_0())
    }),
    get(
        "/v1/models/{model}/labels/{label}/metadata",
        Route::TensorFlowMetadata,
    ),
    get("/openapi.json", |_| Route::OpenApi),
];

/// What `OPTIONS *` says of the server as a whole.
const ALL_METHODS: &str = "GET, HEAD, POST, OPTIONS";

impl Route {
    /// Returns whether the call is the operator's: it tells of the server or changes it, and no inference needs it.
    pub(super) fn is_operation(&self) -> bool {
        match self {
            Route::Statistics(_)
            | Route::RepositoryIndex
            | Route::RepositoryLoad(_)
            | Route::RepositoryUnload(_) => true,
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

    /// The call of this method and this path, whose segments are decoded one by one: an escaped slash separates
    /// nothing. A slash at the end changes nothing.
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, NoRoute> {
        if method == Method::OPTIONS && path == "*" {
            return Ok(Route::Options {
                allowed: ALL_METHODS,
            });
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments: Vec<_> = path
            .split('/')
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy())
            .collect();
        if let Some(verb) = other_verb(&segments) {
            return Err(NoRoute::Verb {
                verb: verb.to_owned(),
            });
        }
        let (path, target) = PATHS
            .iter()
            .find_map(|path| Some((path, path.target(&segments)?)))
            .ok_or(NoRoute::Unknown)?;
        let is_get = path.method == Method::GET;
        let allowed = if is_get {
            "GET, HEAD, OPTIONS"
        } else {
            "POST, OPTIONS"
        };
        match method {
            method if *method == path.method => Ok((path.call)(target)),
            &Method::HEAD if is_get => Ok((path.call)(target)),
            &Method::OPTIONS => Ok(Route::Options { allowed }),
            _ => Err(NoRoute::Method { allowed }),
        }
    }
}

/// The verb of a path of TensorFlow Serving's form, such as `classify`, other than the one that is offered.
fn other_verb(segments: &[impl AsRef<str>]) -> Option<&str> {
    let mut segments = segments.iter().map(AsRef::as_ref);
    let is_form = segments.by_ref().take(3).eq(["", "v1", "models"]);
    let last = segments.last().filter(|_| is_form)?;
    let (_, verb) = last.split_once(':')?;
    (verb != "predict").then_some(verb)
}

impl Path {
    /// What the parameters are in a path of these segments, if it is one of this template.
    fn target(&self, segments: &[impl AsRef<str>]) -> Option<Target> {
        let mut target = Target::default();
        let mut given = segments.iter().map(AsRef::as_ref);
        for wanted in self.template.split('/') {
            let segment: &str = given.next()?;
            match wanted.strip_prefix('{').and_then(|it| it.split_once('}')) {
                None if wanted == segment => {}
                None => return None,
                Some((name, behind)) => {
                    let value = segment.strip_suffix(behind)?;
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

/// All paths, for the answer to a request that takes another; those of one version or label are named once, and the
/// operator's only on demand.
pub(super) fn all(with_operations: bool) -> String {
    let mut text = String::new();
    for path in PATHS {
        let is_operation = (path.call)(Target::default()).is_operation();
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
    text + "and for one version of a model /versions/{version} behind {model}, below /v1 and /v2, or /labels/{label}, below \
            /v1"
}

#[cfg(test)]
mod tests;
