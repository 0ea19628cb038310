use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::tools::{DEB, MATURIN, Tool};
use crate::{cargo, install, run_command};

const FOLDER: &str = "target/dist";
/// The stripped command, its completions and manual pages; `crates/sre-cli/Cargo.toml` names it too.
const FILES: &str = "target/dist-files";

/// Builds the wheel, a tarball and a Debian package in `target/dist`, and tries each. With `dev`, the binary is not optimized.
pub(crate) fn run(with_install: bool, dev: bool) -> anyhow::Result<()> {
    for tool in [&MATURIN, &DEB] {
        require(tool, with_install)?;
    }
    let _ = std::fs::remove_dir_all(FOLDER);
    std::fs::create_dir_all(FOLDER)?;
    let profile = if dev { "dev" } else { "release" };
    wheel(profile)?;
    cargo(&["build", "--locked", "-p", "sre-cli", "--profile", profile], &[])?;
    files(&format!("target/{}/sre", if dev { "debug" } else { "release" }))?;
    let tarball = tarball()?;
    // The package lists its files; the warnings are about their places.
    run_command(
        DEB.command(&["--quiet", "--locked", "--no-build", "--package", "sre-cli"]).args(["--output", FOLDER]),
    )?;
    try_wheel()?;
    try_tarball(&tarball)?;
    try_debian_package()
}

/// Fails if a tool is missing and may not, or cannot, be installed.
fn require(tool: &Tool, with_install: bool) -> anyhow::Result<()> {
    if tool.version().is_none() && !(with_install && tool.install()) {
        bail!("{} is not installed; `cargo xtask dist --install` installs it", tool.program());
    }
    Ok(())
}

/// Builds the wheel of the stripped command and the taps.
fn wheel(profile: &str) -> anyhow::Result<()> {
    let mut maturin = MATURIN.command(&["build", "--locked", "--manifest-path", "crates/sre-cli/Cargo.toml"]);
    run_command(maturin.args(["--profile", profile, "--out", FOLDER]))
}

/// Strips the command, and writes its completions and manual pages.
fn files(sre: &str) -> anyhow::Result<()> {
    let _ = std::fs::remove_dir_all(FILES);
    run_command(Command::new(sre).args(["generate", FILES]))?;
    run_command(Command::new("strip").arg(sre).args(["-o", &format!("{FILES}/sre")]))
}

/// Packs the command, its completions and manual pages, and the licenses. Returns the name without extension.
fn tarball() -> anyhow::Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("sre-{version}-{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let folder = Path::new(FOLDER).join(&name);
    std::fs::create_dir_all(folder.join("completions"))?;
    for file in ["LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"] {
        std::fs::copy(file, folder.join(file)).context(file)?;
    }
    for (file, part) in [("sre", ""), ("sre.bash", "completions"), ("_sre", "completions"), ("sre.fish", "completions")]
    {
        std::fs::copy(Path::new(FILES).join(file), folder.join(part).join(file)).context(file)?;
    }
    copy_all(FILES, "1", &folder.join("man"))?;
    run_command(Command::new("tar").args(["-C", FOLDER, "-czf", &format!("{FOLDER}/{name}.tar.gz"), &name]))?;
    Ok(name)
}

/// Installs the wheel into a fresh environment, and runs what it has.
fn try_wheel() -> anyhow::Result<()> {
    let wheel = built("whl")?;
    let environment = "target/dist-venv";
    let _ = std::fs::remove_dir_all(environment);
    let pip = format!("{environment}/bin/pip");
    if !(install("python3", &["-m", "venv", environment])
        && install(&pip, &["install", "-q", "--no-index", &wheel.to_string_lossy()]))
    {
        bail!("cannot install {}", wheel.display());
    }
    run_command(Command::new(format!("{environment}/bin/sre")).arg("--version"))?;
    let files = std::fs::read_dir("crates/sre-cli/python/sre_taps")?.collect::<Result<Vec<_>, _>>()?;
    let modules = files.iter().filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".py")?.to_owned()));
    let modules = modules.filter(|module| module != "__init__");
    let imports: Vec<String> = modules.map(|module| format!("import sre_taps.{module}")).collect();
    run_command(Command::new(format!("{environment}/bin/python")).args(["-c", &imports.join("; ")]))
}

/// Checks the files in the tarball.
fn try_tarball(name: &str) -> anyhow::Result<()> {
    let files = ["sre", "completions/sre.bash", "completions/_sre", "completions/sre.fish", "man/sre.1"];
    let files = files.into_iter().chain(["LICENSE-APACHE", "LICENSE-MIT"]).map(|file| format!("{name}/{file}"));
    contains(Command::new("tar").args(["-tzf", &format!("{FOLDER}/{name}.tar.gz")]), files)
}

/// Checks the files in the Debian package, unpacks it, and runs its command on its example.
fn try_debian_package() -> anyhow::Result<()> {
    let package = built("deb")?;
    let files = [
        "usr/bin/sre",
        "usr/share/bash-completion/completions/sre",
        "usr/share/zsh/vendor-completions/_sre",
        "usr/share/fish/vendor_completions.d/sre.fish",
        "usr/share/man/man1/sre.1.gz",
        "usr/share/doc/agent-sre/README.md",
        "usr/share/doc/agent-sre/LICENSE-APACHE",
        "usr/share/doc/agent-sre/LICENSE-MIT",
    ];
    contains(Command::new("dpkg-deb").arg("--contents").arg(&package), files.map(|file| format!("./{file}")))?;
    let folder = "target/dist-deb";
    let _ = std::fs::remove_dir_all(folder);
    run_command(Command::new("dpkg").arg("-x").arg(&package).arg(folder))?;
    let sre = format!("{folder}/usr/bin/sre");
    run_command(Command::new(&sre).arg("--version"))?;
    let examples = format!("{folder}/usr/share/doc/agent-sre/examples");
    let (slo, events) = (format!("{examples}/support.yaml"), format!("{examples}/events.jsonl"));
    run_command(Command::new(&sre).args(["check", "--slo", &slo, &events]))
}

/// Returns the file in `target/dist` with an extension.
fn built(extension: &str) -> anyhow::Result<PathBuf> {
    std::fs::read_dir(FOLDER)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .with_context(|| format!("found no .{extension} in {FOLDER}"))
}

/// Fails unless a command that lists an archive prints each of the files at the end of a line.
fn contains(list: &mut Command, files: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
    let output = list.output().with_context(|| format!("cannot start {list:?}"))?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let is_missing = |file: &String| !listed.lines().any(|line| line.split(' ').next_back() == Some(file.as_str()));
    let missing: Vec<String> = files.into_iter().filter(is_missing).collect();
    if !missing.is_empty() {
        bail!("{list:?} lists no {}", missing.join(", "));
    }
    Ok(())
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
