//! The dashboard, left open after the last step.

use std::sync::Arc;

use anyhow::Result;
use lab::cloudwatch::CloudWatch;
use lab::lambda::Function;
use lab::preview::{Preview, Settings};

use crate::console::Console;
use crate::lambda::MEMORY_MB;
use crate::metrics::FUNCTION;

/// Variable that keeps the page open, if it is set and not empty or 0.
const KEEP: &str = "KEEP";

/// Returns `true` if the page is wanted.
pub(crate) fn is_wanted() -> bool {
    std::env::var(KEEP).is_ok_and(|value| !value.is_empty() && value != "0")
}

/// Serves the page until Ctrl-C.
pub(crate) async fn until_interrupted(
    console: &Console,
    functions: Vec<Arc<Function>>,
    cloudwatch: Arc<CloudWatch>,
) -> Result<()> {
    let settings = Settings {
        function_name: FUNCTION.to_owned(),
        memory_mb: MEMORY_MB,
    };
    let page = Preview::new(&settings, functions, cloudwatch)?
        .serve(0)
        .await?;
    console.line(&format!(
        "The dashboard of this run is at {}/ until Ctrl-C.",
        page.url()
    ));
    tokio::signal::ctrl_c().await?;
    Ok(())
}
