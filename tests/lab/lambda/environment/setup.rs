//! Setup of an environment from a function's configuration.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::super::LambdaError;
use super::super::api::CREDENTIALS;
use super::super::builder::{Builder, FUNCTION, ON_DEMAND, SNAP_START};
use super::super::cgroup::Limits;
use super::super::machine::Setup;
use super::super::role_credentials::RoleCredentials;
use super::super::sandbox::environment::{ContainerCredentials, Facts};
use crate::credentials;
use crate::log_capture::LogCapture;

/// Account id in AWS's emulator's function ARNs.
const ACCOUNT: &str = "012345678912";

/// Folder for `/tmp`; a folder reserved to the builder goes to the first environment.
pub(super) fn tmp(builder: &Builder, number: usize) -> Result<Arc<TempDir>, LambdaError> {
    match &builder.tmp {
        Some(tmp) if number == 0 => Ok(Arc::clone(tmp)),
        _ => {
            // Short, because tests may open a Unix socket in it, whose path has 108 bytes at most.
            let tmp = tempfile::Builder::new().prefix("lab").tempdir();
            Ok(Arc::new(tmp.map_err(|source| LambdaError::Io {
                what: "create a folder for /tmp",
                source,
            })?))
        }
    }
}

/// Configuration that the processes get as variables.
pub(super) fn facts(builder: &Builder, port: u16, credentials: Option<&RoleCredentials>) -> Facts {
    let mut facts = Facts::new(&format!("127.0.0.1:{port}"));
    FUNCTION.clone_into(&mut facts.function_name);
    facts.memory_mb = builder.memory_mb;
    facts.handler.clone_from(&builder.handler);
    facts
        .initialization_type
        .clone_from(&builder.initialization_type);
    facts.max_concurrency = builder.managed_instances;
    if let Some(address) = &builder.xray_daemon {
        facts.xray_daemon.clone_from(address);
    }
    facts.variables.clone_from(&builder.variables);
    if let Some(credentials) = credentials {
        facts.credentials = None;
        facts.container_credentials = Some(ContainerCredentials {
            uri: format!("http://127.0.0.1:{port}{CREDENTIALS}"),
            token: credentials.token().to_owned(),
        });
        // The keys of the lab's servers, with which tests configure a function.
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            facts.variables.remove(name);
        }
    }
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
        snap_start: builder.initialization_type == SNAP_START,
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

/// All files in `/opt/extensions`; a file that is not executable fails when it is started.
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

/// Limits of the memory size, if enabled; the log gives the reason if they cannot be set.
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
