//! Queries over a few lines.

use serde_json::{Value, json};

use super::{LogEvent, Query};

fn events() -> Vec<LogEvent> {
    let lines = [
        r#"{"timestamp":"2026-11-29T17:04:59.500Z","level":"INFO","message":"ready","load_ms":30.5,"model":"a"}"#,
        r#"{"timestamp":"2026-11-29T17:05:00Z","level":"WARN","message":"keeping it: no","model":"a"}"#,
        "START RequestId: 1",
        r#"{"timestamp":"2026-11-29T17:05:01Z","level":"INFO","message":"ready","load_ms":10,"model":"b"}"#,
        r#"{"timestamp":"2026-11-29T17:09:59Z","level":"INFO","message":"ready","load_ms":20,"model":"a","of":{"x":[1]}}"#,
    ];
    let streams = ["1", "1", "1", "2", "2"];
    let pairs = streams.into_iter().zip(lines);
    pairs
        .map(|(stream, line)| LogEvent::new(stream, line))
        .collect()
}

fn run(query: &str) -> Value {
    json!(Query::parse(query).unwrap().run(&events()))
}

#[test]
fn fields_are_discovered_and_selected() {
    assert_eq!(
        run("fields of.x.0 | filter ispresent(`of.x.0`)"),
        json!([{"of.x.0": 1}])
    );
    assert_eq!(
        run("fields @message # text\n| filter @message like 'START'"),
        json!([{"@message": "START RequestId: 1"}])
    );
    let all = run("filter load_ms = 10");
    assert_eq!(all[0]["@timestamp"], 1_795_971_901_000_u64);
    assert_eq!(all[0]["@logStream"], "2");
}

#[test]
fn conditions_are_combined() {
    for (condition, count) in [
        ("load_ms > 10", 2),
        ("load_ms >= 10 and load_ms < 30.5", 2),
        ("load_ms <= 10 or level != 'INFO'", 2),
        ("not (level = \"INFO\")", 2),
        ("not ispresent(load_ms)", 2),
        ("level in [\"WARN\", \"ERROR\"]", 1),
        ("model not in ['b'] and ispresent(model)", 3),
        ("message not like \"ready\" and ispresent(message)", 1),
        ("level = 'INFO' and (model = 'b' or load_ms > 25)", 2),
        ("absent = 1 or absent != 1", 0),
    ] {
        let rows = run(&format!("filter {condition}"));
        assert_eq!(rows.as_array().unwrap().len(), count, "{condition}");
    }
}

#[test]
fn rows_are_grouped_sorted_and_limited() {
    assert_eq!(
        run(
            "filter ispresent(model) | stats count(*) as lines, avg(load_ms) as ms by model | sort lines desc"
        ),
        json!([{"lines": 3, "model": "a", "ms": 25.25}, {"lines": 1, "model": "b", "ms": 10.0}])
    );
    assert_eq!(
        run(
            "filter ispresent(load_ms) | stats count(load_ms) as n, sum(load_ms) as total by bin(5m)"
        ),
        json!([
            {"bin(5m)": 1_795_971_600_000_u64, "n": 1, "total": 30.5},
            {"bin(5m)": 1_795_971_900_000_u64, "n": 2, "total": 30.0},
        ])
    );
    assert_eq!(
        run(
            "stats min(load_ms), max(load_ms), pct(load_ms, 50), count_distinct(@logStream) as streams"
        ),
        json!([{"max(load_ms)": 30.5, "min(load_ms)": 10.0, "pct(load_ms, 50)": 20.0, "streams": 2}])
    );
    assert_eq!(
        run(
            "stats earliest(load_ms) as first, latest(load_ms) as last by message | sort last desc | limit 1"
        ),
        json!([{"message": "ready", "first": 30.5, "last": 20}])
    );
    assert_eq!(
        run("fields load_ms | filter ispresent(load_ms) | sort model asc, load_ms desc | limit 2"),
        json!([{"load_ms": 30.5}, {"load_ms": 20}])
    );
}

#[test]
fn what_is_not_supported_is_an_error() {
    for query in [
        "",
        "parse @message 'a *' as b",
        "filter level = ",
        "filter level like /x/",
        "filter not level",
        "filter (level = 'a'",
        "filter level = 'a",
        "stats stddev(x)",
        "stats pct(x)",
        "stats count(*) by bin(5)",
        "fields a b",
        "limit many",
        "sort a,",
    ] {
        assert!(Query::parse(query).is_err(), "{query}");
    }
}
