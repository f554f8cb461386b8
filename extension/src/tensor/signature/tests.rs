//! Tests of the compatibility of signatures.

use proptest::prelude::*;

use super::*;
use crate::tensor::{Datatype, NON_TENSORS};

fn tensor(datatype: Datatype, shape: &[i64]) -> Kind {
    let shape = shape.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    Kind::Tensor { datatype, shape }
}

fn floats(shape: &[i64]) -> Kind {
    tensor(Datatype::Fp32, shape)
}

fn maps() -> Kind {
    Kind::Sequence(Box::new(Kind::Map {
        key: Datatype::Int64,
        value: Datatype::Fp32,
    }))
}

fn ports(ports: &[(&str, Kind)]) -> Vec<Port> {
    let ports = ports.iter().map(|(name, kind)| Port {
        name: (*name).to_owned(),
        kind: kind.clone(),
    });
    ports.collect()
}

fn signature(inputs: &[(&str, Kind)], outputs: &[(&str, Kind)]) -> Signature {
    Signature {
        inputs: ports(inputs),
        outputs: ports(outputs),
    }
}

/// Returns the incompatibility of `after` with callers of `before`; empty if there is none.
fn incompatibility(before: &Signature, after: &Signature) -> String {
    let problem = after.serves_callers_of(before).err();
    problem.map_or_else(String::new, |problem| problem.to_string())
}

#[test]
fn an_input_may_accept_more_and_never_less() {
    for (before, after, problem) in [
        (floats(&[-1, 4]), floats(&[-1, 4]), ""),
        (floats(&[1, 4]), floats(&[-1, 4]), ""),
        (
            floats(&[-1, 4]),
            floats(&[1, 4]),
            r#"input "x" is FP32 [1, 4], expected FP32 [-1, 4]"#,
        ),
        (
            floats(&[-1, 4]),
            floats(&[-1, 5]),
            r#"input "x" is FP32 [-1, 5], expected FP32 [-1, 4]"#,
        ),
        (
            floats(&[4]),
            floats(&[-1, 4]),
            r#"input "x" is FP32 [-1, 4], expected FP32 [4]"#,
        ),
        (
            floats(&[4]),
            tensor(Datatype::Fp64, &[4]),
            r#"input "x" is FP64 [4], expected FP32 [4]"#,
        ),
        (
            floats(&[4]),
            Kind::Optional(Box::new(floats(&[4]))),
            r#"input "x" is optional FP32 [4], expected FP32 [4]"#,
        ),
    ] {
        let side = |kind| signature(&[("x", kind)], &[]);
        assert_eq!(incompatibility(&side(before), &side(after)), problem);
    }
}

#[test]
fn an_output_may_return_less_and_never_more() {
    let sequence = |kind| Kind::Sequence(Box::new(kind));
    for (before, after, problem) in [
        (floats(&[-1, -1]), floats(&[-1, 3]), ""),
        (sequence(floats(&[-1])), sequence(floats(&[2])), ""),
        (maps(), maps(), ""),
        (
            floats(&[-1, 3]),
            floats(&[-1, -1]),
            r#"output "y" is FP32 [-1, -1], expected FP32 [-1, 3]"#,
        ),
        (
            sequence(floats(&[2])),
            sequence(floats(&[-1])),
            r#"output "y" is sequence of FP32 [-1], expected sequence of FP32 [2]"#,
        ),
        (
            maps(),
            floats(&[-1, 3]),
            r#"output "y" is FP32 [-1, 3], expected sequence of map from INT64 to FP32"#,
        ),
    ] {
        let side = |kind| signature(&[], &[("y", kind)]);
        assert_eq!(incompatibility(&side(before), &side(after)), problem);
    }
}

#[test]
fn existing_ports_remain_and_new_inputs_are_optional() {
    let before = signature(
        &[("a", floats(&[1])), ("b", floats(&[1]))],
        &[("y", floats(&[1])), ("z", floats(&[1]))],
    );
    let with_input = |name, kind| {
        let mut after = before.clone();
        after.inputs.extend(ports(&[(name, kind)]));
        after
    };
    let optional = Kind::Optional(Box::new(floats(&[1])));
    assert_eq!(incompatibility(&before, &with_input("c", optional)), "");
    assert_eq!(
        incompatibility(&before, &with_input("c", floats(&[1]))),
        r#"input "c" is FP32 [1], expected no input of that name"#
    );
    let mut after = before.clone();
    after.inputs.reverse();
    after.outputs.extend(ports(&[("more", floats(&[1]))]));
    assert_eq!(incompatibility(&before, &after), "");
    after.outputs.rotate_right(1);
    assert_eq!(
        incompatibility(&before, &after),
        r#"output "y" is at position 2 of the outputs, expected position 1"#
    );
    after.inputs.pop();
    assert_eq!(
        incompatibility(&before, &after),
        r#"input "a" is missing, expected FP32 [1]"#
    );
    after.inputs = before.inputs.clone();
    after.outputs = ports(&[("z", floats(&[1]))]);
    assert_eq!(
        incompatibility(&before, &after),
        r#"output "y" is missing, expected FP32 [1]"#
    );
}

#[test]
fn a_declared_signature_is_complete() {
    let model = signature(
        &[("x", floats(&[-1, 4]))],
        &[("l", floats(&[1])), ("p", maps())],
    );
    let declare = |change: fn(&mut Signature)| {
        let mut declared = model.published();
        change(&mut declared);
        let problem = model.conforms_to(&declared).err();
        problem.map_or_else(String::new, |problem| problem.to_string())
    };
    assert_eq!(declare(|_| ()), "");
    // The declared input accepts less than the model, and the declared output returns more.
    assert_eq!(
        declare(|declared| declared.inputs[0].kind = floats(&[1, 4])),
        ""
    );
    assert_eq!(
        declare(|declared| declared.outputs[0].kind = floats(&[-1])),
        ""
    );
    assert_eq!(
        declare(|declared| declared.outputs[1].kind = floats(&[-1, 3])),
        r#"output "p" is FP32 [-1, -1], expected FP32 [-1, 3]"#
    );
    let without = |side: &str| {
        let direction = side.split(' ').next().unwrap();
        format!("{side}, expected no {direction} of that name")
    };
    assert_eq!(
        declare(|declared| declared.inputs.clear()),
        without(r#"input "x" is FP32 [-1, 4]"#)
    );
    assert_eq!(
        declare(|declared| drop(declared.outputs.pop())),
        without(r#"output "p" is FP32 [-1, -1]"#)
    );
    // Optional inputs need not be declared.
    let mut more = model.clone();
    let optional = Kind::Optional(Box::new(floats(&[1])));
    more.inputs.extend(ports(&[("o", optional)]));
    assert_eq!(more.conforms_to(&model.published()), Ok(()));
    assert_eq!(more.conforms_to(&more.published()), Ok(()));
    assert!(model.conforms_to(&more.published()).is_err());
}

#[test]
fn kinds_that_are_not_tensors_have_names() {
    let kinds = [
        Kind::Sequence(Box::new(floats(&[2]))),
        Kind::Map {
            key: Datatype::Bytes,
            value: Datatype::Fp32,
        },
        Kind::Optional(Box::new(maps())),
        Kind::Other("Tensor<complex64>".to_owned()),
    ];
    for (kind, known) in kinds.iter().zip(NON_TENSORS) {
        assert_eq!(kind.outline(), (known.name, known.shape.to_vec()));
        assert_eq!(kind.published(), Kind::Other(known.name.to_owned()));
    }
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let datatype = || prop::sample::select(Datatype::ALL);
    let shape = prop::collection::vec(prop::option::of(0..3_usize), 0..3);
    let tensor = (datatype(), shape).prop_map(|(datatype, shape)| Kind::Tensor { datatype, shape });
    let map = (datatype(), datatype()).prop_map(|(key, value)| Kind::Map { key, value });
    let plain = prop_oneof![4 => tensor, 1 => map, 1 => "[a-z]{0,3}".prop_map(Kind::Other)];
    plain.prop_recursive(2, 4, 1, |inner| {
        prop_oneof![
            inner
                .clone()
                .prop_map(|kind| Kind::Sequence(Box::new(kind))),
            inner.prop_map(|kind| Kind::Optional(Box::new(kind))),
        ]
    })
}

pub(crate) fn any_signature() -> impl Strategy<Value = Signature> {
    let side = || {
        prop::collection::btree_map("[a-c]", any_kind(), 0..3).prop_map(|ports| {
            let ports = ports.into_iter();
            ports.map(|(name, kind)| Port { name, kind }).collect()
        })
    };
    (side(), side()).prop_map(|(inputs, outputs)| Signature { inputs, outputs })
}

proptest! {
    #[test]
    fn every_signature_is_compatible_with_itself_and_its_published_form(own in any_signature()) {
        prop_assert_eq!(own.serves_callers_of(&own), Ok(()));
        prop_assert_eq!(own.conforms_to(&own.published()), Ok(()));
        prop_assert_eq!(own.published().published(), own.published());
        let json = serde_json::to_string(&own).unwrap();
        prop_assert_eq!(serde_json::from_str::<Signature>(&json).unwrap(), own);
    }
}

/// Returns every signature of an input `x` and an optional one, and outputs `y` and `z`, of free or fixed lengths.
fn few_signatures() -> Vec<Signature> {
    let kinds = [floats(&[-1]), floats(&[1])];
    let one = |name: &str| kinds.clone().map(|kind| ports(&[(name, kind)]));
    let more = |before: &[Vec<Port>], name| {
        let pairs = before
            .iter()
            .flat_map(|before| one(name).map(|port| [before.clone(), port].concat()));
        pairs.collect::<Vec<_>>()
    };
    let none = vec![Vec::new()];
    let (x, y) = (more(&none, "x"), more(&none, "y"));
    let outputs = [none.clone(), more(&y, "z"), y].concat();
    let optional = Kind::Optional(Box::new(floats(&[1])));
    let mut inputs = [none, x].concat();
    let with_optional = inputs
        .iter()
        .map(|ports_before| [ports_before.clone(), ports(&[("o", optional.clone())])].concat());
    inputs.extend(with_optional.collect::<Vec<_>>());
    let pairs = inputs
        .iter()
        .flat_map(|inputs| outputs.iter().map(move |outputs| (inputs, outputs)));
    let all = pairs.map(|(inputs, outputs)| Signature {
        inputs: inputs.clone(),
        outputs: outputs.clone(),
    });
    all.collect()
}

#[test]
fn compatibility_is_transitive() {
    let all = few_signatures();
    assert_eq!(all.len(), 42);
    let mut steps = 0;
    for first in &all {
        for second in all
            .iter()
            .filter(|second| second.serves_callers_of(first).is_ok())
        {
            for third in all
                .iter()
                .filter(|third| third.serves_callers_of(second).is_ok())
            {
                assert_eq!(third.serves_callers_of(first), Ok(()));
                steps += usize::from(first != second && second != third);
            }
        }
    }
    assert!(steps > 100, "{steps} chains of three");
}
