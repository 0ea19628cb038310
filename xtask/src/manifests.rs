use anyhow::bail;
use cargo_metadata::{MetadataCommand, Package};

/// Fails if a published crate lacks metadata that crates.io and docs.rs show, or its README a feature.
pub(crate) fn check() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let packages = metadata.workspace_packages();
    let published = packages.iter().filter(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty()));
    let mut incomplete = Vec::new();
    for package in published {
        incomplete.extend(missing(package));
        let readme = package.manifest_path.with_file_name("README.md");
        let text = std::fs::read_to_string(&readme).unwrap_or_default();
        let absent = features_without_row(&text, package.features.keys().map(String::as_str));
        incomplete.extend(absent.map(|feature| format!("{readme}: expected a row of the feature `{feature}`")));
    }
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

/// Returns the features that no table of the README describes.
fn features_without_row<'a>(readme: &str, features: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let has_row = |feature: &str| readme.lines().any(|line| line.starts_with(&format!("| `{feature}`")));
    features.filter(move |feature| *feature != "default" && !has_row(feature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_passes() {
        check().unwrap();
    }

    #[test]
    fn a_feature_without_a_row_is_found() {
        let readme =
            "| feature | |\n| --- | --- |\n| `slo` (default) | objectives |\n| `full` | `http` and all others |\n";
        let absent: Vec<&str> = features_without_row(readme, ["default", "full", "http", "slo"].into_iter()).collect();
        assert_eq!(absent, ["http"]);
    }
}
