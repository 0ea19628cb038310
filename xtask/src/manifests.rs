use anyhow::bail;
use cargo_metadata::{MetadataCommand, Package};

/// Fails if a published crate lacks metadata that crates.io and docs.rs show.
pub(crate) fn check() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let packages = metadata.workspace_packages();
    let published = packages.iter().filter(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty()));
    let incomplete: Vec<String> = published.flat_map(|package| missing(package)).collect();
    if !incomplete.is_empty() {
        bail!("{}", incomplete.join("\n"));
    }
    eprintln!("all manifests are complete");
    Ok(())
}

fn missing(package: &Package) -> Vec<String> {
    let has_file = |name: &str| package.manifest_path.with_file_name(name).exists();
    let all_features = &package.metadata["docs"]["rs"]["all-features"];
    [
        ("a `description`", package.description.is_some()),
        ("a `repository`", package.repository.is_some()),
        ("1 to 5 `keywords`", (1..=5).contains(&package.keywords.len())),
        ("`categories`", !package.categories.is_empty()),
        ("a README.md", has_file("README.md")),
        ("a link to ../../LICENSE-MIT", has_file("LICENSE-MIT")),
        ("a link to ../../LICENSE-APACHE", has_file("LICENSE-APACHE")),
        ("`all-features = true` in `[package.metadata.docs.rs]`", *all_features == true),
    ]
    .into_iter()
    .filter(|(_, is_there)| !is_there)
    .map(|(what, _)| format!("{}: expected {what}", package.manifest_path))
    .collect()
}
