//! Properties of a model that a publisher should know before the model is in production.

use model_sidecar::onnx::Outline;
use model_sidecar::tensor::{Kind, Signature};

/// Operators that run subgraphs depending on values.
const CONTROL_FLOW: [&str; 3] = ["If", "Loop", "Scan"];
/// Limit of `/tmp` without configuration, in bytes.
const DEFAULT_TMP: u64 = 512 << 20;

/// Returns the findings, each with its consequence.
pub(super) fn of(signature: &Signature, outline: &Outline, bytes: u64) -> Vec<String> {
    let mut findings = Vec::new();
    let control: Vec<&str> = CONTROL_FLOW
        .into_iter()
        .filter(|operator| outline.operators.contains_key(*operator))
        .collect();
    if !control.is_empty() {
        findings.push(format!(
            "dynamic control flow ({}): the time of a run depends on the values of a request",
            control.join(", ")
        ));
    }
    for port in &signature.outputs {
        if port.kind.is_sequence_of_maps() {
            findings.push(format!(
                "output {:?} is a sequence of maps (ZipMap): it is returned as a tensor with a column per class; export \
                 with zipmap=False to avoid the conversion",
                port.name
            ));
        }
    }
    for (side, ports) in [("input", &signature.inputs), ("output", &signature.outputs)] {
        for port in ports {
            if let Kind::Other(kind) = &port.kind {
                findings.push(format!(
                    "{side} {:?} is a {kind}, which the sidecar does not support: requests for it fail",
                    port.name
                ));
            }
        }
    }
    if let Some(batch) = signature.fixed_batch() {
        findings.push(format!(
            "the first dimension is fixed to {batch}: requests with more rows run in several runs, and batching is not \
             possible"
        ));
    }
    let custom = outline.operators.keys().filter(|name| is_custom(name));
    let custom: Vec<&str> = custom.map(String::as_str).collect();
    if !custom.is_empty() {
        findings.push(format!(
            "operators outside ONNX ({}): the function needs the same ONNX Runtime, or MODEL_CUSTOM_OPS",
            custom.join(", ")
        ));
    }
    if bytes > DEFAULT_TMP {
        findings.push(
            "larger than the 512 MB of /tmp that a function has by default: set its ephemeral storage to twice the size \
             of the model"
                .to_owned(),
        );
    }
    findings
}

fn is_custom(operator: &str) -> bool {
    operator
        .rsplit_once('.')
        .is_some_and(|(domain, _)| !matches!(domain, "ai.onnx.ml" | "ai.onnx.training"))
}

/// Remedy for an error of a load, to append to it.
pub(super) fn remedy(error: &str) -> &'static str {
    // ONNX Runtime's texts.
    if error.contains("is not a registered function/op") || error.contains("No Op registered for") {
        "; the operator is unknown: name its library in MODEL_CUSTOM_OPS of the function, and publish with --no-load"
    } else if error.contains("Unsupported model IR version") || error.contains("opset") {
        "; the model is newer than ONNX Runtime here: export it with an older opset"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_with_consequences_are_found() {
        let mut outline = Outline::default();
        for operator in ["If", "Gemm", "ai.onnx.ml.Scaler", "com.microsoft.FusedGemm"] {
            outline.operators.insert(operator.to_owned(), 1);
        }
        let findings = of(&Signature::default(), &outline, 600 << 20);
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(findings[0].contains("control flow (If)"));
        assert!(findings[1].contains("(com.microsoft.FusedGemm)"));
        assert!(findings[2].contains("/tmp"));
        assert_eq!(of(&Signature::default(), &Outline::default(), 1), [""; 0]);
    }
}
