//! Compatibility of two models in the `/predict` form.
//!
//! The form is short because it depends on the model's signature. A list of values is a column or a row. The response
//! has one output, a label with its probabilities, or all outputs by name. So a signature that is compatible by name
//! can still change the meaning of this form without an error.

use super::is_label;
use crate::protocol::rows::is_width_one;
use crate::tensor::{Kind, Signature};

/// Change of the `/predict` form for callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormChanged {
    /// A list of values for an input was a column and becomes a row.
    #[error(
        "a list of values for input {input:?} is a column in /predict now, and would become a row"
    )]
    Column {
        /// Name of the input.
        input: String,
    },
    /// The prediction is a different output.
    #[error("the prediction in /predict is {was} now, and would become {is}")]
    Prediction {
        /// Description of the previous prediction.
        was: String,
        /// Description of the new prediction.
        is: String,
    },
}

/// Checks that `after` has the same `/predict` form as `before`. Access by name is checked by
/// [`Signature::serves_callers_of`].
pub fn keeps_form(before: &Signature, after: &Signature) -> Result<(), FormChanged> {
    for port in &before.inputs {
        let after = after.input(&port.name);
        let stays = after.is_none_or(|after| is_width_one(&after.kind));
        if is_width_one(&port.kind) && !stays {
            let input = port.name.clone();
            return Err(FormChanged::Column { input });
        }
    }
    let (was, is) = (prediction(before), prediction(after));
    if was == is {
        return Ok(());
    }
    Err(FormChanged::Prediction { was, is })
}

/// Predicts the result of [`Prediction::of`](super::Prediction::of) from the signature.
fn prediction(signature: &Signature) -> String {
    if let [only] = &signature.outputs[..] {
        return format!("output {:?} alone", only.name);
    }
    let mut outputs = signature.outputs.iter();
    let label =
        outputs.find(|port| is_label(&port.name) && matches!(port.kind, Kind::Tensor { .. }));
    match label {
        Some(label) => format!("the label {:?}", label.name),
        None => "all outputs by name".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Datatype, Port};

    fn ports(ports: &[(&str, &[i64])]) -> Vec<Port> {
        let ports = ports.iter().map(|(name, shape)| Port {
            name: (*name).to_owned(),
            kind: Kind::Tensor {
                datatype: Datatype::Fp32,
                shape: shape.iter().map(|&dim| usize::try_from(dim).ok()).collect(),
            },
        });
        ports.collect()
    }

    #[test]
    fn an_additional_output_may_change_the_prediction() {
        let giving = |names: &[&str]| Signature {
            inputs: Vec::new(),
            outputs: ports(
                &names
                    .iter()
                    .map(|name| (*name, &[][..]))
                    .collect::<Vec<_>>(),
            ),
        };
        let change = |before: &[&str], after: &[&str]| {
            let changed = keeps_form(&giving(before), &giving(after)).err();
            changed.map_or_else(String::new, |changed| changed.to_string())
        };
        assert_eq!(change(&["y"], &["y"]), "");
        assert_eq!(change(&["y", "z"], &["y", "z", "more"]), "");
        assert_eq!(change(&["Label", "p"], &["Label", "p", "more"]), "");
        assert_eq!(
            change(&["y"], &["y", "z"]),
            r#"the prediction in /predict is output "y" alone now, and would become all outputs by name"#
        );
        assert_eq!(
            change(&["y", "z"], &["y", "z", "label"]),
            r#"the prediction in /predict is all outputs by name now, and would become the label "label""#
        );
    }

    #[test]
    fn a_column_whose_width_becomes_free_becomes_a_row() {
        let taking = |shape: &[i64]| Signature {
            inputs: ports(&[("age", shape)]),
            outputs: ports(&[("y", &[])]),
        };
        let (column, free) = (taking(&[-1, 1]), taking(&[-1, -1]));
        assert_eq!(keeps_form(&column, &column), Ok(()));
        assert_eq!(keeps_form(&free, &free), Ok(()));
        assert_eq!(keeps_form(&taking(&[1]), &taking(&[-1])), Ok(()));
        let input = "age".to_owned();
        assert_eq!(
            keeps_form(&column, &free),
            Err(FormChanged::Column { input })
        );
    }
}
