//! Preview of the dashboard and the alarms without AWS.
//!
//! The page draws `layer/deploy/dashboard.json` from the lab's `CloudWatch`. It also has the states of the alarms, a
//! timeline of the environments, and the log.
//!
//! The page is drawn on the server and refreshes itself every two seconds. On a narrow screen the widgets are one
//! below the other. One difference from `CloudWatch`: charts have periods of a minute, the resolution of the
//! metrics, instead of five, since a preview lasts minutes. The alarms keep their periods.

mod page;
mod timeline;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::Value;

use crate::cloudwatch::{CloudWatch, Datapoint, Filter};
use crate::lambda::{EnvironmentChange, Function};
use crate::listener::{Body, ConnectionControl, Handler, ListenError, Listener};
use crate::monitoring::{Alarm, AlarmState, Dashboard, Parameters, Size, TimeRange, Widget};

/// Period of the charts, in seconds.
const PERIOD: u64 = 60;
/// Shortest range of the charts, in seconds.
const MIN_RANGE: u64 = 15 * 60;
/// Longest range of the charts, in seconds: the dashboard's own.
const MAX_RANGE: u64 = 3 * 3600;
/// Number of lines of the log on the page.
const LOG_LINES: usize = 200;

/// Names and prices that the generated files leave open.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the function.
    pub function_name: String,
    /// Memory size in MB.
    pub memory_mb: u32,
}

/// Source of the page: a function and its metrics.
pub struct Preview {
    files: Files,
    states: Mutex<HashMap<String, AlarmState>>,
    functions: Vec<Arc<Function>>,
    cloudwatch: Arc<CloudWatch>,
}

/// Generated files, and the values of their placeholders without the model's name.
struct Files {
    dashboard: &'static str,
    alarms: &'static str,
    parameters: Vec<(String, String)>,
}

/// State at one time.
struct Snapshot {
    dashboard: Dashboard,
    data: Vec<Datapoint>,
    range: TimeRange,
    alarms: Vec<(String, AlarmState)>,
    changes: Vec<EnvironmentChange>,
    now: SystemTime,
    log: Vec<String>,
}

impl Preview {
    /// Parses the generated files of `layer/deploy`, which the program contains.
    ///
    /// # Errors
    /// A file that is not valid.
    pub fn new(
        settings: &Settings,
        functions: Vec<Arc<Function>>,
        cloudwatch: Arc<CloudWatch>,
    ) -> Result<Self> {
        let files = Files {
            dashboard: include_str!("../../layer/deploy/dashboard.json"),
            alarms: include_str!("../../layer/deploy/alarms.json"),
            parameters: parameters(
                include_str!("../../layer/deploy/monitoring.template.json"),
                settings,
            )?,
        };
        Ok(Self {
            files,
            states: Mutex::default(),
            functions,
            cloudwatch,
        })
    }

    /// Returns the response to `GET` of a path of the page; `None` for a path of another page. The query `model=NAME`
    /// selects a model, as the dashboard's variable does; otherwise it is the first one that has metrics.
    ///
    /// # Errors
    /// A widget or an alarm that cannot be evaluated.
    pub fn answer(&self, uri: &Uri) -> Result<Option<Response<Full<Bytes>>>> {
        let mut query = uri.query().unwrap_or_default().split('&');
        let model = query.find_map(|pair| pair.strip_prefix("model="));
        let (kind, text) = match uri.path() {
            "/" => ("text/html; charset=utf-8", page::whole()),
            "/dashboard" => (
                "text/html; charset=utf-8",
                page::content(&self.snapshot(model)?)?,
            ),
            "/dashboard.svg" => ("image/svg+xml", page::picture(&self.snapshot(model)?)?),
            _ => return Ok(None),
        };
        let mut response = Response::new(Full::from(text));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        headers.insert(
            header::CACHE_CONTROL,
            header::HeaderValue::from_static("no-store"),
        );
        Ok(Some(response))
    }

    /// Draws the whole dashboard as one picture.
    ///
    /// # Errors
    /// A widget or an alarm that cannot be evaluated.
    pub fn svg(&self) -> Result<String> {
        page::picture(&self.snapshot(None)?)
    }

    /// Serves the page on `port` of 127.0.0.1 until the returned value is dropped; 0 selects a free port.
    ///
    /// # Errors
    /// [`ListenError`] if the port is not available.
    pub async fn serve(self, port: u16) -> Result<PreviewServer, ListenError> {
        let listener = Listener::start(port, Arc::new(self)).await?;
        Ok(PreviewServer { listener })
    }

    fn snapshot(&self, model: Option<&str>) -> Result<Snapshot> {
        let mut data = self.cloudwatch.datapoints(&Filter::all());
        data.extend(
            self.functions
                .iter()
                .flat_map(|function| function.metrics()),
        );
        let now = SystemTime::now();
        // Simulated time can be ahead of the machine's clock.
        let latest = data.iter().map(|one| one.timestamp).max();
        let end = latest.map_or(now, |latest| latest.max(now));
        let first = data.iter().find_map(|one| one.dimensions.get("ModelName"));
        let model = model
            .or(first.map(String::as_str))
            .unwrap_or("model")
            .to_owned();
        let mut parameters = self.files.parameters.clone();
        parameters.push(("ModelName".to_owned(), model));
        let log = self
            .functions
            .iter()
            .flat_map(|function| function.log().lines());
        let mut log: Vec<String> = log.collect();
        log.drain(..log.len().saturating_sub(LOG_LINES));
        Ok(Snapshot {
            dashboard: Dashboard::read(self.files.dashboard, &parameters)?,
            alarms: self.alarms(&parameters, &data, end)?,
            range: range(&data, end),
            data,
            changes: self.changes(),
            now,
            log,
        })
    }

    /// Evaluates the alarms, and remembers their states.
    fn alarms(
        &self,
        parameters: &Parameters,
        data: &[Datapoint],
        now: SystemTime,
    ) -> Result<Vec<(String, AlarmState)>> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let mut evaluated = Vec::new();
        for alarm in Alarm::read(self.files.alarms, parameters)? {
            let previous = states
                .get(&alarm.alarm_name)
                .copied()
                .unwrap_or(AlarmState::Ok);
            let state = alarm.evaluate(data, now, previous)?;
            states.insert(alarm.alarm_name.clone(), state);
            evaluated.push((alarm.alarm_name, state));
        }
        Ok(evaluated)
    }

    /// Changes of the environments; those of later functions are numbered on.
    fn changes(&self) -> Vec<EnvironmentChange> {
        let mut changes = Vec::new();
        let mut first = 0;
        for function in &self.functions {
            let own = function.history().into_iter().map(|mut change| {
                change.environment += first;
                change
            });
            changes.extend(own);
            let last = changes.iter().map(|change| change.environment).max();
            first = last.map_or(first, |last| last + 1);
        }
        changes
    }
}

impl Snapshot {
    fn draw(&self, widget: &Widget, size: Size) -> Result<String> {
        let evaluated = widget.evaluate(&self.data, self.range)?;
        Ok(widget.svg(&evaluated, self.range, &self.alarms, size))
    }
}

/// Values of the placeholders: the defaults of the template's parameters, and the settings.
fn parameters(template: &str, settings: &Settings) -> Result<Vec<(String, String)>> {
    let template: Value = serde_json::from_str(template).context("cannot read the template")?;
    let declared = template["Parameters"].as_object().into_iter().flatten();
    let mut parameters: Vec<(String, String)> = declared
        .filter_map(|(name, one)| Some((name.clone(), one["Default"].as_str()?.to_owned())))
        .filter(|(name, _)| name != "MemorySize")
        .collect();
    for (name, value) in [
        ("FunctionName", settings.function_name.as_str()),
        ("MemorySize", &settings.memory_mb.to_string()),
        ("Region", crate::credentials::REGION),
        ("AccountId", "012345678912"),
        ("Partition", "aws"),
    ] {
        parameters.push((name.to_owned(), value.to_owned()));
    }
    Ok(parameters)
}

/// From the first value to the end, within the shortest and the longest range.
fn range(data: &[Datapoint], end: SystemTime) -> TimeRange {
    let seconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    };
    let end = (seconds(end) / PERIOD + 1) * PERIOD;
    let first = data.iter().map(|one| seconds(one.timestamp)).min();
    let start = first.unwrap_or(end).clamp(end - MAX_RANGE, end - MIN_RANGE);
    TimeRange {
        start: start / PERIOD * PERIOD,
        end,
        period: PERIOD,
    }
}

/// A running preview. It stops when dropped.
pub struct PreviewServer {
    listener: Listener<Preview>,
}

impl PreviewServer {
    /// Address of the page.
    #[must_use]
    pub fn url(&self) -> String {
        self.listener.url()
    }
}

impl Handler for Preview {
    async fn handle(
        &self,
        request: http::Request<Incoming>,
        _line: Arc<ConnectionControl>,
    ) -> Response<Body> {
        let answer = match self.answer(request.uri()) {
            Ok(Some(answer)) => answer,
            Ok(None) => plain(StatusCode::NOT_FOUND, "no such page; the dashboard is at /"),
            Err(problem) => plain(StatusCode::INTERNAL_SERVER_ERROR, &format!("{problem:#}")),
        };
        answer.map(|body| body.map_err(|never| match never {}).boxed_unsync())
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    response
}

/// Duration in the largest fitting unit.
fn for_people(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}
