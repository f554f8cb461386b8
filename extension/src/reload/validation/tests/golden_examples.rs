//! Golden examples made from responses of `POST …/infer`, for every datatype.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;
use crate::protocol::ServingVersion;
use crate::tensor::strategies;

/// A tensor, and the index of one of its elements.
fn any_tensor() -> impl Strategy<Value = (Tensor, usize)> {
    let shape = prop::collection::vec(1_usize..4, 0..4);
    (shape, prop::sample::select(Datatype::ALL)).prop_flat_map(|(shape, datatype)| {
        let count: usize = shape.iter().product();
        let tensor = strategies::data(datatype, count, true)
            .prop_map(move |data| Tensor::new(shape.clone(), data).unwrap());
        (tensor, 0..count)
    })
}

/// A number that differs from `number` by more than the tolerance.
fn far_from(number: f64) -> f64 {
    if number.is_finite() {
        2.0 * number + 1.0_f64.copysign(number)
    } else {
        0.0
    }
}

/// The tensor with another element at `place`.
fn with_another(tensor: &Tensor, place: usize) -> Tensor {
    let (shape, mut data) = tensor.clone().into_parts();
    #[expect(clippy::cast_possible_truncation, reason = "the element's own type")]
    match &mut data {
        Data::Bool(all) => all.to_mut()[place] ^= true,
        Data::Uint8(all) => all.to_mut()[place] ^= 1,
        Data::Uint16(all) => all.to_mut()[place] ^= 1,
        Data::Uint32(all) => all.to_mut()[place] ^= 1,
        Data::Uint64(all) => all.to_mut()[place] ^= 1,
        Data::Int8(all) => all.to_mut()[place] ^= 1,
        Data::Int16(all) => all.to_mut()[place] ^= 1,
        Data::Int32(all) => all.to_mut()[place] ^= 1,
        Data::Int64(all) => all.to_mut()[place] ^= 1,
        Data::Fp16(all) => all.to_mut()[place] = half::f16::from_f64(far_from(all[place].to_f64())),
        Data::Bf16(all) => {
            all.to_mut()[place] = half::bf16::from_f64(far_from(all[place].to_f64()));
        }
        Data::Fp32(all) => all.to_mut()[place] = far_from(f64::from(all[place])) as f32,
        Data::Fp64(all) => all.to_mut()[place] = far_from(all[place]),
        Data::Bytes(all) => {
            let other = |(index, string): (usize, &str)| {
                let end = if index == place { "." } else { "" };
                format!("{string}{end}")
            };
            *all = all.iter().enumerate().map(other).collect();
        }
    }
    Tensor::new(shape, data).unwrap()
}

/// The tensor with its 32-bit and 64-bit floats changed by half of the tolerance.
fn nearly(tensor: &Tensor) -> Tensor {
    let (shape, mut data) = tensor.clone().into_parts();
    match &mut data {
        Data::Fp32(all) => all
            .to_mut()
            .iter_mut()
            .for_each(|element| *element *= 1.000_05),
        Data::Fp64(all) => all
            .to_mut()
            .iter_mut()
            .for_each(|element| *element *= 1.000_05),
        _ => {}
    }
    Tensor::new(shape, data).unwrap()
}

/// A model without inputs whose output is `tensor`.
fn model_returning(tensor: Tensor) -> Model {
    let shape = tensor.shape().iter().map(|&length| Some(length)).collect();
    let kind = Kind::Tensor {
        datatype: tensor.datatype(),
        shape,
    };
    let name = "y".to_owned();
    let mut model = model_with(Answer::Outputs(vec![(name.clone(), Value::Tensor(tensor))]));
    model.signature = Signature {
        inputs: Vec::new(),
        outputs: vec![Port { name, kind }],
    };
    model
}

/// The golden example whose expected outputs are the outputs of `model`.
fn golden_of(model: &Model) -> Golden {
    #[derive(Deserialize)]
    struct Infer<'a> {
        #[serde(borrow)]
        outputs: &'a RawValue,
    }
    let outputs = model.run(&[], &[], &Cancel::default()).unwrap();
    let by = ServingVersion {
        model: "m",
        version: "1",
    };
    let answer = v2::ResponseFormat::default()
        .encode(by, outputs.clone())
        .pieces
        .concat();
    let answer: Infer<'_> = serde_json::from_slice(&answer).unwrap();
    let golden = format!(r#"{{"inputs":[],"outputs":{}}}"#, answer.outputs.get());
    serde_json::from_str(&golden).unwrap()
}

fn passes(golden: &Golden, tensor: Tensor) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let criteria = AcceptanceCriteria {
        golden: vec![golden.clone()],
        ..AcceptanceCriteria::default()
    };
    Validation::new(criteria)
        .validate(&model_returning(tensor))
        .is_ok()
}

proptest! {
    #[test]
    fn an_output_matches_itself_and_no_other((tensor, place) in any_tensor()) {
        let golden = golden_of(&model_returning(tensor.clone()));
        prop_assert!(passes(&golden, tensor.clone()));
        prop_assert!(!passes(&golden, with_another(&tensor, place)));
    }

    #[test]
    fn an_output_within_the_tolerance_is_accepted(
        numbers in prop::collection::vec(-1e30_f32..1e30, 1..5),
        wide in any::<bool>(),
    ) {
        let shape = vec![numbers.len()];
        let tensor = if wide {
            Tensor::new(shape, numbers.into_iter().map(f64::from).collect::<Vec<_>>())
        } else {
            Tensor::new(shape, numbers)
        };
        let tensor = tensor.unwrap();
        let golden = golden_of(&model_returning(tensor.clone()));
        prop_assert!(passes(&golden, nearly(&tensor)));
    }
}
