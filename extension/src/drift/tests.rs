//! Windows against a straightforward reference, and against the statistics of samples without drift.

mod reference;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::manifest::{Baseline, Observed};
use crate::tensor::{Data, Datatype, Kind, Port, Signature, Tensor, Value, strategies};
use reference::{Column, reference_index};

/// Signature with one input `x` and one output `y` of this datatype and shape.
fn signature(datatype: Datatype, shape: &[Option<usize>]) -> Signature {
    let port = |name: &str| Port {
        name: name.to_owned(),
        kind: Kind::Tensor {
            datatype,
            shape: shape.to_vec(),
        },
    };
    Signature {
        inputs: vec![port("x")],
        outputs: vec![port("y")],
    }
}

fn baseline(of: Observed, column: Option<usize>, edges: &[f64], counts: &[u64]) -> Baseline {
    Baseline {
        of,
        column,
        edges: edges.to_vec(),
        counts: counts.to_vec(),
        nulls: 0,
    }
}

fn input(column: usize, edges: &[f64], counts: &[u64]) -> Baseline {
    baseline(Observed::Input("x".to_owned()), Some(column), edges, counts)
}

fn named(name: &str, shape: &[usize], data: impl Into<Data>) -> Vec<(String, Value)> {
    let tensor = Tensor::new(shape.to_vec(), data).unwrap();
    vec![(name.to_owned(), Value::Tensor(tensor))]
}

/// Serves a request with these values as its inputs.
fn serve(window: &DriftWindow, inputs: &[(String, Value)]) {
    let sampled = window.sample_inputs(inputs);
    window.count(&sampled);
}

fn window(baseline: &[Baseline], rows: usize, columns: usize) -> DriftWindow {
    let signature = signature(Datatype::Fp64, &[None, Some(columns)]);
    let window = DriftWindow::new(baseline, rows, &signature, 7).unwrap();
    assert_eq!(window.mismatches(), []);
    window
}

/// Returns uniform numbers from 0 to 1, the same in each run.
fn uniform(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX)
    }
}

prop_compose! {
    fn edges()(parts in vec(0.01_f64..3.0, 2..14), start in -10.0_f64..10.0) -> Vec<f64> {
        let steps = parts.iter().scan(start, |edge, step| {
            *edge += step;
            Some(*edge)
        });
        steps.collect()
    }
}

/// Values that fall on edges, between and outside of them, and nulls.
fn value(edges: Vec<f64>) -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -15.0_f64..35.0,
        2 => prop::sample::select(edges),
        1 => Just(f64::NAN),
        1 => prop::sample::select(vec![f64::INFINITY, f64::NEG_INFINITY, -0.0]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// All rows of all requests are sampled, so that the window must agree with the reference on the same values.
    #[test]
    fn a_window_agrees_with_the_reference(
        (edges, counts, nulls, rows) in edges().prop_flat_map(|edges| {
            let bins = edges.len() - 1;
            let rows = vec(value(edges.clone()), 50 * bins..60 * bins);
            let counts = vec(0_u64..1_000, bins).prop_filter("not all 0", |counts| counts.iter().any(|one| *one > 0));
            (Just(edges), counts, 0_u64..50, rows)
        }),
        per_request in 1_usize..200,
    ) {
        let mut of_input = input(0, &edges, &counts);
        of_input.nulls = nulls;
        let of_output = Baseline { of: Observed::Output("y".to_owned()), column: None, ..of_input.clone() };
        let window = window(&[of_input, of_output], 1_000, 1);
        for part in rows.chunks(per_request) {
            let mut sampled = window.sample_inputs(&named("x", &[part.len(), 1], part.to_vec()));
            window.sample_outputs(&named("y", &[part.len(), 1], part.to_vec()), &mut sampled);
            window.count(&sampled);
        }
        let report = window.report().unwrap();
        let expected = reference_index(&Column { edges: &edges, counts: &counts, nulls }, &rows);
        for columns in [&report.inputs, &report.outputs] {
            let [column] = &columns[..] else { panic!("one column") };
            prop_assert!((column.index - expected.index).abs() < 1e-9, "{column:?} {expected:?}");
            prop_assert_eq!(column.rows, rows.len() as u64);
            prop_assert_eq!(column.nulls, expected.nulls);
            prop_assert_eq!(column.outside, expected.outside);
        }
        prop_assert_eq!(window.report(), None);
    }

    /// Any tensor is sampled within its bounds, whatever its shape and datatype.
    #[test]
    fn any_tensor_is_sampled_within_its_bounds(
        (shape, data) in (vec(0_usize..4, 0..4), 0..Datatype::ALL.len()).prop_flat_map(|(shape, which)| {
            let count = shape.iter().product();
            (Just(shape), strategies::data(Datatype::ALL[which], count, true))
        }),
        column in prop::option::of(0_usize..5),
        rows in 1_usize..6,
    ) {
        let one = baseline(Observed::Input("x".to_owned()), column, &[0.0, 1.0], &[1]);
        let signature = signature(Datatype::Fp32, &[None, None]);
        let window = DriftWindow::new(&[one], rows, &signature, 7).unwrap();
        let has_numbers = !matches!(data, Data::Bytes(_)) && !data.is_empty();
        let has_column = column.is_none_or(|column| column < shape.last().copied().unwrap_or(1));
        let all = match (&shape[..], column) {
            ([], _) | ([_], Some(_)) => 1,
            ([rows, ..], _) => *rows,
        };
        let expected = if has_numbers && has_column { rows.min(all) as u64 } else { 0 };
        for _ in 0..50 {
            serve(&window, &named("x", &shape, data.clone()));
        }
        let rows = window.report().map_or(0, |report| report.inputs[0].rows);
        prop_assert_eq!(rows, 50 * expected);
    }
}

/// Serves `rows` uniform rows of 256 columns, whose baseline has ten equal bins; returns the report.
fn uniform_rows(rows: usize, shift: impl Fn(usize) -> f64) -> Option<DriftReport> {
    const COLUMNS: usize = 256;
    let edges: Vec<f64> = (0..=10).map(|tenth| f64::from(tenth) / 10.0).collect();
    let baseline: Vec<Baseline> = (0..COLUMNS)
        .map(|column| input(column, &edges, &[100_000; 10]))
        .collect();
    let window = window(&baseline, 1, COLUMNS);
    let mut random = uniform(3);
    for _ in 0..rows {
        // Several rows a request, of which one is sampled.
        let values: Vec<f64> = (0..3 * COLUMNS)
            .map(|at| random() + shift(at % COLUMNS))
            .collect();
        serve(&window, &named("x", &[3, COLUMNS], values));
    }
    window.report()
}

#[test]
fn rows_without_drift_have_a_small_index_and_drifted_ones_a_large_one() {
    let worst = &uniform_rows(500, |_| 0.0).unwrap().inputs;
    assert_eq!(worst.len(), 256);
    assert!(
        worst[0].index > 0.03 && worst[0].index < 0.08,
        "{:?}",
        worst[0]
    );
    let shifted = uniform_rows(500, |column| if column == 200 { 0.3 } else { 0.0 });
    let worst = &shifted.unwrap().inputs;
    assert_eq!(worst[0].column, "x[200]");
    assert!(worst[0].index > 0.5, "{:?}", worst[0]);
    assert!(worst[1].index < 0.08, "{:?}", worst[1]);
}

#[test]
fn a_window_with_too_few_rows_yields_nothing_and_goes_on() {
    assert_eq!(uniform_rows(499, |_| 0.3), None);
    let window = window(&[input(0, &[0.0, 0.5, 1.0], &[50, 50])], 1, 1);
    let row = named("x", &[1, 1], vec![0.7]);
    for served in 1..100 {
        serve(&window, &row);
        assert_eq!(window.report(), None, "{served}");
    }
    serve(&window, &row);
    let report = window.report().unwrap();
    assert_eq!(report.inputs[0].rows, 100);
    assert!(report.outputs.is_empty());
    assert_eq!(window.report(), None, "the counts start again");
}

#[test]
fn columns_are_reported_together_and_rare_ones_keep_their_rows() {
    let of = |name: &str, edges: &[f64], counts: &[u64]| {
        baseline(Observed::Input(name.to_owned()), None, edges, counts)
    };
    let histograms = [
        of("x", &[0.0, 1.0], &[1]),
        of("z", &[0.0, 1.0, 2.0], &[1, 1]),
        of("rare", &[0.0, 1.0], &[1]),
    ];
    let mut signature = signature(Datatype::Fp64, &[None]);
    for name in ["z", "rare"] {
        let port = Port {
            name: name.to_owned(),
            ..signature.inputs[0].clone()
        };
        signature.inputs.push(port);
    }
    let window = DriftWindow::new(&histograms, 1, &signature, 7).unwrap();
    let both = [named("x", &[1], vec![0.5]), named("z", &[1], vec![0.5])].concat();
    for _ in 0..99 {
        serve(&window, &both);
    }
    assert_eq!(window.report(), None, "`z` has two bins");
    let names = |report: &DriftReport| -> Vec<String> {
        report.inputs.iter().map(|one| one.column.clone()).collect()
    };
    // In another order, and with the optional input.
    let reversed = [
        named("rare", &[1], vec![0.5]),
        named("z", &[1], vec![0.5]),
        named("x", &[1], vec![0.5]),
    ]
    .concat();
    serve(&window, &reversed);
    assert_eq!(names(&window.report().unwrap()), ["z", "x"]);
    for _ in 0..49 {
        serve(&window, &reversed);
    }
    for _ in 0..51 {
        serve(&window, &both);
    }
    let report = window.report().unwrap();
    let rows = |name: &str| {
        report
            .inputs
            .iter()
            .find(|one| one.column == name)
            .unwrap()
            .rows
    };
    assert_eq!((rows("x"), rows("z"), rows("rare")), (100, 100, 50));
}

#[test]
fn classes_of_a_zipmap_are_columns() {
    let values = Tensor::new(vec![2, 3], vec![0.1_f32, 0.2, 0.7, 0.1, 0.2, 0.7]).unwrap();
    let maps = crate::tensor::Maps::new(std::sync::Arc::new(vec![0_i64, 1, 2].into()), values);
    let of = baseline(
        Observed::Output("y".to_owned()),
        Some(2),
        &[0.0, 0.5, 1.0],
        &[1, 1],
    );
    let signature = signature(Datatype::Fp32, &[None, Some(3)]);
    let window = DriftWindow::new(&[of], 10, &signature, 7).unwrap();
    let outputs = vec![("y".to_owned(), Value::Maps(maps.unwrap()))];
    for _ in 0..50 {
        let mut sampled = window.sample_inputs(&[]);
        window.sample_outputs(&outputs, &mut sampled);
        window.count(&sampled);
    }
    let report = window.report().unwrap();
    assert_eq!(
        (report.outputs[0].rows, report.outputs[0].outside),
        (100, 0)
    );
    assert!(report.outputs[0].index > 0.5, "{report:?}");
}

#[test]
fn histograms_that_do_not_fit_the_model_are_named() {
    let mut signature = signature(Datatype::Fp32, &[None, Some(2)]);
    signature.inputs.push(Port {
        name: "text".to_owned(),
        kind: Kind::Tensor {
            datatype: Datatype::Bytes,
            shape: vec![None],
        },
    });
    let of =
        |name: &str, column| baseline(Observed::Input(name.to_owned()), column, &[0.0, 1.0], &[1]);
    let histograms = [
        of("x", Some(1)),
        of("x", Some(2)),
        of("y", None),
        of("text", None),
    ];
    let window = DriftWindow::new(&histograms, 1, &signature, 7).unwrap();
    let named: Vec<(&str, &str)> = window
        .mismatches()
        .iter()
        .map(|one| (&*one.column, one.reason))
        .collect();
    let expected = [
        ("x[2]", "it has fewer columns"),
        ("y", "the model has no such input or output"),
        ("text", "it holds strings"),
    ];
    assert_eq!(named, expected);
    assert!(DriftWindow::new(&[], 1, &signature, 7).is_none());
    assert!(DriftWindow::new(&histograms, 0, &signature, 7).is_none());
}

#[test]
fn concurrent_requests_and_reports_lose_and_double_no_row() {
    let window = window(&[input(0, &[0.0, 1.0], &[1])], 1, 1);
    let row = named("x", &[1, 1], vec![0.5]);
    let reported = std::sync::atomic::AtomicU64::new(0);
    let report = || {
        let rows = window.report().map_or(0, |report| report.inputs[0].rows);
        reported.fetch_add(rows, std::sync::atomic::Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..5_000 {
                    serve(&window, &row);
                    if number % 100 == 0 {
                        report();
                    }
                }
            });
        }
    });
    // Fewer than 50 rows may be left.
    for _ in 0..50 {
        serve(&window, &row);
    }
    report();
    assert_eq!(reported.into_inner(), 20_050);
}
