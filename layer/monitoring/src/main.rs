//! `monitoring`: writes the dashboard, the alarms and their `CloudFormation` template into a folder.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

/// Generates the CloudWatch dashboard and alarms of the model sidecar
#[derive(Debug, Parser)]
#[command(name = "monitoring", version)]
struct Arguments {
    /// Folder of the files; it must exist
    #[arg(default_value = "layer/deploy", value_name = "DIR")]
    folder: PathBuf,
}

fn main() -> ExitCode {
    match write(&Arguments::parse().folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("monitoring: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &std::path::Path) -> anyhow::Result<()> {
    for (name, text) in monitoring::files() {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
