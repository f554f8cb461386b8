//! Memory of decoding, counted by the allocator. Decoding takes at most four times the body, covered by the request's
//! charge. It takes next to nothing for a body that is rejected at its first row.
#![expect(unsafe_code, reason = "a global allocator needs it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use model_sidecar::protocol::{DecodeError, Decoded, predict, tfserving, v2};
use model_sidecar::request_memory::Charge;
use model_sidecar::tensor::{Datatype, Kind, Port, Signature};

thread_local! {
    /// Bytes that this thread has allocated and not freed, and their maximum.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn note(bytes: isize) {
    // Not available while a thread ends.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    /// The system moves a large block without a second copy.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Size of a body in these tests.
const BODY: usize = 4 * 1024 * 1024;
/// Maximum memory of a rejection: its message, and the bytes that are read before the first row.
const LITTLE: usize = 64 * 1024;

#[derive(Clone, Copy, Debug)]
enum Form {
    Predict,
    TensorFlow,
    OpenInference,
}

fn decode(
    form: Form,
    body: &Bytes,
    signature: &Signature,
    charge: &mut Charge,
) -> Result<Decoded, DecodeError> {
    match form {
        Form::Predict => predict::decode(body, signature, charge),
        Form::TensorFlow => tfserving::decode(body, signature, charge).map(|(decoded, _)| decoded),
        Form::OpenInference => {
            v2::decode(body, None, signature, charge).map(|(decoded, _)| decoded)
        }
    }
}

/// Runs `work`, and returns its result and its peak memory in bytes.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let done = work();
    let peak = PEAK.get() - before;
    (
        done,
        usize::try_from(peak).expect("a peak is not below its beginning"),
    )
}

fn signature(datatype: Datatype, shape: &[Option<usize>]) -> Signature {
    let port = |name: &str| Port {
        name: name.to_owned(),
        kind: Kind::Tensor {
            datatype,
            shape: shape.to_vec(),
        },
    };
    Signature {
        inputs: vec![port("a")],
        outputs: vec![port("y")],
    }
}

/// Returns `before`, as many comma-separated copies of `item` as fill a body, and `after`.
fn filled(before: &str, item: &str, after: &str) -> Bytes {
    let count = (BODY - before.len() - after.len()) / (item.len() + 1);
    let items = vec![item; count].join(",");
    format!("{before}{items}{after}").into()
}

/// Returns an `infer` request with an input of as many elements as its data has.
fn infer(datatype: Datatype, item: &str) -> Bytes {
    let data = filled("[", item, "]");
    let text = std::str::from_utf8(&data).expect("text");
    let count = text.matches(',').count() + 1;
    format!(
        "{{\"inputs\":[{{\"name\":\"a\",\"datatype\":\"{datatype}\",\"shape\":[{count}],\"data\":{text}}}]}}"
    )
    .into()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of bodies")]
fn decoding_takes_at_most_four_times_the_body_and_charges_it() {
    let free = [None];
    let list = |item: &str| filled("{\"features\":[", item, "]}");
    let cases = [
        (
            "numbers",
            Form::Predict,
            Datatype::Fp32,
            &free[..],
            list("1"),
        ),
        (
            "wide numbers",
            Form::Predict,
            Datatype::Fp64,
            &free,
            list("1"),
        ),
        (
            "whole numbers",
            Form::Predict,
            Datatype::Int64,
            &free,
            list("-1"),
        ),
        (
            "long numbers",
            Form::Predict,
            Datatype::Fp64,
            &free,
            list("0.123456789"),
        ),
        (
            "rows",
            Form::Predict,
            Datatype::Int64,
            &[None, Some(3)],
            list("[1,2,3]"),
        ),
        (
            "narrow rows",
            Form::Predict,
            Datatype::Fp64,
            &[None, Some(1)],
            list("[1]"),
        ),
        (
            "objects",
            Form::Predict,
            Datatype::Fp64,
            &free,
            list("{\"a\":1}"),
        ),
        (
            "objects of rows",
            Form::Predict,
            Datatype::Fp64,
            &[None, Some(4)],
            list("{\"a\":[1,2,3,4]}"),
        ),
        (
            "a column",
            Form::Predict,
            Datatype::Fp64,
            &free,
            filled("{\"features\":{\"a\":[", "1", "]}}"),
        ),
        (
            "strings",
            Form::Predict,
            Datatype::Bytes,
            &free,
            list("\"a\""),
        ),
        (
            "escapes",
            Form::Predict,
            Datatype::Bytes,
            &free,
            list("\"\\u00fc\\n\""),
        ),
        (
            "empty strings",
            Form::Predict,
            Datatype::Bytes,
            &free,
            list("\"\""),
        ),
        (
            "objects of strings",
            Form::Predict,
            Datatype::Bytes,
            &free,
            list("{\"a\":\"b\"}"),
        ),
        (
            "one string",
            Form::Predict,
            Datatype::Bytes,
            &free,
            filled("{\"features\":[\"", "a", "\"]}"),
        ),
        (
            "base64",
            Form::TensorFlow,
            Datatype::Bytes,
            &free,
            filled("{\"instances\":[", "{\"b64\":\"YWI=\"}", "]}"),
        ),
        ("one in base64", Form::TensorFlow, Datatype::Bytes, &free, {
            let text = "YWJj".repeat(BODY / 4);
            format!("{{\"inputs\":{{\"a\":[{{\"b64\":\"{text}\"}}]}}}}").into()
        }),
        (
            "instances",
            Form::TensorFlow,
            Datatype::Fp64,
            &free,
            filled("{\"instances\":[", "{\"a\":1}", "]}"),
        ),
        (
            "data",
            Form::OpenInference,
            Datatype::Fp64,
            &free,
            infer(Datatype::Fp64, "1"),
        ),
        (
            "strings as data",
            Form::OpenInference,
            Datatype::Bytes,
            &free,
            infer(Datatype::Bytes, "\"a\""),
        ),
    ];
    for (name, form, datatype, shape, body) in cases {
        let signature = signature(datatype, shape);
        let mut charge = Charge::unlimited();
        let (decoded, peak) = measured(|| decode(form, &body, &signature, &mut charge));
        let decoded = decoded.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!decoded.inputs.is_empty(), "{name}");
        let most = 4 * body.len() + LITTLE;
        assert!(
            peak <= most,
            "{name}: {peak} bytes for a body of {}",
            body.len()
        );
        let charged = charge.used() + LITTLE;
        assert!(
            charged >= peak,
            "{name}: {peak} bytes, of which {charged} are charged"
        );
    }
}

#[test]
fn a_body_that_is_rejected_at_its_first_row_takes_no_memory() {
    let list = |item: &str| filled("{\"features\":[", item, "]}");
    let inputs = |item: &str| filled("{\"inputs\":[", item, "]}");
    let input = r#"{"name":"a","datatype":"FP32","shape":[1],"data":[1]}"#;
    let cases = [
        (
            Form::Predict,
            list("{\"b\":1}"),
            "features[0]: the model has no input \"b\"",
        ),
        (
            Form::Predict,
            list("{}"),
            "features[0]: missing input: \"a\"",
        ),
        (
            Form::Predict,
            list("{\"a\":1,\"a\":1}"),
            "features[0]: \"a\" is given twice",
        ),
        (
            Form::Predict,
            list("{\"a\":\"1\"}"),
            "features[0].a is \"1\", expected",
        ),
        (
            Form::TensorFlow,
            filled("{\"instances\":[", "{\"b\":1}", "]}"),
            "instances[0]: the model has no",
        ),
        (
            Form::OpenInference,
            inputs(input),
            "inputs[1]: input \"a\" is given twice",
        ),
        (
            Form::OpenInference,
            inputs(&input.replace("\"a\"", "\"b\"")),
            "inputs[0]: the model has no input \"b\"",
        ),
        (
            Form::OpenInference,
            inputs("{}"),
            "missing field: inputs[0].name",
        ),
        (
            Form::OpenInference,
            filled(
                &format!("{{\"inputs\":[{input}],\"outputs\":["),
                r#"{"name":"y"}"#,
                "]}",
            ),
            "outputs[1]: output \"y\" is requested twice",
        ),
        (
            Form::OpenInference,
            filled(
                r#"{"inputs":[{"name":"a","datatype":"FP32","shape":["#,
                "1",
                "],\"data\":[1]}]}",
            ),
            "inputs[0].shape has more than 32 dimensions",
        ),
    ];
    let signature = signature(Datatype::Fp32, &[None]);
    for (form, body, words) in cases {
        let mut charge = Charge::unlimited();
        let (decoded, peak) = measured(|| decode(form, &body, &signature, &mut charge));
        let error = decoded.expect_err(words).to_string();
        assert!(error.starts_with(words), "{error}\nexpected: {words}");
        assert!(peak <= LITTLE, "{words}: {peak} bytes");
    }
}

#[test]
fn a_mistake_at_the_end_takes_at_most_four_times_the_body() {
    for (datatype, item, wrong) in [
        (Datatype::Fp64, "1", "true"),
        (Datatype::Fp64, "[1]", "[1,2]"),
        (Datatype::Fp64, "[1]", "[true]"),
        (Datatype::Bytes, "\"a\"", "1"),
        (Datatype::Fp64, "{\"a\":1}", "{\"b\":1}"),
    ] {
        let body = filled("{\"features\":[", item, &format!(",{wrong}]}}"));
        let signature = signature(datatype, &[None]);
        let mut charge = Charge::unlimited();
        let (decoded, peak) = measured(|| decode(Form::Predict, &body, &signature, &mut charge));
        let error = decoded.expect_err(item).to_string();
        assert!(error.starts_with("features["), "{error}");
        assert!(peak <= 4 * body.len() + LITTLE, "{error}: {peak} bytes");
    }
}

#[test]
fn a_tensor_without_elements_is_charged_by_its_other_dimensions() {
    let wide: &[Option<usize>] = &[None, None];
    let free = |datatype: Datatype| signature(datatype, wide);
    for datatype in Datatype::ALL.iter().copied() {
        let body = format!(
            r#"{{"inputs":[{{"name":"a","datatype":"{datatype}","shape":[2000000000,0],"data":[]}}]}}"#
        );
        let mut charge = Charge::unlimited();
        decode(
            Form::OpenInference,
            &body.into(),
            &free(datatype),
            &mut charge,
        )
        .expect("a request");
        assert!(
            charge.used() >= 2_000_000_000,
            "{datatype}: {}",
            charge.used()
        );
        let head = format!(
            r#"{{"inputs":[{{"name":"a","datatype":"{datatype}","shape":[0,3000000000],"parameters":{{"binary_data_size":0}}}}]}}"#
        );
        let mut charge = Charge::unlimited();
        let length = head.len();
        v2::decode(&head.into(), Some(length), &free(datatype), &mut charge).expect("a request");
        assert!(
            charge.used() >= 3_000_000_000,
            "{datatype}: {}",
            charge.used()
        );
    }
    let fixed = signature(Datatype::Fp32, &[None, None, Some(1_000_000_000)]);
    for (form, body) in [
        (Form::Predict, r#"{"features":[[],[]]}"#),
        (Form::Predict, r#"{"features":{"a":[[],[]]}}"#),
        (Form::Predict, r#"{"features":[{"a":[]},{"a":[]}]}"#),
        (Form::TensorFlow, r#"{"instances":[[],[]]}"#),
        (Form::TensorFlow, r#"{"inputs":{"a":[[],[]]}}"#),
    ] {
        let mut charge = Charge::unlimited();
        decode(form, &body.into(), &fixed, &mut charge).expect("a request");
        assert!(charge.used() >= 8_000_000_000, "{body}: {}", charge.used());
    }
}
