//! File with a JSON list that `publish` reads, one item a line.

use std::path::Path;

use anyhow::Context as _;

use crate::changes::counted;
use crate::console::Console;

/// Writes the items, and prints their number with the word for one.
pub(crate) fn write(
    file: &Path,
    items: &[String],
    word: &str,
    console: &Console,
) -> anyhow::Result<()> {
    let text = format!("[\n  {}\n]\n", items.join(",\n  "));
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let count = counted(items.len(), word);
    console.line(format_args!("wrote {} ({count})", file.display()));
    Ok(())
}
