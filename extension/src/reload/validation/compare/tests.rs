//! Comparison of outputs within tolerances, and the description of a difference.

use super::*;

fn tensor(shape: &[usize], data: impl Into<Data>) -> Tensor {
    Tensor::new(shape.to_vec(), data).unwrap()
}

const TOLERANCE: Tolerance = Tolerance {
    absolute: 0.5,
    relative: 0.0,
};

/// Returns the description of the first difference, or an empty string within the tolerance.
fn said(expected: &Tensor, got: &Tensor) -> String {
    let difference = compare(expected, got, TOLERANCE).err();
    difference.map_or_else(String::new, |difference| difference.to_string())
}

#[test]
fn the_first_difference_is_told_and_how_many_there_are() {
    let expected = tensor(&[2, 3], vec![0.0_f32, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let got = tensor(&[2, 3], vec![0.5_f32, 1.0, 1.5, 3.0, 4.75, 6.0]);
    assert_eq!(
        said(&expected, &got),
        "[1, 1] is 4.75, and 4.0 is expected (tolerance: absolute 5e-1, relative 0e0); 2 of 6 elements differ"
    );
    let (expected, got) = (tensor(&[], vec![7_i64]), tensor(&[], vec![8_i64]));
    assert_eq!(
        said(&expected, &got),
        " is 8, and 7 is expected; 1 of 1 elements differ"
    );
    let text = |text: &str| tensor(&[1], vec![text.to_owned()]);
    assert_eq!(
        said(&text("legit"), &text("fra\nud")),
        r#"[0] is "fra\nud", and "legit" is expected; 1 of 1 elements differ"#
    );
    let long = said(&text("legit"), &text(&"x".repeat(1 << 20)));
    assert!(long.len() < 1_000, "{} bytes", long.len());
}

#[test]
fn datatype_and_shape_are_exact() {
    let expected = tensor(&[1, 2], vec![1.0_f32, 2.0]);
    assert_eq!(
        said(&expected, &tensor(&[1, 2], vec![1.0_f64, 2.0])),
        " is of FP64, and FP32 is expected"
    );
    assert_eq!(
        said(&expected, &tensor(&[2], vec![1.0_f32, 2.0])),
        " has shape [2], and [1, 2] is expected"
    );
    let empty = tensor(&[0, 2], Vec::<f32>::new());
    assert_eq!(said(&empty, &empty), "");
}

#[test]
fn what_is_no_number_is_met_by_itself_alone() {
    let all = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0];
    for (expected, got) in all.iter().flat_map(|one| all.map(|other| (*one, other))) {
        let same = expected.to_bits() == got.to_bits();
        let said = said(&tensor(&[1], vec![expected]), &tensor(&[1], vec![got]));
        assert_eq!(said.is_empty(), same, "{got} for {expected}: {said}");
    }
    // NaN equals NaN with other bits.
    let other = tensor(&[1], vec![f32::from_bits(0xffc0_0001)]);
    assert_eq!(said(&tensor(&[1], vec![f32::NAN]), &other), "");
}
