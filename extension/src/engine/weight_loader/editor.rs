//! Creation of a session in three steps through the model editor API: load, add weights, initialize.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use ort::AsPointer as _;
use ort::editor::{Graph, Model, editor_api};
use ort::memory::Allocator;
use ort::sys;
use ort::value::DynTensor;

/// A session that is not initialized yet.
pub(super) struct UninitializedSession(NonNull<sys::OrtSession>);

impl UninitializedSession {
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
            .ok_or_else(|| ort::Error::new("ONNX Runtime returned no session"))
    }

    /// Replaces the session's last inputs by constants.
    pub(super) fn add_weights(&mut self, weights: Vec<(String, DynTensor)>) -> ort::Result<()> {
        let mut graph = Graph::new()?;
        let mut inputs = GraphInputs::of(self, weights.len())?;
        let set = editor_api()?.SetGraphInputs;
        // SAFETY: the graph and the inputs are alive. The call replaces the inputs that the graph takes by null, so
        // that only the others are released with `inputs`.
        unsafe { check(set(graph.ptr_mut(), inputs.0.as_mut_ptr(), inputs.0.len())) }?;
        for (name, tensor) in weights {
            graph.add_initializer(name, tensor, true)?;
        }
        // The operators remain those of the loaded model.
        let mut model = Model::new([])?;
        model.set_graph(graph)?;
        let apply = editor_api()?.ApplyModelToModelEditorSession;
        // SAFETY: the session and the model are alive, and the session copies what it needs of the model.
        unsafe { check(apply(self.0.as_ptr(), model.ptr_mut())) }
    }

    /// Initializes the session, after which it can run.
    ///
    /// # Safety
    /// The options are those of [`Self::load`].
    pub(super) unsafe fn initialize(
        self,
        options: *const sys::OrtSessionOptions,
    ) -> ort::Result<*mut sys::OrtSession> {
        let initialize = editor_api()?.FinalizeModelEditorSession;
        // SAFETY: the session is alive, the caller vouches for the options, and packed weights are not shared.
        unsafe { check(initialize(self.0.as_ptr(), options, ptr::null())) }?;
        Ok(ManuallyDrop::new(self).0.as_ptr())
    }
}

impl Drop for UninitializedSession {
    fn drop(&mut self) {
        // SAFETY: the session was not passed on, and this is its last use.
        unsafe { (ort::api().ReleaseSession)(self.0.as_ptr()) };
    }
}

/// Inputs of a graph; null where the graph has taken ownership.
struct GraphInputs(Vec<*mut sys::OrtValueInfo>);

impl GraphInputs {
    /// Returns the inputs of a session except the last `excluded`.
    fn of(session: &UninitializedSession, excluded: usize) -> ort::Result<Self> {
        let mut count = 0;
        // SAFETY: the session is alive, and `count` is a valid address.
        unsafe {
            check((ort::api().SessionGetInputCount)(
                session.0.as_ptr(),
                &raw mut count,
            ))
        }?;
        let mut inputs = Self(Vec::new());
        for index in 0..count.saturating_sub(excluded) {
            inputs.0.push(input(session, index)?);
        }
        Ok(inputs)
    }
}

impl Drop for GraphInputs {
    fn drop(&mut self) {
        for input in self.0.iter().filter(|input| !input.is_null()) {
            // SAFETY: no graph has taken the input, and this is its last use.
            unsafe { (ort::api().ReleaseValueInfo)(*input) };
        }
    }
}

fn input(session: &UninitializedSession, index: usize) -> ort::Result<*mut sys::OrtValueInfo> {
    let api = ort::api();
    let create = editor_api()?.CreateValueInfo;
    let allocator = Allocator::default();
    let (mut name, mut kind, mut input) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: the session and the allocator are alive, and each call returns the arguments of the next. Name and type
    // are copied, and released by their owners whether or not there is an input.
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

/// Converts a status to a result and releases the status.
///
/// # Safety
/// ONNX Runtime just returned the status, and it is used nowhere else.
unsafe fn check(status: sys::OrtStatusPtr) -> ort::Result<()> {
    // SAFETY: the caller's promise.
    unsafe { ort::Error::result_from_status(status) }
}
