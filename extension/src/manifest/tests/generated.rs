//! Strategies that generate valid manifests as JSON.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use crate::tensor::{Datatype, NON_TENSORS};

/// Builds an object from the fields that are not `None`.
fn object(fields: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    let given = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect())
}

fn file() -> impl Strategy<Value = (String, u64, String)> {
    let path = r"[a-zé .]{0,6}(/[a-z]{1,3}\.?){0,2}";
    (path, 1..1_u64 << 50, "[0-9a-f]{64}|[0-9A-F]{64}")
}

/// Generates files with distinct paths: each begins with its own number.
fn files() -> impl Strategy<Value = Vec<Value>> {
    vec((file(), any::<bool>()), 1..5).prop_map(|files| {
        let numbered = files.into_iter().enumerate();
        let written = numbered.map(|(number, ((path, size, sha256), compressed))| {
            let end = if compressed { ".zst" } else { "" };
            json!({"path": format!("{number}{path}{end}"), "size": size, "sha256": sha256})
        });
        written.collect()
    })
}

fn tensors(least: usize) -> impl Strategy<Value = Vec<Value>> {
    let tensor = (
        0..3_usize,
        0..3_usize,
        any::<bool>(),
        any::<f32>().prop_filter("JSON has it", |x| x.is_finite()),
    );
    vec(tensor, least..3).prop_map(|tensors| {
        let numbered = tensors.into_iter().enumerate();
        let written = numbered.map(|(number, (rows, columns, nested, element))| {
            let row = vec![json!(element); columns];
            let rows_of = vec![row; rows];
            let data = if nested {
                json!(rows_of)
            } else {
                json!(rows_of.concat())
            };
            let name = format!("tensor {number}");
            json!({"name": name, "shape": [rows, columns], "datatype": "FP32", "data": data})
        });
        written.collect()
    })
}

/// Generates numbers with an exact decimal form.
fn exact() -> impl Strategy<Value = f64> + Clone {
    (0..1_000_000_u32).prop_map(|eighths| f64::from(eighths) / 8.0)
}

fn ports() -> impl Strategy<Value = Vec<Value>> {
    let tensor = (
        select(Datatype::ALL),
        vec(prop_oneof![Just(-1), 0..1_i64 << 40], 0..3),
    )
        .prop_map(|(datatype, shape)| (datatype.name(), json!(shape)));
    let other = select(&NON_TENSORS[..]).prop_map(|known| {
        let shape: Vec<i64> = known.shape.iter().map(|_| -1).collect();
        (known.name, json!(shape))
    });
    vec(prop_oneof![tensor, other], 0..3).prop_map(|ports| {
        let numbered = ports.into_iter().enumerate();
        let written = numbered.map(|(number, (datatype, shape))| {
            json!({"name": format!("port {number}"), "datatype": datatype, "shape": shape})
        });
        written.collect()
    })
}

fn signature() -> impl Strategy<Value = Value> {
    (ports(), ports()).prop_map(|(inputs, outputs)| json!({"inputs": inputs, "outputs": outputs}))
}

fn tolerance() -> impl Strategy<Value = Value> {
    let number = exact();
    (number.clone(), number)
        .prop_map(|(absolute, relative)| json!({"absolute": absolute, "relative": relative}))
}

fn golden() -> impl Strategy<Value = Value> {
    let by_architecture = (option::of(tolerance()), option::of(tolerance()))
        .prop_map(|(x86, arm)| object([("x86_64", x86), ("aarch64", arm)]));
    (
        tensors(0),
        tensors(1),
        option::of(tolerance()),
        option::of(by_architecture),
    )
        .prop_map(|(inputs, outputs, tolerance, tolerance_on)| {
            object([
                ("inputs", Some(inputs.into())),
                ("outputs", Some(outputs.into())),
                ("tolerance", tolerance),
                ("tolerance_on", tolerance_on),
            ])
        })
}

fn baselines() -> impl Strategy<Value = Vec<Value>> {
    let histogram = (
        any::<bool>(),
        any::<bool>(),
        vec((exact(), 1..1_u64 << 40), 1..4),
        option::of(0..1_u64 << 40),
    );
    vec(histogram, 0..3).prop_map(|histograms| {
        let numbered = histograms.into_iter().enumerate();
        let written = numbered.map(|(number, (input, column, bins, nulls))| {
            let ascending = bins.iter().scan(0.0, |edge, (width, _)| {
                *edge += width + 0.5;
                Some(*edge)
            });
            let edges: Vec<f64> = std::iter::once(0.0).chain(ascending).collect();
            let counts: Vec<u64> = bins.iter().map(|(_, count)| *count).collect();
            let name = json!(format!("port {number}"));
            object([
                (if input { "input" } else { "output" }, Some(name)),
                ("column", column.then(|| number.into())),
                ("edges", Some(edges.into())),
                ("counts", Some(counts.into())),
                ("nulls", nulls.map(Value::from)),
            ])
        });
        written.collect()
    })
}

fn version() -> impl Strategy<Value = Map<String, Value>> {
    let folder = option::of(r"[a-z]{1,5}(/[A-Z0-9]{1,4}){0,2}");
    let labels = option::of(vec(any::<String>(), 0..4));
    let golden = option::of(vec(golden(), 0..3));
    let meta = option::of(btree_map("[a-z]{1,4}", any::<String>(), 0..3));
    (
        folder,
        files(),
        any::<bool>(),
        labels,
        option::of(signature()),
        golden,
        option::of(baselines()),
        meta,
    )
        .prop_map(
            |(folder, files, named, labels, signature, golden, baseline, meta)| {
                let named = named || files.len() > 1;
                let model = named.then(|| files.last().expect("at least one")["path"].clone());
                let version = object([
                    ("folder", folder.map(Value::from)),
                    ("model", model),
                    ("files", Some(files.into())),
                    ("labels", labels.map(Value::from)),
                    ("signature", signature),
                    ("golden", golden.map(Value::from)),
                    ("baseline", baseline.map(Value::from)),
                    ("meta", meta.map(|meta| json!(meta))),
                ]);
                version.as_object().expect("made as one").clone()
            },
        )
}

/// Generates a manifest whose versions are in different folders, so that they share no object.
pub(super) fn manifest() -> impl Strategy<Value = Value> {
    let name = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,5}";
    let versions = btree_map(name, version(), 1..4);
    let labels = option::of(btree_map(name, any::<prop::sample::Index>(), 0..3));
    // Eighths, which are exact, up to 100 %.
    let canary = option::of((any::<prop::sample::Index>(), 0..=800_u16));
    let current = any::<prop::sample::Index>();
    (versions, current, any::<bool>(), canary, labels).prop_map(
        |(versions, current, previous, canary, labels)| {
            let names: Vec<String> = versions.keys().cloned().collect();
            let at = current.index(names.len());
            let previous = previous.then(|| names[(at + 1) % names.len()].clone());
            let canary = canary.map(|(version, eighths)| {
                let percent = f64::from(eighths) / 8.0;
                json!({"version": names[version.index(names.len())], "percent": percent})
            });
            let labels = labels.map(|labels| {
                let labels = labels.into_iter();
                let labels = labels.map(|(label, at)| (label, json!(names[at.index(names.len())])));
                Value::Object(labels.collect())
            });
            let own_folder = |(name, mut version): (String, Map<String, Value>)| {
                if let Some(folder) = version.get_mut("folder") {
                    *folder = format!("of/{name}/{}", folder.as_str().expect("text")).into();
                }
                (name, Value::Object(version))
            };
            let versions: Map<String, Value> = versions.into_iter().map(own_folder).collect();
            object([
                ("format", Some("model-sidecar/1".into())),
                ("current", Some(names[at].clone().into())),
                (
                    "previous",
                    previous.filter(|name| *name != names[at]).map(Value::from),
                ),
                ("canary", canary),
                ("version_labels", labels),
                ("versions", Some(versions.into())),
            ])
        },
    )
}
