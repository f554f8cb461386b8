//! Whether two models are asked and answer in the same form of `/predict`.
//!
//! That form is short because it goes by the model's signature: a list of values is a column or a row, and the answer is
//! one output, or the label and what belongs to it, or all outputs by name. So a signature that is compatible name by name
//! can still give callers of this form something else than before, without an error.

use super::{is_label, is_width_one};
use crate::tensor::{Kind, Signature};

/// What callers of `/predict` would meet in another form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormChanged {
    /// A list of values for an input, which was a column, is a row.
    #[error(
        "a list of values for input {input:?} filled a column in /predict, and would be one row"
    )]
    Column {
        /// The input's name.
        input: String,
    },
    /// The prediction is another output.
    #[error("the prediction in /predict was {was}, and would be {is}")]
    Prediction {
        /// What it was, in words.
        was: String,
        /// What it is.
        is: String,
    },
}

/// Whether the callers of `before` who use `/predict` are understood and answered by `after` as they were. What they see by
/// name is for [`Signature::serves_callers_of`] to say.
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

/// What [`Prediction::of`](super::Prediction::of) will find, as far as the signature tells.
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
    fn an_output_more_may_be_another_prediction() {
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
            r#"the prediction in /predict was output "y" alone, and would be all outputs by name"#
        );
        assert_eq!(
            change(&["y", "z"], &["y", "z", "label"]),
            r#"the prediction in /predict was all outputs by name, and would be the label "label""#
        );
    }

    #[test]
    fn a_column_that_becomes_free_would_be_a_row() {
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
