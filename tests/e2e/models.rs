//! Exported models; outputs are compared with scikit-learn or ONNX Runtime in Python.

mod custom_ops;
mod real_models;
mod state;
mod two_functions;
mod zoo;
