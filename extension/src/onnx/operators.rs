//! Operators whose work follows from the shapes of their inputs: none for which a value says how much there is to do, as
//! it does for a loop, a range, or a resize.
//!
//! The list is of those that small models are made of. What is missing in it is not known to have fixed work, which
//! costs such a model some microseconds; what is wrong in it could hold up a server.
//!
//! Specification: <https://onnx.ai/onnx/operators/>.

/// Longer than any name here.
pub(super) const LONGEST: usize = 32;

/// A set of operators.
#[derive(Clone, Copy, Debug)]
pub(super) enum Domain {
    /// ONNX's own.
    Onnx,
    /// Those of classic machine learning.
    Ml,
}

/// The domain of this name, if anything is known of it.
pub(super) fn domain(name: &[u8]) -> Option<Domain> {
    match name {
        b"" | b"ai.onnx" => Some(Domain::Onnx),
        b"ai.onnx.ml" => Some(Domain::Ml),
        _ => None,
    }
}

impl Domain {
    /// Whether the work of the operator of this name is known to follow from the shapes of its inputs.
    pub(super) fn has_fixed_work(self, operator: &[u8]) -> bool {
        let known = match self {
            Domain::Onnx => ONNX,
            Domain::Ml => ML,
        };
        known.iter().any(|name| name.as_bytes() == operator)
    }
}

const ONNX: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "CastLike",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "Cos",
    "CumSum",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "MatMul",
    "MatMulInteger",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pow",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
    "RNN",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Round",
    "Selu",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sin",
    "Size",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "ThresholdedRelu",
    "TopK",
    "Transpose",
    "Unsqueeze",
    "Where",
    "Xor",
];

const ML: &[&str] = &[
    "ArrayFeatureExtractor",
    "Binarizer",
    "CastMap",
    "CategoryMapper",
    "DictVectorizer",
    "FeatureVectorizer",
    "Imputer",
    "LabelEncoder",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "OneHotEncoder",
    "SVMClassifier",
    "SVMRegressor",
    "Scaler",
    "TreeEnsemble",
    "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
    "ZipMap",
];
