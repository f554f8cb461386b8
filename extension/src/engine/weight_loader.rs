//! Loading a model's weights directly from its file into ONNX Runtime's memory.
//!
//! A [`Skeleton`] is loaded in place of the model, with the weights as inputs. Each weight is read once from the file
//! into memory of ONNX Runtime. Then the inputs become constants. ONNX Runtime's model editor adds the weights to the
//! graph before the session is initialized, thus before optimisation and packing. ONNX Runtime frees each weight as
//! soon as it is packed, so that there are never two copies of all weights.
//!
//! A weight that is stored in a smaller type is expanded to FP32 while it is read. As many threads as a run uses share
//! this work.
//!
//! The bindings create a session in one call, and the editor needs three. The bindings take their functions from a
//! table that may be set before its first use. So the table is a copy of the library's own with one function replaced,
//! which calls the library's function if no weights are pending.
#![expect(
    unsafe_code,
    reason = "the bindings do not expose these calls; each block says why it is sound"
)]

mod editor;
mod fill;
mod prepare;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_void};
use std::fs::File;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

use ort::memory::Allocator;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::sys;
use ort::value::{DynTensor, TensorElementType};

use editor::UninitializedSession;
use fill::{Piece, Target, fill};
use model_expansion::Channels;
pub use prepare::PreparedWeights;
pub(super) use prepare::prepare;

use super::bindings::catch_panic;
use crate::onnx::{Encoding, Skeleton, Weight};
use crate::sys::symbol;
use crate::tensor::Datatype;

/// The library's own function that [`create_session`] replaces, once it is installed.
static ORIGINAL: OnceLock<CreateSession> = OnceLock::new();

type CreateSession = unsafe extern "system" fn(
    *const sys::OrtEnv,
    *const c_void,
    usize,
    *const sys::OrtSessionOptions,
    *mut *mut sys::OrtSession,
) -> sys::OrtStatusPtr;

thread_local! {
    /// Number of sessions that this thread created with separate weights.
    #[cfg(test)]
    static LOADED: Cell<u32> = const { Cell::new(0) };
    /// Weights of the session that this thread creates next.
    static PENDING: Cell<Option<Vec<(String, DynTensor)>>> = const { Cell::new(None) };
}

/// Replaces the function in the bindings' table. Must be called after the bindings have opened `library` and before any
/// other use of them; later calls do nothing, and [`load`] returns `None`.
pub(super) fn install(library: &Path) {
    let Some(base) = symbol(library, c"OrtGetApiBase") else {
        return;
    };
    // SAFETY: the bindings opened this library as ONNX Runtime and checked its version, and in every version
    // `OrtGetApiBase` has this type. It returns a constant of the library. `GetApi` takes any number and returns null
    // or a constant table with at least the entries of this version.
    let api = unsafe {
        let base: unsafe extern "C" fn() -> *const sys::OrtApiBase =
            std::mem::transmute(base.as_ptr());
        let api = match base().as_ref() {
            Some(base) => (base.GetApi)(sys::ORT_API_VERSION),
            None => ptr::null(),
        };
        if api.is_null() {
            return;
        }
        // The table holds function pointers only, so a copy is equivalent.
        ptr::read(api)
    };
    let plain = api.CreateSessionFromArray;
    let api = sys::OrtApi {
        CreateSessionFromArray: create_session,
        ..api
    };
    if ort::set_api(api) {
        // The function is not called before this module creates an environment.
        let _ = ORIGINAL.set(plain);
    }
}

/// Loads the model of `skeleton`, whose weights are in `file`, by at most `threads` threads. Weights in
/// `prepared` are not read again. `None` if that is not possible.
pub(super) fn load(
    builder: &mut SessionBuilder,
    skeleton: Skeleton,
    file: &File,
    threads: usize,
    mut prepared: PreparedWeights,
) -> Option<ort::Result<Session>> {
    ORIGINAL.get()?;
    let allocator = Allocator::default();
    let mut tensors = Vec::with_capacity(skeleton.weights.len());
    let mut pieces = Vec::with_capacity(skeleton.weights.len());
    for weight in &skeleton.weights {
        if let Some(tensor) = prepared.take(weight) {
            tensors.push(tensor);
            continue;
        }
        let (tensor, piece) = allocate(weight, &allocator)?;
        pieces.push(piece);
        tensors.push(tensor);
    }
    drop(prepared);
    fill(file, pieces, threads).ok()?;
    let names = skeleton.weights.into_iter().map(|weight| weight.name);
    let _pending = PendingWeights::of(names.zip(tensors).collect());
    Some(builder.commit_from_memory(&skeleton.model))
}

/// Guard that clears [`PENDING`] when dropped, so that a failed load leaves no weights to the next one.
struct PendingWeights;

impl PendingWeights {
    fn of(weights: Vec<(String, DynTensor)>) -> Self {
        PENDING.set(Some(weights));
        Self
    }
}

impl Drop for PendingWeights {
    fn drop(&mut self) {
        drop(PENDING.take());
    }
}

#[cfg(test)]
pub(super) fn loaded() -> u32 {
    LOADED.get()
}

/// Returns a tensor for a weight, and the tensor's memory with its place in the file.
fn allocate<'a>(weight: &'a Weight, allocator: &Allocator) -> Option<(DynTensor, Piece<'a>)> {
    let (element, size) = element_type(weight.datatype)?;
    let mut tensor = DynTensor::new(allocator, element, weight.shape.clone()).ok()?;
    let piece = piece(weight, &mut tensor, size)?;
    Some((tensor, piece))
}

/// Returns the memory of a weight, whose elements have `size` bytes, with its place in the file; `None` if they do not
/// fit. The memory is the tensor's: it must not be used after the tensor.
fn piece<'a>(weight: &'a Weight, tensor: &mut DynTensor, size: usize) -> Option<Piece<'a>> {
    let count = tensor.shape().num_elements();
    let data = tensor.data_ptr_mut();
    let stored = match weight.encoding {
        Encoding::Plain => size,
        Encoding::Fp16 => 2,
        Encoding::Int8 { .. } => 1,
    };
    let length = usize::try_from(weight.bytes.end - weight.bytes.start).ok()?;
    let is_expanded = !matches!(weight.encoding, Encoding::Plain);
    if data.is_null()
        || count.checked_mul(stored)? != length
        || is_expanded && weight.datatype != Datatype::Fp32
    {
        return None;
    }
    // SAFETY: the tensor owns the memory, has no other user until it is filled, and is as long as its shape and element
    // type say. Moving the tensor does not move the memory. ONNX Runtime aligns it for its elements.
    let elements = || unsafe { std::slice::from_raw_parts_mut(data.cast(), count) };
    let target = match &weight.encoding {
        // SAFETY: as above. Any bytes are valid elements of these types.
        Encoding::Plain => {
            Target::Plain(unsafe { std::slice::from_raw_parts_mut(data.cast(), length) })
        }
        Encoding::Fp16 => Target::Fp16(elements()),
        Encoding::Int8 { scales, run } => {
            Target::Int8(elements(), 0, Channels { scales, run: *run })
        }
    };
    Some(Piece {
        position: weight.bytes.start,
        target,
    })
}

/// Returns ONNX Runtime's element type and the size of an element in bytes.
fn element_type(datatype: Datatype) -> Option<(TensorElementType, usize)> {
    match datatype {
        Datatype::Fp32 => Some((TensorElementType::Float32, 4)),
        Datatype::Fp64 => Some((TensorElementType::Float64, 8)),
        Datatype::Fp16 => Some((TensorElementType::Float16, 2)),
        Datatype::Bf16 => Some((TensorElementType::Bfloat16, 2)),
        Datatype::Uint8 => Some((TensorElementType::Uint8, 1)),
        Datatype::Int8 => Some((TensorElementType::Int8, 1)),
        _ => None,
    }
}

/// Replacement of `CreateSessionFromArray`.
///
/// # Safety
/// As of the library's own function, which has the same arguments.
unsafe extern "system" fn create_session(
    environment: *const sys::OrtEnv,
    model: *const c_void,
    length: usize,
    options: *const sys::OrtSessionOptions,
    out: *mut *mut sys::OrtSession,
) -> sys::OrtStatusPtr {
    let Some(weights) = PENDING.take() else {
        return match ORIGINAL.get() {
            // SAFETY: the caller fulfils the contract of the replaced function.
            Some(plain) => unsafe { plain(environment, model, length, options, out) },
            None => failure(c"the replaced function is unknown"),
        };
    };
    // A panic must not unwind into the library.
    let assembled = catch_panic(|| {
        // SAFETY: the caller fulfils the contract of the replaced function, so the options outlive this call.
        unsafe {
            let mut session = UninitializedSession::load(environment, model, length, options)?;
            session.add_weights(weights)?;
            session.initialize(options)
        }
    });
    match assembled {
        Ok(Ok(session)) => {
            #[cfg(test)]
            LOADED.set(LOADED.get() + 1);
            // SAFETY: the caller passed a valid address for the session.
            unsafe { out.write(session) };
            sys::OrtStatusPtr::default()
        }
        Ok(Err(error)) => failure(&CString::new(error.message()).unwrap_or_default()),
        Err(_) => failure(c"panic while the session was created"),
    }
}

fn failure(message: &CStr) -> sys::OrtStatusPtr {
    // SAFETY: the message is a C string, and the call copies it.
    unsafe { (ort::api().CreateStatus)(sys::OrtErrorCode::ORT_FAIL, message.as_ptr()) }
}
