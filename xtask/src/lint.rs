use cargo_metadata::MetadataCommand;

use crate::{cargo, layers};

pub(crate) fn run() -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    layers::check()?;
    cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"], &[])?;
    each_feature_alone()?;
    cargo(&["doc", "--workspace", "--no-deps", "--all-features"], &[("RUSTDOCFLAGS", "-D warnings")])
}

/// Features are additive: each compiles without the others, and so does none of them.
fn each_feature_alone() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let own: Vec<&String> = package.features.keys().filter(|feature| *feature != "default").collect();
        if own.is_empty() {
            continue;
        }
        cargo(&["check", "-q", "-p", name, "--no-default-features"], &[])?;
        for feature in own {
            cargo(&["check", "-q", "-p", name, "--no-default-features", "--features", feature], &[])?;
        }
    }
    Ok(())
}
