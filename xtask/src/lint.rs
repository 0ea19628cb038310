use anyhow::bail;

use crate::tools::{DENY, HACK, Tool};
use crate::{cargo, docs, layers, manifests};

/// Checks that need a tool of their own: the arguments of cargo.
const WITH_TOOLS: [(Tool, &[&str]); 2] = [
    // Each feature must compile without the others, and the crate without any. `sre-cli` has no features, and alone it takes
    // minutes, because it compiles jemalloc again; `cargo xtask verify package` builds it from its package.
    (HACK, &["hack", "check", "--quiet", "--workspace", "--exclude", "sre-cli", "--each-feature"]),
    // Advisories need a database from the network; `docs/verification.md` has the command.
    (DENY, &["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]),
];

pub(crate) fn run(install: bool) -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    layers::check()?;
    manifests::check()?;
    cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"], &[])?;
    let mut skipped = Vec::new();
    for (tool, arguments) in &WITH_TOOLS {
        if tool.version().is_some() || (install && tool.install()) {
            cargo(arguments, &[])?;
        } else if install {
            bail!("cargo-{} is missing and could not be installed", tool.name);
        } else {
            skipped.push(tool.name);
        }
    }
    docs::check()?;
    for tool in skipped {
        eprintln!("skipped: cargo-{tool} is not installed; `cargo xtask lint --install` installs it");
    }
    Ok(())
}
