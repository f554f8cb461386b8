//! Loading a model beside its weights instead of through them.
//!
//! A [`Skeleton`] is loaded in place of the model, with its weights as inputs, and each weight goes straight from the
//! file into memory of ONNX Runtime, once. Then the inputs become constants: ONNX Runtime's model editor takes the
//! weights into the graph before the session is initialised, that is before anything is optimised or packed. What it
//! packs it gives back at once, so that at no time there are two copies of all weights.
//!
//! The bindings make a session in one call, and the editor needs three. They take their functions from a table, which
//! they allow to be set before the first use. So theirs is the library's own table with one function of ours in it,
//! which does the same as the library's where no weights are waiting for it.
#![expect(
    unsafe_code,
    reason = "the bindings have no safe way to this; each block says why it is sound"
)]

mod editor;

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

use editor::Unfinished;

use super::onnxruntime::guarded;
use crate::onnx::{Skeleton, Weight};
use crate::sys::{read_exact_at, symbol};
use crate::tensor::Datatype;

/// The library's own function in the place of [`create`], once ours is in the table.
static PLAIN: OnceLock<Create> = OnceLock::new();

type Create = unsafe extern "system" fn(
    *const sys::OrtEnv,
    *const c_void,
    usize,
    *const sys::OrtSessionOptions,
    *mut *mut sys::OrtSession,
) -> sys::OrtStatusPtr;

thread_local! {
    /// How many sessions this thread has created so.
    #[cfg(test)]
    static LOADED: Cell<u32> = const { Cell::new(0) };
    /// The weights that the session which this thread creates next is to have.
    static WAITING: Cell<Option<Vec<(String, DynTensor)>>> = const { Cell::new(None) };
}

/// Puts our function into the table of the bindings. To be called when they have opened `library` and done nothing else;
/// later, nothing happens, and [`load`] is not possible.
pub(super) fn install(library: &Path) {
    let Some(base) = symbol(library, c"OrtGetApiBase") else {
        return;
    };
    // SAFETY: this is the library that the bindings opened as ONNX Runtime's, whose version they have checked, and in
    // all of them `OrtGetApiBase` is a function of this type. It gives a constant of the library, whose `GetApi` takes
    // any number and gives null or a table, also constant, that has at least what this version's has.
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
        // A table of addresses of functions: a copy is as good.
        ptr::read(api)
    };
    let plain = api.CreateSessionFromArray;
    let api = sys::OrtApi {
        CreateSessionFromArray: create,
        ..api
    };
    if ort::set_api(api) {
        // Nobody calls the function before this room opens an environment.
        let _ = PLAIN.set(plain);
    }
}

/// Loads the model that `skeleton` was taken from, whose weights are in `file`; `None` if that is not possible here.
pub(super) fn load(
    builder: &mut SessionBuilder,
    skeleton: Skeleton,
    file: &File,
) -> Option<ort::Result<Session>> {
    PLAIN.get()?;
    let allocator = Allocator::default();
    let weights: Option<Vec<_>> = skeleton
        .weights
        .into_iter()
        .map(|weight| {
            let tensor = read(&allocator, &weight, file)?;
            Some((weight.name, tensor))
        })
        .collect();
    let _waiting = Waiting::of(weights?);
    Some(builder.commit_from_memory(&skeleton.model))
}

/// Clears [`WAITING`] when it is dropped: a load that fails or panics leaves no weights to the next one.
struct Waiting;

impl Waiting {
    fn of(weights: Vec<(String, DynTensor)>) -> Self {
        WAITING.set(Some(weights));
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(WAITING.take());
    }
}

#[cfg(test)]
pub(super) fn loaded() -> u32 {
    LOADED.get()
}

/// Reads a weight into memory of ONNX Runtime.
fn read(allocator: &Allocator, weight: &Weight, file: &File) -> Option<DynTensor> {
    let (element, size) = element(weight.datatype)?;
    let mut tensor = DynTensor::new(allocator, element, weight.shape.clone()).ok()?;
    let length = tensor.shape().num_elements().checked_mul(size)?;
    let data: *mut u8 = tensor.data_ptr_mut().cast();
    if data.is_null() || length as u64 != weight.bytes.end - weight.bytes.start {
        return None;
    }
    // SAFETY: the memory is the tensor's own, which no one else has, and as long as its shape and the type of its
    // elements say. Any bytes are elements of those types.
    unsafe { read_exact_at(file, data, length, weight.bytes.start) }.ok()?;
    Some(tensor)
}

/// What ONNX Runtime calls a type, and how many bytes an element has.
fn element(datatype: Datatype) -> Option<(TensorElementType, usize)> {
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

/// Stands for `CreateSessionFromArray`.
///
/// # Safety
/// As of the library's own function, whose arguments it takes.
unsafe extern "system" fn create(
    environment: *const sys::OrtEnv,
    model: *const c_void,
    length: usize,
    options: *const sys::OrtSessionOptions,
    out: *mut *mut sys::OrtSession,
) -> sys::OrtStatusPtr {
    let Some(weights) = WAITING.take() else {
        return match PLAIN.get() {
            // SAFETY: the caller keeps the promises of the function that it means to call.
            Some(plain) => unsafe { plain(environment, model, length, options, out) },
            None => failure(c"not installed"),
        };
    };
    // A panic must not go on into the library.
    let assembled = guarded(|| {
        // SAFETY: the caller keeps the promises of the function that it means to call, so the options outlive this.
        unsafe {
            let mut session = Unfinished::load(environment, model, length, options)?;
            session.hold(weights)?;
            session.finish(options)
        }
    });
    match assembled {
        Ok(Ok(session)) => {
            #[cfg(test)]
            LOADED.set(LOADED.get() + 1);
            // SAFETY: the caller gave a place for the session.
            unsafe { out.write(session) };
            sys::OrtStatusPtr::default()
        }
        Ok(Err(error)) => failure(&CString::new(error.message()).unwrap_or_default()),
        Err(_) => failure(c"a panic"),
    }
}

fn failure(message: &CStr) -> sys::OrtStatusPtr {
    // SAFETY: the text ends in NUL, and is copied.
    unsafe { (ort::api().CreateStatus)(sys::OrtErrorCode::ORT_FAIL, message.as_ptr()) }
}
