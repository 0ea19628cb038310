use std::path::Path;

use anyhow::{Context, bail};
use cargo_metadata::MetadataCommand;

use crate::cargo;

const PRELUDE: &str = "crates/agent-sre/src/prelude.rs";

/// Builds the documentation, and fails if that of the facade lacks a page of a type in its prelude.
pub(crate) fn check() -> anyhow::Result<()> {
    cargo(&["doc", "--workspace", "--no-deps", "--all-features"], &[("RUSTDOCFLAGS", "-D warnings")])?;
    let folder = MetadataCommand::new().no_deps().exec()?.target_directory.join("doc/agent_sre");
    let mut pages = Vec::new();
    list(folder.as_std_path(), &mut pages)?;
    let prelude = std::fs::read_to_string(PRELUDE).context(PRELUDE)?;
    let code = prelude.lines().filter(|line| !line.starts_with("//"));
    let names = code.flat_map(|line| line.split(|letter: char| !letter.is_alphanumeric()));
    let types = names.filter(|name| name.starts_with(char::is_uppercase));
    // A page is named as in `struct.Slo.html`.
    let has_page = |name: &str| pages.iter().any(|page| page.split('.').nth(1) == Some(name));
    let missing: Vec<&str> = types.filter(|name| !has_page(name)).collect();
    if !missing.is_empty() {
        bail!("{folder}: found no page of {}, expected one of every type in {PRELUDE}", missing.join(", "));
    }
    Ok(())
}

/// Adds the names of the files in a folder, at any depth.
fn list(folder: &Path, names: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), names)?;
        } else {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(())
}
