//! Property tests of the codecs over all datatypes, shapes, values and texts.

use proptest::prelude::*;

use super::*;
use crate::tensor::strategies;

fn any_data() -> impl Strategy<Value = (Vec<usize>, Data)> {
    let shape = prop::collection::vec(0_usize..4, 0..4);
    (shape, 0..Datatype::ALL.len()).prop_flat_map(|(shape, which)| {
        let count: usize = shape.iter().product();
        // Not NaN, which is not equal to itself.
        let data = strategies::data(Datatype::ALL[which], count, false);
        (Just(shape), data)
    })
}

/// Encodes a tensor as an output and decodes it as an input.
fn through(given: &Tensor, in_binary: bool) -> Tensor {
    let declared: Vec<_> = given.shape().iter().map(|_| None).collect();
    let signature = one_input(given.datatype(), &declared);
    let asked = format!(r#"{{"inputs":[],"parameters":{{"binary_data_output":{in_binary}}}}}"#);
    let (_, reply) = v2_decode(&asked, &Signature::default()).unwrap();
    let outputs = vec![("x".to_owned(), Value::Tensor(given.clone()))];
    let encoded = reply.encode(BY, outputs);
    assert_eq!(encoded.header_length.is_some(), in_binary);
    let whole = encoded.pieces.concat();
    let length = encoded.header_length.unwrap_or(whole.len());
    // Outputs and inputs have the same form.
    let text = std::str::from_utf8(&whole[..length]).unwrap();
    let request = text.replacen("\"outputs\":", "\"inputs\":", 1);
    let body = [request.as_bytes(), &whole[length..]].concat();
    let header = in_binary.then_some(request.len());
    let (decoded, _) =
        v2::decode(&body.into(), header, &signature, &mut Charge::unlimited()).unwrap();
    match decoded.inputs.into_iter().next().unwrap().1 {
        Value::Tensor(tensor) => tensor,
        other => panic!("{other:?}"),
    }
}

proptest! {
    /// Responses are decoded as requests unchanged, for every datatype, shape and value.
    #[test]
    fn encoded_values_are_decoded_unchanged((shape, data) in any_data()) {
        let given = Tensor::new(shape.clone(), data).unwrap();
        let name = given.datatype().name();
        let declared: Vec<_> = shape.iter().map(|_| None).collect();
        let signature = one_input(given.datatype(), &declared);
        let answer = v2_encode(&[("x".to_owned(), Value::Tensor(given.clone()))]);
        let answer: Json = serde_json::from_slice(&answer).unwrap();
        prop_assert_eq!(&answer["outputs"][0]["datatype"], name);
        // The data's text is used unchanged: a tree of values would round.
        let text = String::from_utf8(v2_encode(&[("x".to_owned(), Value::Tensor(given.clone()))])).unwrap();
        let data = &text[text.find("\"data\":").unwrap() + 7..text.len() - 3];
        let request = format!(r#"{{"inputs":[{{"name":"x","datatype":"{name}","shape":{shape:?},"data":{data}}}]}}"#);
        let (decoded, _) = v2_decode(&request, &signature).unwrap();
        prop_assert_eq!(&decoded.inputs[0].1, &Value::Tensor(given));
    }

    /// JSON and binary are equivalent in both directions, to the last bit.
    #[test]
    fn binary_and_json_are_equivalent((shape, data) in any_data()) {
        let given = Tensor::new(shape, data).unwrap();
        let by_json = through(&given, false);
        prop_assert_eq!(&by_json, &given);
        prop_assert_eq!(through(&given, true), by_json);
    }

    /// Binary tensors keep the bits of NaN.
    #[test]
    fn binary_keeps_every_bit(which in 0..Datatype::ALL.len(), seed in any::<u64>()) {
        let datatype = Datatype::ALL[which];
        let data = strategies::data(datatype, 5, true);
        let mut runner = proptest::test_runner::TestRunner::new_with_rng(
            proptest::test_runner::Config::default(),
            proptest::test_runner::TestRng::from_seed(
                proptest::test_runner::RngAlgorithm::ChaCha,
                &[seed.to_le_bytes(); 4].concat(),
            ),
        );
        let data = data.new_tree(&mut runner).unwrap().current();
        let given = Tensor::new(vec![5], data).unwrap();
        let again = through(&given, true);
        let bits = |tensor: Tensor| binary::tensor_bytes(tensor);
        prop_assert_eq!(bits(again), bits(given));
    }

    /// False lengths yield a tensor or an error, never a panic.
    #[test]
    fn false_lengths_are_errors(
        which in 0..Datatype::ALL.len(),
        shape in prop::collection::vec(0_usize..5, 0..3),
        size in 0_usize..80,
        bytes in prop::collection::vec(prop_oneof![0_u8..3, any::<u8>()], 0..80),
        header in prop::option::of(0_usize..300),
    ) {
        let datatype = Datatype::ALL[which];
        let declared: Vec<_> = shape.iter().map(|_| None).collect();
        let signature = one_input(datatype, &declared);
        let head = binary::head(datatype, &shape, size);
        let mut body = head.clone().into_bytes();
        body.extend_from_slice(&bytes);
        let body = Bytes::from(body);
        for header in [header, Some(head.len()), Some(0)] {
            if let Ok((decoded, _)) = v2::decode(&body, header, &signature, &mut Charge::unlimited()) {
                let Value::Tensor(tensor) = &decoded.inputs[0].1 else { panic!() };
                prop_assert_eq!(tensor.datatype(), datatype);
            }
        }
    }

    /// No text makes a decoder panic.
    #[test]
    fn arbitrary_text_does_not_panic(text in ".{0,200}", data in "[\\[\\]{}\",:0-9eE.+\\- nulltrue]{0,60}") {
        let signature = one_input(Datatype::Fp32, &[None, Some(2)]);
        let _ = v2_decode(&text, &signature);
        let _ = v2_decode(&format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,2],"data":{data}}}]}}"#), &signature);
        let _ = predict::decode(text.as_bytes(), &signature, &mut Charge::unlimited());
        let _ = predict::decode(format!("{{\"features\":{data}}}").as_bytes(), &signature, &mut Charge::unlimited());
        let mut charge = Charge::unlimited();
        let mut decoding = Decoding::new(&mut charge);
        let _ = array::read(&data, Datatype::Bytes, &"data", Some(3), &mut decoding);
    }
}
