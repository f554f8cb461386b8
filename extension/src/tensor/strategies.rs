//! Proptest strategies for elements of any datatype.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Data, Datatype, Maps, Tensor};

/// Returns `count` elements of this datatype: any value, NaN only if `with_nan` is `true`.
pub(crate) fn data(datatype: Datatype, count: usize, with_nan: bool) -> BoxedStrategy<Data> {
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
    macro_rules! float {
        ($bits:ty, $float:ty) => {
            any::<$bits>()
                .prop_map(<$float>::from_bits)
                .prop_filter("NaN", move |value| with_nan || !value.is_nan())
        };
    }
    match datatype {
        Datatype::Bool => of(count, any::<bool>()),
        Datatype::Uint8 => of(count, any::<u8>()),
        Datatype::Uint16 => of(count, any::<u16>()),
        Datatype::Uint32 => of(count, any::<u32>()),
        Datatype::Uint64 => of(count, any::<u64>()),
        Datatype::Int8 => of(count, any::<i8>()),
        Datatype::Int16 => of(count, any::<i16>()),
        Datatype::Int32 => of(count, any::<i32>()),
        Datatype::Int64 => of(count, any::<i64>()),
        Datatype::Fp16 => of(count, float!(u16, half::f16)),
        Datatype::Bf16 => of(count, float!(u16, half::bf16)),
        Datatype::Fp32 => of(count, float!(u32, f32)),
        Datatype::Fp64 => of(count, float!(u64, f64)),
        Datatype::Bytes => of(count, any::<String>()),
    }
}

/// Returns `count` maps with the same keys, from integers or strings to floats.
pub(crate) fn maps(count: usize) -> impl Strategy<Value = Maps> {
    let width = 1_usize..5;
    (any::<bool>(), width).prop_flat_map(move |(texts, width)| {
        let keys: Data = if texts {
            (0..width)
                .map(|key| format!("class \"{key}\""))
                .collect::<Vec<_>>()
                .into()
        } else {
            (0_i64..)
                .take(width)
                .map(|key| 7 - key)
                .collect::<Vec<_>>()
                .into()
        };
        data(Datatype::Fp32, count * width, false).prop_map(move |values| {
            let values = Tensor::new(vec![count, width], values).unwrap();
            Maps::new(Arc::new(keys.clone()), values).unwrap()
        })
    })
}
