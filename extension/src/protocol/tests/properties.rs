//! The codecs over all datatypes, shapes, values and texts.

use proptest::prelude::*;

use super::*;
use crate::tensor::strategies;

fn any_data() -> impl Strategy<Value = (Vec<usize>, Data)> {
    let shape = prop::collection::vec(0_usize..4, 0..4);
    (shape, 0..Datatype::ALL.len()).prop_flat_map(|(shape, which)| {
        let count: usize = shape.iter().product();
        // Not NaN, which is equal to nothing.
        let data = strategies::data(Datatype::ALL[which], count, false);
        (Just(shape), data)
    })
}

proptest! {
    /// What an answer writes, a request reads back: for every datatype, shape and value.
    #[test]
    fn what_is_written_is_read_back((shape, data) in any_data()) {
        let given = Tensor::new(shape.clone(), data).unwrap();
        let name = given.datatype().name();
        let declared: Vec<_> = shape.iter().map(|_| None).collect();
        let signature = one_input(given.datatype(), &declared);
        let answer = v2::encode(BY, None, &[("x".to_owned(), Value::Tensor(given.clone()))]);
        let answer: Json = serde_json::from_slice(&answer).unwrap();
        prop_assert_eq!(&answer["outputs"][0]["datatype"], name);
        // The text of the data goes over as it is: a tree of values would round.
        let text = String::from_utf8(v2::encode(BY, None, &[("x".to_owned(), Value::Tensor(given.clone()))])).unwrap();
        let data = &text[text.find("\"data\":").unwrap() + 7..text.len() - 3];
        let request = format!(r#"{{"inputs":[{{"name":"x","datatype":"{name}","shape":{shape:?},"data":{data}}}]}}"#);
        let (decoded, _) = v2::decode(request.as_bytes(), &signature).unwrap();
        prop_assert_eq!(&decoded.inputs[0].1, &Value::Tensor(given));
    }

    /// No text makes a decoder panic.
    #[test]
    fn any_text_is_an_answer(text in ".{0,200}", data in "[\\[\\]{}\",:0-9eE.+\\- nulltrue]{0,60}") {
        let signature = one_input(Datatype::Fp32, &[None, Some(2)]);
        let _ = v2::decode(text.as_bytes(), &signature);
        let _ = predict::decode(text.as_bytes(), &signature);
        let _ = predict::decode(format!("{{\"features\":{data}}}").as_bytes(), &signature);
        let _ = array::read(&data, Datatype::Bytes, "data", 3);
    }
}
