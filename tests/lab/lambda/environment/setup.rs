//! What of a function's configuration goes where, when an environment is made.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::super::LambdaError;
use super::super::builder::{Builder, ON_DEMAND};
use super::super::cgroup::Limits;
use super::super::machine::Setup;
use super::super::sandbox::environment::Facts;
use crate::credentials;
use crate::log_capture::LogCapture;

/// What every function here is called.
const FUNCTION: &str = "lab";
/// The account that AWS's emulator puts into a function's ARN.
const ACCOUNT: &str = "012345678912";

/// The folder for `/tmp`; one that was handed on goes to the first environment.
pub(super) fn tmp(builder: &Builder, number: usize) -> Result<Arc<TempDir>, LambdaError> {
    match &builder.tmp {
        Some(tmp) if number == 0 => Ok(Arc::clone(tmp)),
        _ => {
            // Short, because a test may reach a Unix socket in it, whose path has 108 bytes at
            // most.
            let tmp = tempfile::Builder::new().prefix("lab").tempdir();
            Ok(Arc::new(tmp.map_err(|source| LambdaError::Io {
                what: "make a folder for /tmp",
                source,
            })?))
        }
    }
}

/// What the processes are told, in variables.
pub(super) fn facts(builder: &Builder, port: u16) -> Facts {
    let mut facts = Facts::new(&format!("127.0.0.1:{port}"));
    FUNCTION.clone_into(&mut facts.function_name);
    facts.memory_mb = builder.memory_mb;
    facts.handler.clone_from(&builder.handler);
    facts
        .initialization_type
        .clone_from(&builder.initialization_type);
    facts.max_concurrency = builder.managed_instances;
    facts.variables.clone_from(&builder.variables);
    facts
}

pub(super) fn machine(builder: &Builder) -> Result<Setup, LambdaError> {
    let extensions = extensions(&builder.layer).map_err(|source| LambdaError::Io {
        what: "list the layer's extensions",
        source,
    })?;
    let on_demand = builder.initialization_type == ON_DEMAND;
    Ok(Setup {
        extensions,
        init_limit: builder.init_limit.filter(|_| on_demand),
        timeout: builder.timeout,
        managed: builder.managed_instances.is_some(),
        freeze_when_idle: builder.freeze_when_idle,
        function_name: FUNCTION.to_owned(),
        handler: builder.handler.clone(),
        account: ACCOUNT.to_owned(),
        arn: format!(
            "arn:aws:lambda:{}:{ACCOUNT}:function:{FUNCTION}",
            credentials::REGION
        ),
    })
}

/// Whatever is no folder in `/opt/extensions`; what cannot be run is found out when it is tried.
fn extensions(layer: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(layer.join("extensions")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The memory size's limits if they are wanted; where they cannot be had the log says why.
pub(super) fn limits(builder: &Builder, log: &LogCapture) -> Option<Limits> {
    if !builder.limit_resources {
        return None;
    }
    match Limits::for_memory(builder.memory_mb) {
        Ok(limits) => Some(limits),
        Err(why) => {
            log.push(&format!("lab: memory and CPU are not limited: {why}"));
            None
        }
    }
}
