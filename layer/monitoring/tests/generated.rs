//! Files of `layer/deploy`: they are what the program writes, and CloudWatch accepts their structure.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use boon::{Compiler, Schemas};
use model_sidecar::metrics::defs::Kind;
use monitoring::{alarms, lambda, parameters, series};
use serde_json::{Value, json};

/// Maximum size of a template that is sent directly. Source: `CloudFormation` user guide, "quotas".
const MAX_TEMPLATE: usize = 51_200;
/// Columns of a dashboard.
const COLUMNS: u64 = 24;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn json_file(name: &str) -> Value {
    let text = std::fs::read_to_string(root().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The first problem of a dashboard body, `None` if it conforms to the schema.
fn problem(body: &Value) -> Option<String> {
    let mut compiler = Compiler::new();
    let schema = json_file("layer/monitoring/dashboard.schema.json");
    compiler.add_resource("dashboard.json", schema).unwrap();
    let mut schemas = Schemas::new();
    let index = compiler.compile("dashboard.json", &mut schemas).unwrap();
    let checked = schemas.validate(body, index);
    checked.err().map(|error| error.to_string())
}

fn widgets(body: &Value) -> &[Value] {
    body["widgets"].as_array().unwrap()
}

/// Entries of the arrays `metrics` of all widgets.
fn entries(body: &Value) -> Vec<&[Value]> {
    widgets(body)
        .iter()
        .filter_map(|widget| widget["properties"]["metrics"].as_array())
        .flatten()
        .map(|entry| entry.as_array().unwrap().as_slice())
        .collect()
}

#[test]
fn the_files_are_generated() {
    for (name, text) in monitoring::files() {
        let path = root().join("layer/deploy").join(name);
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "layer/deploy/{name} is not up to date: run `make monitoring`"
        );
    }
}

#[test]
fn the_body_has_cloudwatchs_structure() {
    let body = json_file("layer/deploy/dashboard.json");
    assert_eq!(problem(&body), None);
    assert!(
        entries(&body).len() <= 2_500,
        "CloudWatch's maximum of metrics on a dashboard"
    );
}

#[test]
fn the_schema_rejects_what_cloudwatch_rejects() {
    let good = json_file("layer/deploy/dashboard.json");
    let chart = widgets(&good)
        .iter()
        .position(|widget| widget["type"] == "metric")
        .unwrap();
    for (pointer, wrong) in [
        ("/widgets", json!({})),
        ("/periodOverride", json!("sometimes")),
        ("/variables/0/type", json!("regex")),
        ("/variables/0/type", json!("property")),
        ("/variables/0/inputType", json!("list")),
        ("/widgets/0/type", json!("markdown")),
        ("/widgets/0/width", json!(25)),
        ("/widgets/0/properties/markdown", json!("")),
        ("/widgets/1/properties/alarms/0", json!("error-rate")),
        ("/widgets/C/properties/region", json!(null)),
        ("/widgets/C/properties/view", json!("line")),
        ("/widgets/C/properties/period", json!(45)),
        ("/widgets/C/properties/metrics", json!([])),
        ("/widgets/C/properties/metrics/0", json!(["AWS/Lambda"])),
        (
            "/widgets/C/properties/metrics/0",
            json!([{"label": "no expression"}]),
        ),
        ("/widgets/C/properties/metrics/0/6/stat", json!("Mean")),
        (
            "/widgets/C/properties/metrics/0/6",
            json!({"colour": "#000000"}),
        ),
    ] {
        let pointer = pointer.replace('C', &chart.to_string());
        let mut bad = good.clone();
        *bad.pointer_mut(&pointer)
            .unwrap_or_else(|| panic!("{pointer}")) = wrong.clone();
        assert!(problem(&bad).is_some(), "{pointer}: {wrong} is accepted");
    }
}

#[test]
fn widgets_fill_the_grid_without_overlaps() {
    let body = json_file("layer/deploy/dashboard.json");
    let number = |widget: &Value, name: &str| widget[name].as_u64().unwrap();
    let mut taken = BTreeSet::new();
    for widget in widgets(&body) {
        let [x, y, width, height] = ["x", "y", "width", "height"].map(|name| number(widget, name));
        assert!(x + width <= COLUMNS, "{widget}");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{cell:?} is taken twice: {widget}");
        }
    }
    let rows = taken.iter().map(|(_, y)| y).max().unwrap() + 1;
    assert_eq!(
        taken.len(),
        usize::try_from(rows * COLUMNS).unwrap(),
        "gaps in the grid"
    );
}

/// Asserts that a metric exists with these dimensions and this statistic.
fn assert_metric(namespace: &str, name: &str, dimensions: &[&str], statistic: &str) {
    if namespace == lambda::NAMESPACE {
        assert!(lambda::ALL.contains(&name), "{name} is no metric of Lambda");
        assert_eq!(dimensions.first(), Some(&"FunctionName"), "{name}");
        return;
    }
    assert_eq!(namespace, series::NAMESPACE, "{name}");
    let metric = model_sidecar::metrics::defs::find(name)
        .unwrap_or_else(|| panic!("{name} is not in the table of metrics"));
    assert_eq!(dimensions, metric.dimensions(), "{name}");
    let known = metric.statistics();
    // A distribution has every percentile, and the ends.
    let of_distribution = known.contains(&"p99")
        && (statistic.starts_with('p') || ["Minimum", "Maximum"].contains(&statistic));
    let of_category = metric.kind == Kind::Category && statistic.starts_with("PR(");
    assert!(
        of_distribution || of_category || known.contains(&statistic),
        "{name} has no {statistic}: {known:?}"
    );
}

#[test]
fn each_series_names_a_metric_its_dimensions_and_a_statistic() {
    let body = json_file("layer/deploy/dashboard.json");
    let mut shown = BTreeSet::new();
    for entry in entries(&body) {
        let (options, path) = entry.split_last().unwrap();
        let path: Vec<&str> = path.iter().map(|part| part.as_str().unwrap()).collect();
        if let [namespace, name, dimensions @ ..] = path.as_slice() {
            let dimension_names: Vec<&str> = dimensions.iter().step_by(2).copied().collect();
            assert_metric(
                namespace,
                name,
                &dimension_names,
                options["stat"].as_str().unwrap(),
            );
            shown.insert((*name).to_owned());
        } else if let Some(search) = options["expression"]
            .as_str()
            .filter(|text| text.starts_with("SEARCH("))
        {
            let search = search.replace(series::NAMESPACE, "namespace");
            let (schema, rest) = search.split_once('}').unwrap();
            let (_, dimension_names) = schema.split_once(',').unwrap();
            let dimension_names: Vec<&str> = dimension_names.split(',').collect();
            let name = rest.split('"').nth(1).unwrap();
            let statistic = rest.rsplit('\'').nth(1).unwrap();
            assert_metric(series::NAMESPACE, name, &dimension_names, statistic);
            shown.insert(name.to_owned());
        }
    }
    for alarm in alarms::all() {
        for (metric, statistic) in alarm.rule.metrics() {
            let dimension_names: Vec<&str> =
                metric.dimensions.iter().map(|(name, _)| *name).collect();
            assert_metric(metric.namespace, metric.name, &dimension_names, statistic);
            assert!(
                shown.contains(metric.name),
                "no chart shows {}, of an alarm",
                metric.name
            );
        }
    }
    for name in lambda::ALL {
        assert!(shown.contains(name), "no chart shows {name}");
    }
}

#[test]
fn expressions_use_ids_of_their_widget() {
    let body = json_file("layer/deploy/dashboard.json");
    let functions = ["FILL", "TIME_SERIES"];
    let mut expressions = 0;
    for widget in widgets(&body) {
        let entries = widget["properties"]["metrics"].as_array();
        let options: Vec<&Value> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.as_array()?.last())
            .collect();
        let ids: BTreeSet<&str> = options
            .iter()
            .filter_map(|one| one["id"].as_str())
            .collect();
        for expression in options.iter().filter_map(|one| one["expression"].as_str()) {
            if expression.starts_with("SEARCH(") {
                continue;
            }
            expressions += 1;
            let plain = placeholders_removed(expression);
            let words =
                plain.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            for word in
                words.filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic()))
            {
                assert!(
                    ids.contains(word) || functions.contains(&word),
                    "{word} in {expression}"
                );
            }
        }
    }
    assert!(expressions > 0);
}

fn placeholders_removed(text: &str) -> String {
    let mut plain = text.to_owned();
    for parameter in parameters::ALL {
        plain = plain.replace(&parameter.placeholder(), "1");
    }
    plain
}

#[test]
fn placeholders_are_parameters_and_each_is_used() {
    let texts: String = ["dashboard.json", "alarms.json"]
        .map(|name| json_file(&format!("layer/deploy/{name}")).to_string())
        .concat();
    let context = parameters::CONTEXT.iter().map(|(name, _)| *name);
    let known: BTreeSet<&str> = parameters::ALL
        .iter()
        .map(|one| one.name)
        .chain(context)
        .collect();
    let used: BTreeSet<&str> = texts
        .split("${")
        .skip(1)
        .map(|rest| rest.split_once('}').unwrap().0)
        .collect();
    assert_eq!(used, known);
    // `%{` is a directive of Terraform's templates.
    assert!(!texts.contains("%{"));
}

#[test]
fn the_template_can_be_deployed_without_a_bucket() {
    let template = json_file("layer/deploy/monitoring.template.json");
    let size = template.to_string().len();
    assert!(size <= MAX_TEMPLATE, "{size} bytes, compact");
    let file = std::fs::metadata(root().join("layer/deploy/monitoring.template.json")).unwrap();
    assert!(file.len() <= MAX_TEMPLATE as u64, "{} bytes", file.len());
    let body = &template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"];
    // CloudFormation substitutes before CloudWatch sees the body.
    let body = body.as_str().unwrap().replace("${AWS::", "${");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, json_file("layer/deploy/dashboard.json"));
}

#[test]
fn the_documentation_has_the_parameters() {
    let page = std::fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    for one in parameters::ALL {
        let default = one
            .default
            .map_or("required".to_owned(), |value| format!("`{value}`"));
        let row = format!("| `{}` | {default} | {} |", one.name, one.meaning);
        assert!(page.contains(&row), "docs/monitoring.md lacks: {row}");
    }
}

#[test]
fn each_alarm_has_a_runbook() {
    let page = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let (_, section) = page.split_once("\n## Alarms\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let names: Vec<&str> = alarms::all().iter().map(|alarm| alarm.name).collect();
    assert_eq!(rows, names);
}

#[test]
fn alarms_evaluate_three_periods_of_300_s() {
    let properties = json_file("layer/deploy/alarms.json");
    let properties = properties.as_object().unwrap();
    assert_eq!(properties.len(), alarms::all().len());
    for (id, alarm) in properties {
        assert_eq!(alarm["EvaluationPeriods"], 3, "{id}");
        assert_eq!(alarm["TreatMissingData"], "notBreaching", "{id}");
        let percentile = alarm["ExtendedStatistic"].is_string();
        assert_eq!(
            percentile,
            alarm["EvaluateLowSampleCountPercentile"] == "ignore",
            "{id}"
        );
        let periods = match alarm["Metrics"].as_array() {
            None => vec![&alarm["Period"]],
            Some(metrics) => metrics
                .iter()
                .filter(|metric| metric["MetricStat"].is_object())
                .map(|metric| &metric["MetricStat"]["Period"])
                .collect(),
        };
        assert!(
            !periods.is_empty() && periods.iter().all(|period| **period == 300),
            "{id}"
        );
    }
}
