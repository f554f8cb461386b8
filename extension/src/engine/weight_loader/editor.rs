//! A session in three steps, where the bindings have one: loaded, given its constants, initialised.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use ort::AsPointer as _;
use ort::editor::{Graph, Model, editor_api};
use ort::memory::Allocator;
use ort::sys;
use ort::value::DynTensor;

/// A session that is not initialised yet.
pub(super) struct Unfinished(NonNull<sys::OrtSession>);

impl Unfinished {
    /// Loads a model.
    ///
    /// # Safety
    /// As of `CreateSessionFromArray`.
    pub(super) unsafe fn load(
        environment: *const sys::OrtEnv,
        model: *const c_void,
        length: usize,
        options: *const sys::OrtSessionOptions,
    ) -> ort::Result<Self> {
        let mut session = ptr::null_mut();
        let load = editor_api()?.CreateModelEditorSessionFromArray;
        // SAFETY: the arguments are those of `CreateSessionFromArray`, as the caller promises.
        unsafe { check(load(environment, model, length, options, &raw mut session)) }?;
        NonNull::new(session)
            .map(Self)
            .ok_or_else(|| ort::Error::new("there is no session"))
    }

    /// Makes constants of its last inputs.
    pub(super) fn hold(&mut self, weights: Vec<(String, DynTensor)>) -> ort::Result<()> {
        let mut graph = Graph::new()?;
        let mut inputs = Inputs::of(self, weights.len())?;
        let set = editor_api()?.SetGraphInputs;
        // SAFETY: the graph and the inputs are alive. Those that the graph takes are replaced by null, so that the
        // others, and they alone, are released with `inputs`.
        unsafe { check(set(graph.ptr_mut(), inputs.0.as_mut_ptr(), inputs.0.len())) }?;
        for (name, tensor) in weights {
            graph.add_initializer(name, tensor, true)?;
        }
        // The operators stay those of the model.
        let mut model = Model::new([])?;
        model.set_graph(graph)?;
        let apply = editor_api()?.ApplyModelToModelEditorSession;
        // SAFETY: the session and the model are alive, and the session keeps what it needs of the model.
        unsafe { check(apply(self.0.as_ptr(), model.ptr_mut())) }
    }

    /// Initialises it, after which it can run.
    ///
    /// # Safety
    /// The options are those that it was loaded with.
    pub(super) unsafe fn finish(
        self,
        options: *const sys::OrtSessionOptions,
    ) -> ort::Result<*mut sys::OrtSession> {
        let finish = editor_api()?.FinalizeModelEditorSession;
        // SAFETY: the session is alive and the caller vouches for the options; packed weights are not shared.
        unsafe { check(finish(self.0.as_ptr(), options, ptr::null())) }?;
        Ok(ManuallyDrop::new(self).0.as_ptr())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // SAFETY: it was not handed on, and this is the last use of it.
        unsafe { (ort::api().ReleaseSession)(self.0.as_ptr()) };
    }
}

/// Inputs of a graph; null where it has taken one over.
struct Inputs(Vec<*mut sys::OrtValueInfo>);

impl Inputs {
    /// The inputs of a session but its last ones.
    fn of(session: &Unfinished, but: usize) -> ort::Result<Self> {
        let mut count = 0;
        // SAFETY: the session is alive, and `count` is a place for a number.
        unsafe {
            check((ort::api().SessionGetInputCount)(
                session.0.as_ptr(),
                &raw mut count,
            ))
        }?;
        let mut inputs = Self(Vec::new());
        for index in 0..count.saturating_sub(but) {
            inputs.0.push(input(session, index)?);
        }
        Ok(inputs)
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        for input in self.0.iter().filter(|input| !input.is_null()) {
            // SAFETY: no graph has taken it, and this is the last use of it.
            unsafe { (ort::api().ReleaseValueInfo)(*input) };
        }
    }
}

fn input(session: &Unfinished, index: usize) -> ort::Result<*mut sys::OrtValueInfo> {
    let api = ort::api();
    let create = editor_api()?.CreateValueInfo;
    let allocator = Allocator::default();
    let (mut name, mut kind, mut input) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: the session and the allocator are alive, and each call gives what the next ones take; name and type are
    // copied, and released by what they came from, whether or not there is an input.
    unsafe {
        let session = session.0.as_ptr();
        let allocator = allocator.ptr().cast_mut();
        check((api.SessionGetInputTypeInfo)(session, index, &raw mut kind))?;
        let named = (api.SessionGetInputName)(session, index, allocator, &raw mut name);
        let created = check(named).and_then(|()| {
            let created = check(create(name, kind, &raw mut input));
            check((api.AllocatorFree)(allocator, name.cast())).and(created)
        });
        (api.ReleaseTypeInfo)(kind);
        created?;
    }
    Ok(input)
}

/// The error of a status, which is released.
///
/// # Safety
/// ONNX Runtime has just given the status, and it goes nowhere else.
unsafe fn check(status: sys::OrtStatusPtr) -> ort::Result<()> {
    // SAFETY: the caller's promise.
    unsafe { ort::Error::result_from_status(status) }
}
