use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::tools::MATURIN;
use crate::{cargo, install, run_command};

const FOLDER: &str = "target/dist";

/// Builds the wheel, and a tarball with completions and manual pages, in `target/dist`. With `dev`, the binary is not optimized.
pub(crate) fn run(with_install: bool, dev: bool) -> anyhow::Result<()> {
    if MATURIN.version().is_none() && !(with_install && MATURIN.install()) {
        bail!("maturin is not installed; `cargo xtask dist --install` installs it");
    }
    let _ = std::fs::remove_dir_all(FOLDER);
    std::fs::create_dir_all(FOLDER)?;
    let profile = if dev { "dev" } else { "release" };
    wheel(profile)?;
    cargo(&["build", "--locked", "-p", "sre-cli", "--profile", profile], &[])?;
    let sre = format!("target/{}/sre", if dev { "debug" } else { "release" });
    tarball(&sre)?;
    try_wheel()
}

/// Builds the wheel of the stripped command and the taps.
fn wheel(profile: &str) -> anyhow::Result<()> {
    let mut maturin = MATURIN.command(&["build", "--locked", "--manifest-path", "crates/sre-cli/Cargo.toml"]);
    run_command(maturin.args(["--profile", profile, "--out", FOLDER]))
}

/// Installs the wheel into a fresh environment, and runs what it has.
fn try_wheel() -> anyhow::Result<()> {
    let wheel = std::fs::read_dir(FOLDER)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("maturin has built no wheel")?;
    let environment = "target/dist-venv";
    let _ = std::fs::remove_dir_all(environment);
    let pip = format!("{environment}/bin/pip");
    if !(install("python3", &["-m", "venv", environment])
        && install(&pip, &["install", "-q", "--no-index", &wheel.to_string_lossy()]))
    {
        bail!("cannot install {}", wheel.display());
    }
    run_command(Command::new(format!("{environment}/bin/sre")).arg("--version"))?;
    let modules = "langgraph langchain openai_agents llamaindex crewai autogen semantic_kernel dify";
    let imports: Vec<String> = modules.split(' ').map(|module| format!("import sre_taps.{module}")).collect();
    run_command(Command::new(format!("{environment}/bin/python")).args(["-c", &imports.join("; ")]))
}

/// Packs the command, its completions and manual pages, and the licenses.
fn tarball(sre: &str) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("sre-{version}-{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let folder = Path::new(FOLDER).join(&name);
    std::fs::create_dir_all(&folder)?;
    for file in [sre, "LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"] {
        let path = Path::new(file);
        std::fs::copy(path, folder.join(path.file_name().context("a file")?)).with_context(|| file.to_owned())?;
    }
    let binary = folder.join("sre");
    run_command(Command::new("strip").arg(&binary))?;
    run_command(Command::new(&binary).args(["generate", "target/dist-generated"]))?;
    for (extension, part) in [("1", "man"), ("bash", "completions"), ("fish", "completions")] {
        copy_all("target/dist-generated", extension, &folder.join(part))?;
    }
    std::fs::copy("target/dist-generated/_sre", folder.join("completions/_sre"))?;
    run_command(Command::new("tar").args(["-C", FOLDER, "-czf", &format!("{FOLDER}/{name}.tar.gz"), &name]))
}

/// Copies the files with an extension to a folder.
fn copy_all(from: &str, extension: &str, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            std::fs::copy(&path, to.join(path.file_name().context("a file")?))?;
        }
    }
    Ok(())
}
