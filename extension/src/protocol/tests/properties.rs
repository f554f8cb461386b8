//! The codecs over all datatypes, shapes, values and texts.

use proptest::prelude::*;

use super::*;

fn of<T: Clone + std::fmt::Debug + 'static>(
    count: usize,
    element: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Data>
where
    Data: From<Vec<T>>,
{
    prop::collection::vec(element, count)
        .prop_map(Data::from)
        .boxed()
}

fn any_data() -> impl Strategy<Value = (Vec<usize>, Data)> {
    let shape = prop::collection::vec(0_usize..4, 0..4);
    (shape, 0..Datatype::ALL.len()).prop_flat_map(|(shape, which)| {
        let count: usize = shape.iter().product();
        let data = match Datatype::ALL[which] {
            Datatype::Bool => of(count, any::<bool>()),
            Datatype::Uint8 => of(count, any::<u8>()),
            Datatype::Uint16 => of(count, any::<u16>()),
            Datatype::Uint32 => of(count, any::<u32>()),
            Datatype::Uint64 => of(count, any::<u64>()),
            Datatype::Int8 => of(count, any::<i8>()),
            Datatype::Int16 => of(count, any::<i16>()),
            Datatype::Int32 => of(count, any::<i32>()),
            Datatype::Int64 => of(count, any::<i64>()),
            // Not NaN, which is equal to nothing.
            Datatype::Fp16 => of(
                count,
                any::<u16>()
                    .prop_map(half::f16::from_bits)
                    .prop_filter("NaN", |v| !v.is_nan()),
            ),
            Datatype::Bf16 => of(
                count,
                any::<u16>()
                    .prop_map(half::bf16::from_bits)
                    .prop_filter("NaN", |v| !v.is_nan()),
            ),
            Datatype::Fp32 => of(
                count,
                any::<u32>()
                    .prop_map(f32::from_bits)
                    .prop_filter("NaN", |v| !v.is_nan()),
            ),
            Datatype::Fp64 => of(
                count,
                any::<u64>()
                    .prop_map(f64::from_bits)
                    .prop_filter("NaN", |v| !v.is_nan()),
            ),
            Datatype::Bytes => of(count, any::<String>()),
        };
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
