//! Triton's model configuration extension.
//!
//! Specification:
//! <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_configuration.md>. Some
//! Triton clients (pytriton) read the configuration before their first request. `max_batch_size` is 0: the shape of a
//! request is the shape of the tensor.

use serde::Serialize;

use super::{ServingVersion, containers, json_writer, outline};
use crate::tensor::{Datatype, Kind, Port, Signature};

/// Name of the extension in the server's metadata.
pub const CONFIGURATION_EXTENSION: &str = "model_configuration";

#[derive(Serialize)]
struct Configuration<'a> {
    name: &'a str,
    platform: &'static str,
    backend: &'static str,
    max_batch_size: u32,
    input: Vec<ConfiguredPort<'a>>,
    output: Vec<ConfiguredPort<'a>>,
}

#[derive(Serialize)]
struct ConfiguredPort<'a> {
    name: &'a str,
    data_type: String,
    dims: Vec<i64>,
    /// `true` if an input may be absent.
    optional: bool,
}

/// Encodes a model's configuration.
#[must_use]
pub fn configuration(served_by: ServingVersion<'_>, signature: &Signature) -> Vec<u8> {
    let configuration = Configuration {
        name: served_by.model,
        platform: "onnxruntime_onnx",
        backend: "onnxruntime",
        max_batch_size: 0,
        input: signature.inputs.iter().map(configured).collect(),
        output: signature.outputs.iter().map(configured).collect(),
    };
    let mut out = Vec::with_capacity(512);
    json_writer::json(&mut out, &configuration);
    out
}

fn configured(port: &Port) -> ConfiguredPort<'_> {
    let (name, dims) = outline(containers::given(&port.kind));
    let data_type = match Datatype::from_name(name) {
        Some(Datatype::Bytes) => "TYPE_STRING".to_owned(),
        Some(datatype) => format!("TYPE_{}", datatype.name()),
        None => "TYPE_INVALID".to_owned(),
    };
    ConfiguredPort {
        name: &port.name,
        data_type,
        dims,
        optional: matches!(port.kind, Kind::Optional(_)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn ports_have_tritons_datatypes() {
        let port = |kind: Kind| Port {
            name: "p".to_owned(),
            kind,
        };
        let tensor = |datatype| Kind::Tensor {
            datatype,
            shape: vec![None, Some(3)],
        };
        let (key, value) = (Datatype::Int64, Datatype::Fp32);
        let map = Kind::Map { key, value };
        let configured = |data_type: &str, dims: &[i64], optional: bool| json!({"name": "p", "data_type": data_type, "dims": dims, "optional": optional});
        let optional = |kind| Kind::Optional(Box::new(kind));
        let sequence = |kind| Kind::Sequence(Box::new(kind));
        for (kind, expected) in [
            (tensor(Datatype::Fp32), ("TYPE_FP32", vec![-1, 3], false)),
            (tensor(Datatype::Bf16), ("TYPE_BF16", vec![-1, 3], false)),
            (tensor(Datatype::Bytes), ("TYPE_STRING", vec![-1, 3], false)),
            (
                optional(tensor(Datatype::Bool)),
                ("TYPE_BOOL", vec![-1, 3], true),
            ),
            (sequence(map.clone()), ("TYPE_FP32", vec![-1, -1], false)),
            (map, ("TYPE_INVALID", vec![-1], false)),
        ] {
            let signature = Signature {
                inputs: vec![port(kind.clone())],
                outputs: vec![port(kind)],
            };
            let served_by = ServingVersion {
                model: "m",
                version: "1",
            };
            let written: Value =
                serde_json::from_slice(&configuration(served_by, &signature)).unwrap();
            let (data_type, dims, optional) = expected;
            let expected = configured(data_type, &dims, optional);
            assert_eq!(written["input"], json!([expected]));
            assert_eq!(written["output"], json!([expected]));
            assert_eq!(written["max_batch_size"], 0);
        }
    }
}
