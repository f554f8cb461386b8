//! A loaded model and its runs.
//!
//! Runs use the C API, since the bindings allow one run of a session at a time. The bindings must, because they support
//! any execution provider, and some providers have state that runs share. This sidecar uses the CPU provider only, and
//! ONNX Runtime guarantees that any number of threads may run a session concurrently. The caller decides how many do.
#![expect(
    unsafe_code,
    reason = "the bindings do not support concurrent runs; each block says why it is sound"
)]

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ort::AsPointer as _;
use ort::error::ErrorCode;
use ort::memory::MemoryInfo;
use ort::session::RunOptions;
use ort::sys;
use ort::value::{DynValue, ValueType};

use super::bindings::{catch_panic, message};
use super::values::{self, NativeValue, RunInput};
use super::{Cancel, EngineError, OutOfMemory, Session};
use crate::onnx::ZipMapOutput;
use crate::tensor::{Data, Datatype, Kind, Maps, Port, SharedDimensions, Signature, Tensor, Value};

pub(super) struct OnnxSession {
    signature: Signature,
    shared_dimensions: SharedDimensions,
    /// Names of the signature's inputs and outputs in its order, as the C API takes them.
    inputs: Vec<CString>,
    outputs: Vec<CString>,
    /// An empty sequence for each input that may be a sequence of tensors.
    empty: Vec<Option<DynValue>>,
    session: ort::session::Session,
    /// For each output that represents a `ZipMap`: the keys of its maps.
    zipmap_keys: Vec<Option<Arc<Data>>>,
    /// `true` if the next run must release unused memory at its end.
    releases_memory: AtomicBool,
    has_fixed_work: bool,
    /// Limit of the shared arena in bytes.
    arena: Option<u64>,
    /// Description of the memory of the inputs.
    memory: MemoryInfo<'static>,
}

impl Session for OnnxSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn shared_dimensions(&self) -> &SharedDimensions {
        &self.shared_dimensions
    }

    fn run(
        &self,
        inputs: &[(String, Value)],
        outputs: &[String],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Value)>, EngineError> {
        catch_panic(|| self.try_run(inputs, outputs, cancel))
            .unwrap_or_else(|panic| Err(EngineError::Panicked(panic)))
    }

    fn has_fixed_work(&self) -> bool {
        self.has_fixed_work
    }

    fn release_spare_memory(&self) {
        self.releases_memory.store(true, Ordering::Relaxed);
    }

    fn shrink(&self) {
        let done = catch_panic(|| self.try_shrink());
        if !matches!(done, Ok(Ok(()))) {
            self.release_spare_memory();
        }
    }
}

impl OnnxSession {
    /// Creates a session. For `has_fixed_work` see [`Description`](crate::onnx::Description::has_fixed_work);
    /// `zipmap_outputs` maps the tensors that [replace `ZipMap` outputs](crate::onnx::ModelWithoutZipMap). Empty
    /// sequences of tensors come from `empty_sequence`.
    pub(super) fn new(
        session: ort::session::Session,
        has_fixed_work: bool,
        mut zipmap_outputs: BTreeMap<String, ZipMapOutput>,
        arena: Option<u64>,
        empty_sequence: impl Fn(Datatype) -> Option<DynValue>,
    ) -> Self {
        let ports = |outlets: &[ort::value::Outlet]| -> Vec<Port> {
            let port = |outlet: &ort::value::Outlet| Port {
                name: outlet.name().to_owned(),
                kind: values::kind(outlet.dtype()),
            };
            outlets.iter().map(port).collect()
        };
        // An initializer that is also an input is the default of that input.
        let with_default = session
            .overridable_initializers()
            .into_iter()
            .map(|input| Port {
                name: input.name().to_owned(),
                kind: Kind::Optional(Box::new(values::kind(input.dtype()))),
            });
        let names = session.inputs().iter().filter_map(dimension_names);
        let shared_dimensions = SharedDimensions::of(names);
        let mut inputs = ports(session.inputs());
        inputs.extend(with_default);
        let mut outputs = ports(session.outputs());
        // The library returned the names as C strings, so none contains a NUL.
        let names = |ports: &[Port]| {
            let name = |port: &Port| CString::new(port.name.as_str()).unwrap_or_default();
            ports.iter().map(name).collect()
        };
        let (input_names, output_names) = (names(&inputs), names(&outputs));
        let zipmap_keys = outputs
            .iter_mut()
            .map(|output| {
                let ZipMapOutput { name, keys } = zipmap_outputs.remove(&output.name)?;
                let (key, value) = (keys.datatype(), Datatype::Fp32);
                let kind = Kind::Sequence(Box::new(Kind::Map { key, value }));
                *output = Port { name, kind };
                Some(Arc::new(keys))
            })
            .collect();
        let empty = |input: &Port| input.kind.sequence_datatype().and_then(&empty_sequence);
        let empty = inputs.iter().map(empty).collect();
        Self {
            signature: Signature { inputs, outputs },
            shared_dimensions,
            inputs: input_names,
            outputs: output_names,
            empty,
            session,
            zipmap_keys,
            releases_memory: AtomicBool::new(false),
            has_fixed_work,
            arena,
            memory: MemoryInfo::default(),
        }
    }

    fn try_run(
        &self,
        inputs: &[(String, Value)],
        outputs: &[String],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Value)>, EngineError> {
        let requested = self.requested_outputs(outputs)?;
        let mut names = Vec::with_capacity(inputs.len());
        let mut given = Vec::with_capacity(inputs.len());
        for (name, value) in inputs {
            let rejected = |reason: String| EngineError::Input(format!("input {name:?}: {reason}"));
            let index = index_of(&self.signature.inputs, name)
                .ok_or_else(|| rejected("the model has no input of this name".to_owned()))?;
            names.push(self.inputs[index].as_ptr());
            let empty = self.empty[index].as_ref();
            given.push(values::to_onnx(value, empty, &self.memory).map_err(rejected)?);
        }
        // The flag that stops a run is part of the run options, so each run has options of its own.
        let stop = Arc::new(self.options().map_err(|error| self.run_error(&error))?);
        let armed = cancel.arm(Box::new({
            let stop = Arc::clone(&stop);
            move || {
                let _ = stop.terminate();
            }
        }));
        if !armed {
            return Err(EngineError::Cancelled);
        }
        let results = match self.call(&stop, &names, &given, &requested) {
            Ok(results) => results,
            Err(_) if cancel.is_cancelled() => return Err(EngineError::Cancelled),
            Err(error) => {
                let error = self.run_error(&error);
                if matches!(error, EngineError::Memory(_)) {
                    // Other runs may need the regions that no run uses.
                    self.release_spare_memory();
                }
                return Err(error);
            }
        };
        let context = values::OutputContext::of(&self.session, inputs);
        requested
            .into_iter()
            .zip(results)
            .map(|(index, value)| {
                let name = self.signature.outputs[index].name.clone();
                match value.read(&context) {
                    Ok(value) => match &self.zipmap_keys[index] {
                        Some(keys) => Ok((name, apply_zipmap(keys, value)?)),
                        None => Ok((name, value)),
                    },
                    Err(reason) => Err(EngineError::Output { name, reason }),
                }
            })
            .collect()
    }

    /// Classifies the error of a run. ONNX Runtime reports `InvalidArgument` for inputs that do not fit the graph and
    /// for values that do not fit a node. Other errors are failures of the model or of an allocation.
    fn run_error(&self, error: &ort::Error) -> EngineError {
        let text = message(error);
        if let Some(memory) = OutOfMemory::of(&text, self.arena) {
            return memory.into();
        }
        match error.code() {
            ErrorCode::InvalidArgument if text.contains(NODE_FAILURE) => EngineError::Node(text),
            ErrorCode::InvalidArgument => EngineError::Input(text),
            _ => EngineError::Run(text),
        }
    }

    fn options(&self) -> ort::Result<RunOptions> {
        let mut options = RunOptions::new()?;
        if self.releases_memory.swap(false, Ordering::Relaxed) {
            options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
        }
        Ok(options)
    }

    /// Makes ONNX Runtime release the memory that no run uses. ONNX Runtime does so only at the end of a run, even of a
    /// run that is stopped before its first node. Such a run computes nothing, and its inputs are as small as the
    /// signature allows.
    fn try_shrink(&self) -> Result<(), String> {
        let mut options = RunOptions::new().map_err(|error| message(&error))?;
        let shrink = options.set("memory.enable_memory_arena_shrinkage", "cpu:0");
        shrink.map_err(|error| message(&error))?;
        options.terminate().map_err(|error| message(&error))?;
        let (mut names, mut inputs) = (Vec::new(), Vec::new());
        for (index, port) in self.signature.inputs.iter().enumerate() {
            if let Some(input) = values::smallest(&port.kind, self.empty[index].as_ref())? {
                names.push(self.inputs[index].as_ptr());
                inputs.push(input);
            }
        }
        // The run always ends with the error that it was stopped.
        let _ = self.call(&options, &names, &inputs, &[0]);
        Ok(())
    }

    /// Returns the indices of the requested outputs, each once; all indices if `names` is empty.
    fn requested_outputs(&self, names: &[String]) -> Result<Vec<usize>, EngineError> {
        if names.is_empty() {
            return Ok((0..self.outputs.len()).collect());
        }
        let mut indices = Vec::with_capacity(names.len());
        for name in names {
            let index = index_of(&self.signature.outputs, name).ok_or_else(|| {
                EngineError::Input(format!(
                    "output {name:?}: the model has no output of this name"
                ))
            })?;
            if !indices.contains(&index) {
                indices.push(index);
            }
        }
        Ok(indices)
    }

    /// Runs the graph and returns the outputs at the indices `requested`. ONNX Runtime computes the whole graph.
    fn call(
        &self,
        options: &RunOptions,
        names: &[*const c_char],
        inputs: &[RunInput<'_>],
        requested: &[usize],
    ) -> ort::Result<Vec<NativeValue>> {
        // Borrowed, since an output that is an input uses the memory of the input.
        let inputs: Vec<*const sys::OrtValue> = inputs.iter().map(RunInput::ptr).collect();
        let requested: Vec<*const c_char> = requested
            .iter()
            .map(|&index| self.outputs[index].as_ptr())
            .collect();
        let mut results = RawOutputs(vec![ptr::null_mut(); requested.len()]);
        // SAFETY: the session, the options, the names (C strings of `self`) and the inputs are alive during the call.
        // Each array has the given length. ONNX Runtime takes a mutable pointer to the session, guards its own state
        // with locks, and allows any number of threads to run it concurrently. The session uses the CPU execution
        // provider only, which has no state that runs share. A null output is replaced by a new value, which the caller
        // owns.
        let status = unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                options.ptr(),
                names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                requested.as_ptr(),
                requested.len(),
                results.0.as_mut_ptr(),
            )
        };
        // SAFETY: ONNX Runtime just returned the status, and it is used nowhere else.
        unsafe { ort::Error::result_from_status(status) }?;
        results.take()
    }
}

/// Returns the name of a tensor input and the names of its dimensions, empty for a dimension without a name.
pub(super) fn dimension_names(input: &ort::value::Outlet) -> Option<(&str, &[String])> {
    match input.dtype() {
        ValueType::Tensor {
            dimension_symbols, ..
        } => Some((input.name(), &**dimension_symbols)),
        _ => None,
    }
}

/// Applies `ZipMap`: one map per row, from the keys to the row's values.
fn apply_zipmap(keys: &Arc<Data>, value: Value) -> Result<Value, EngineError> {
    let rejected = |found: String| {
        EngineError::Node(format!(
            "ZipMap expects an FP32 tensor with {} columns, one per class; found {found}",
            keys.len()
        ))
    };
    let Value::Tensor(tensor) = value else {
        return Err(rejected("a value that is not a tensor".to_owned()));
    };
    if tensor.datatype() != Datatype::Fp32 {
        return Err(rejected(format!("elements of type {}", tensor.datatype())));
    }
    let (shape, data) = tensor.into_parts();
    let rows = match shape[..] {
        [width] if width == keys.len() => Some(1),
        [rows, width] if width == keys.len() => Some(rows),
        _ => None,
    };
    let maps = rows.and_then(|rows| {
        let values = Tensor::new(vec![rows, keys.len()], data).ok()?;
        Maps::new(Arc::clone(keys), values)
    });
    maps.map(Value::Maps)
        .ok_or_else(|| rejected(format!("a tensor of shape {shape:?}")))
}

fn index_of(ports: &[Port], name: &str) -> Option<usize> {
    ports.iter().position(|port| port.name == name)
}

/// Outputs as the C API returns them; null if absent or already taken.
struct RawOutputs(Vec<*mut sys::OrtValue>);

impl RawOutputs {
    fn take(mut self) -> ort::Result<Vec<NativeValue>> {
        let take = |address: &mut *mut sys::OrtValue| {
            let value = std::mem::replace(address, ptr::null_mut());
            let value = NonNull::new(value)
                .ok_or_else(|| ort::Error::new("ONNX Runtime returned no value for an output"))?;
            // SAFETY: a run on the CPU just created the value, which has no other owner and keeps its memory alive.
            Ok(unsafe { NativeValue::of(value) })
        };
        self.0.iter_mut().map(take).collect()
    }
}

impl Drop for RawOutputs {
    fn drop(&mut self) {
        for value in self.0.iter().filter(|value| !value.is_null()) {
            // SAFETY: the value was not taken, and this is its last use.
            unsafe { (ort::api().ReleaseValue)(*value) };
        }
    }
}

/// Prefix of ONNX Runtime's message for a failed node, independent of the error code.
const NODE_FAILURE: &str = "Non-zero status code returned while running";
