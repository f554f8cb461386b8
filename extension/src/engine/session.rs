//! A loaded model, and its runs.
//!
//! A run goes through the C API, as the bindings let only one at a time have the session. They have to, since they
//! know any execution provider, and some keep state that runs share. Here there is the CPU's alone, and of a session
//! ONNX Runtime promises that any number of threads may run it at once. So whoever runs it decides how many do.
#![expect(
    unsafe_code,
    reason = "the bindings have no way to runs beside each other; each block says why it is sound"
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

use super::onnxruntime::{guarded, text};
use super::values::{self, Input, Raw};
use super::{Cancel, EngineError, OutOfMemory, Session};
use crate::onnx::ZipMapOutput;
use crate::tensor::{Data, Datatype, Kind, Maps, Port, SharedDimensions, Signature, Tensor, Value};

pub(super) struct OnnxSession {
    signature: Signature,
    shared_dimensions: SharedDimensions,
    /// The names of the signature's inputs and outputs, in its order, as the C API takes them.
    inputs: Vec<CString>,
    outputs: Vec<CString>,
    /// For each input that may be a sequence of tensors an empty one.
    empty: Vec<Option<DynValue>>,
    session: ort::session::Session,
    /// For each output the keys of the maps that it is to be made, where it is a tensor in their place.
    zipped: Vec<Option<Arc<Data>>>,
    /// Whether memory is to be given back, which only a run can do, at its end.
    is_too_large: AtomicBool,
    has_fixed_work: bool,
    /// The limit of the arena.
    arena: Option<u64>,
    /// Where inputs lie.
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
        guarded(|| self.run_unguarded(inputs, outputs, cancel))
            .unwrap_or_else(|panic| Err(EngineError::Panicked(panic)))
    }

    fn has_fixed_work(&self) -> bool {
        self.has_fixed_work
    }

    fn release_spare_memory(&self) {
        self.is_too_large.store(true, Ordering::Relaxed);
    }

    fn shrink(&self) {
        let done = guarded(|| self.shrink_unguarded());
        if !matches!(done, Ok(Ok(()))) {
            self.release_spare_memory();
        }
    }
}

impl OnnxSession {
    /// A session of a model of which that is [known](crate::onnx::Description::has_fixed_work), and what those of its
    /// outputs are that [stand for others](crate::onnx::Unzipped). Empty sequences of tensors come from `empty_sequence`.
    pub(super) fn new(
        session: ort::session::Session,
        has_fixed_work: bool,
        mut stand_ins: BTreeMap<String, ZipMapOutput>,
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
        // An initializer that is an input as well is that input's default.
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
        // The names came from the library as C strings, so none has a NUL inside.
        let names = |ports: &[Port]| {
            let name = |port: &Port| CString::new(port.name.as_str()).unwrap_or_default();
            ports.iter().map(name).collect()
        };
        let (input_names, output_names) = (names(&inputs), names(&outputs));
        let zipped = outputs
            .iter_mut()
            .map(|output| {
                let ZipMapOutput { name, keys } = stand_ins.remove(&output.name)?;
                let (key, value) = (keys.datatype(), Datatype::Fp32);
                let kind = Kind::Sequence(Box::new(Kind::Map { key, value }));
                *output = Port { name, kind };
                Some(Arc::new(keys))
            })
            .collect();
        let empty = |input: &Port| input.kind.of_tensors().and_then(&empty_sequence);
        let empty = inputs.iter().map(empty).collect();
        Self {
            signature: Signature { inputs, outputs },
            shared_dimensions,
            inputs: input_names,
            outputs: output_names,
            empty,
            session,
            zipped,
            is_too_large: AtomicBool::new(false),
            has_fixed_work,
            arena,
            memory: MemoryInfo::default(),
        }
    }

    fn run_unguarded(
        &self,
        inputs: &[(String, Value)],
        outputs: &[String],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Value)>, EngineError> {
        let asked = self.asked(outputs)?;
        let mut names = Vec::with_capacity(inputs.len());
        let mut given = Vec::with_capacity(inputs.len());
        for (name, value) in inputs {
            let refused = |reason: String| EngineError::Input(format!("input {name:?}: {reason}"));
            let place = place(&self.signature.inputs, name)
                .ok_or_else(|| refused("the model has none of this name".to_owned()))?;
            names.push(self.inputs[place].as_ptr());
            let empty = self.empty[place].as_ref();
            given.push(values::to_onnx(value, empty, &self.memory).map_err(refused)?);
        }
        // The flag that stops a run sticks to its options, so each run has its own.
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
        let results = match self.call(&stop, &names, &given, &asked) {
            Ok(results) => results,
            Err(_) if cancel.is_cancelled() => return Err(EngineError::Cancelled),
            Err(error) => {
                let error = self.run_error(&error);
                if matches!(error, EngineError::Memory(_)) {
                    // Regions that no run uses may be what others lack.
                    self.release_spare_memory();
                }
                return Err(error);
            }
        };
        let around = values::Surroundings::of(&self.session, inputs);
        asked
            .into_iter()
            .zip(results)
            .map(|(place, value)| {
                let name = self.signature.outputs[place].name.clone();
                match value.read(&around) {
                    Ok(value) => match &self.zipped[place] {
                        Some(keys) => Ok((name, zip(keys, value)?)),
                        None => Ok((name, value)),
                    },
                    Err(reason) => Err(EngineError::Output { name, reason }),
                }
            })
            .collect()
    }

    /// ONNX Runtime says `InvalidArgument` where an input does not fit the graph, and where a node finds out that
    /// something does not fit; all else is the model's failure, or the memory's.
    fn run_error(&self, error: &ort::Error) -> EngineError {
        let text = text(error);
        if let Some(memory) = OutOfMemory::of(&text, self.arena) {
            return memory.into();
        }
        match error.code() {
            ErrorCode::InvalidArgument if text.contains(IN_A_NODE) => EngineError::Node(text),
            ErrorCode::InvalidArgument => EngineError::Input(text),
            _ => EngineError::Run(text),
        }
    }

    fn options(&self) -> ort::Result<RunOptions> {
        let mut options = RunOptions::new()?;
        if self.is_too_large.swap(false, Ordering::Relaxed) {
            options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
        }
        Ok(options)
    }

    /// Has ONNX Runtime give back what no run uses. It does so at the end of a run alone, also of one that is stopped before
    /// its first node: such a run computes nothing, and its inputs are as small as the signature allows.
    fn shrink_unguarded(&self) -> Result<(), String> {
        let words = |error: ort::Error| error.message().to_owned();
        let mut options = RunOptions::new().map_err(words)?;
        let shrink = options.set("memory.enable_memory_arena_shrinkage", "cpu:0");
        shrink.map_err(words)?;
        options.terminate().map_err(words)?;
        let (mut names, mut inputs) = (Vec::new(), Vec::new());
        for (place, port) in self.signature.inputs.iter().enumerate() {
            if let Some(input) = values::smallest(&port.kind, self.empty[place].as_ref())? {
                names.push(self.inputs[place].as_ptr());
                inputs.push(input);
            }
        }
        // It ends with the error that it was stopped.
        let _ = self.call(&options, &names, &inputs, &[0]);
        Ok(())
    }

    /// The places of the outputs that are asked for, each once; all when none is named.
    fn asked(&self, names: &[String]) -> Result<Vec<usize>, EngineError> {
        if names.is_empty() {
            return Ok((0..self.outputs.len()).collect());
        }
        let mut places = Vec::with_capacity(names.len());
        for name in names {
            let place = place(&self.signature.outputs, name).ok_or_else(|| {
                EngineError::Input(format!("output {name:?}: the model has none of this name"))
            })?;
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(places)
    }

    /// Runs the graph, which ONNX Runtime computes whole, and gives the outputs at `asked`.
    fn call(
        &self,
        options: &RunOptions,
        names: &[*const c_char],
        inputs: &[Input<'_>],
        asked: &[usize],
    ) -> ort::Result<Vec<Raw>> {
        // Lent, since an output that is an input lies in the input's memory.
        let inputs: Vec<*const sys::OrtValue> = inputs.iter().map(Input::ptr).collect();
        let asked: Vec<*const c_char> = asked
            .iter()
            .map(|&place| self.outputs[place].as_ptr())
            .collect();
        let mut results = Results(vec![ptr::null_mut(); asked.len()]);
        // SAFETY: the session, the options, the names (C strings of `self`) and the inputs are alive during the call,
        // and each pointer to several is one to as many as is said. ONNX Runtime takes the session's address as one
        // that may be written to, keeps its own state under its own locks, and allows any number of threads to run it
        // at once; it was made with no other execution provider than the CPU's, which has no state that runs share.
        // Where an output's place holds null, a new value is put there, which is the caller's.
        let status = unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                options.ptr(),
                names.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                asked.as_ptr(),
                asked.len(),
                results.0.as_mut_ptr(),
            )
        };
        // SAFETY: the status was just given by ONNX Runtime, and goes nowhere else.
        unsafe { ort::Error::result_from_status(status) }?;
        results.take()
    }
}

/// The name of an input that is a tensor, and of each of its dimensions, empty for one without a name.
pub(super) fn dimension_names(input: &ort::value::Outlet) -> Option<(&str, &[String])> {
    match input.dtype() {
        ValueType::Tensor {
            dimension_symbols, ..
        } => Some((input.name(), &**dimension_symbols)),
        _ => None,
    }
}

/// What `ZipMap` makes of a tensor: for each row a map from these keys to the row's values.
fn zip(keys: &Arc<Data>, value: Value) -> Result<Value, EngineError> {
    let refused = |came: String| {
        EngineError::Node(format!(
            "ZipMap has {} classes, and a value for each was to come, and came {came}",
            keys.len()
        ))
    };
    let Value::Tensor(tensor) = value else {
        return Err(refused("something else than a tensor".to_owned()));
    };
    if tensor.datatype() != Datatype::Fp32 {
        return Err(refused(format!("{} of them", tensor.datatype())));
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
        .ok_or_else(|| refused(format!("a tensor of shape {shape:?}")))
}

fn place(ports: &[Port], name: &str) -> Option<usize> {
    ports.iter().position(|port| port.name == name)
}

/// Outputs as the C API gives them; null where there is none, or none any more.
struct Results(Vec<*mut sys::OrtValue>);

impl Results {
    fn take(mut self) -> ort::Result<Vec<Raw>> {
        let take = |address: &mut *mut sys::OrtValue| {
            let value = std::mem::replace(address, ptr::null_mut());
            let value =
                NonNull::new(value).ok_or_else(|| ort::Error::new("an output did not come"))?;
            // SAFETY: the value was just made by a run on the CPU, and nobody else has it. It keeps what its memory came
            // from alive by itself.
            Ok(unsafe { Raw::of(value) })
        };
        self.0.iter_mut().map(take).collect()
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        for value in self.0.iter().filter(|value| !value.is_null()) {
            // SAFETY: nobody has taken it, and this is the last use of it.
            unsafe { (ort::api().ReleaseValue)(*value) };
        }
    }
}

/// How ONNX Runtime begins what it says of a node that failed, whatever the code is.
const IN_A_NODE: &str = "Non-zero status code returned while running";
