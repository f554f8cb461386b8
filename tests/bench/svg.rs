//! SVG files.

use anyhow::{Context as _, Result};

/// Writes `target/bench/NAME.svg` with this size in the drawing's own units, and prints its path.
pub(crate) fn write(name: &str, wide: f64, high: f64, body: &str) -> Result<()> {
    let svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0} {high:.0}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
{body}</svg>
"##
    );
    let folder = lab::artifacts::workspace().join("target/bench");
    let file = folder.join(format!("{name}.svg"));
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, svg))
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("\nplot written to target/bench/{name}.svg");
    Ok(())
}
