use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cargo;

/// Something from outside that some tests use when it is there.
enum Outside {
    /// A program of a Debian package.
    Program { name: &'static str, debian: &'static str },
    /// A module of Python, by its name there and on PyPI.
    Module { name: &'static str, pypi: &'static str },
}

const OUTSIDE: [Outside; 6] = [
    Outside::Program { name: "chromium", debian: "chromium" },
    Outside::Program { name: "chromedriver", debian: "chromium-driver" },
    Outside::Program { name: "prometheus-alertmanager", debian: "prometheus-alertmanager" },
    Outside::Program { name: "promtool", debian: "prometheus" },
    Outside::Module { name: "prometheus_client", pypi: "prometheus-client" },
    Outside::Module { name: "rotel", pypi: "rotel" },
];

pub(crate) fn run(install: bool) -> anyhow::Result<()> {
    if install {
        OUTSIDE.iter().filter(|outside| !outside.is_there()).for_each(Outside::fetch);
    }
    // Tests that find no outside program write their names here; see `sre_testkit::outside`.
    let skipped = PathBuf::from("target/skipped-tests.txt");
    let _ = std::fs::remove_file(&skipped);
    std::fs::create_dir_all("target")?;
    let path = std::path::absolute(&skipped)?;
    if install {
        install_taps();
    }
    let tested = cargo(&["test", "--workspace", "--all-features"], &[("SRE_SKIPPED", &path.to_string_lossy())]);
    match std::fs::read_to_string(&skipped) {
        Ok(list) => eprintln!("\nskipped:\n{list}"),
        Err(_) => eprintln!("\nnothing was skipped"),
    }
    tested?;
    // Every interleaving of a few threads, with the lock-free parts built on loom's atomics.
    let loom = [("RUSTFLAGS", "--cfg sre_loom"), ("CARGO_TARGET_DIR", "target/loom")];
    cargo(&["test", "-p", "sre-cascade", "--release", "--test", "loom"], &loom)
}

/// The agents' frameworks that the taps of `docs/serve.md` are tried with, in folders of their own.
fn install_taps() {
    let folder = PathBuf::from("target/taps");
    let (venv, node) = (folder.join("venv"), folder.join("node"));
    eprintln!("$ pip and npm install what tests/taps wants");
    let (venv_path, node_path) = (venv.to_string_lossy(), node.to_string_lossy());
    let python = venv.join("bin/python").to_string_lossy().into_owned();
    let pip = ["-m", "pip", "install", "-q", "-r", "tests/taps/requirements.txt"];
    let npm = ["install", "--silent", "--no-audit", "--no-fund", "--prefix", &*node_path];
    let has_python = (venv.exists() || runs("python3", &["-m", "venv", &venv_path])) && runs(&python, &pip);
    let has_node = std::fs::create_dir_all(&node).is_ok()
        && std::fs::copy("tests/taps/package.json", node.join("package.json")).is_ok()
        && runs("npm", &npm);
    if !has_python || !has_node {
        eprintln!("not all of that can be installed here");
    }
}

impl Outside {
    fn is_there(&self) -> bool {
        match self {
            Self::Program { name, .. } => runs(name, &["--version"]),
            Self::Module { name, .. } => runs("python3", &["-c", &format!("import {name}")]),
        }
    }

    /// Tries to install; a test that still finds nothing is skipped and listed.
    fn fetch(&self) {
        let fetched = match self {
            Self::Program { debian, .. } => {
                eprintln!("$ apt-get install {debian}");
                runs("apt-get", &["update", "-q"])
                    && runs("apt-get", &["install", "-y", "-q", "--no-install-recommends", debian])
            }
            Self::Module { pypi, .. } => {
                eprintln!("$ pip install {pypi}");
                runs("python3", &["-m", "pip", "install", "-q", pypi])
                    || runs("python3", &["-m", "pip", "install", "-q", "--break-system-packages", pypi])
            }
        };
        if !fetched {
            eprintln!("that cannot be installed here");
        }
    }
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
