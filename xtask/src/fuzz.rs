//! Runs the fuzz targets of `tests/fuzz`, beginning with seeds from the recordings and examples.

use std::fs;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, bail};
use clap::builder::PossibleValuesParser;

use crate::tools::FUZZ;
use crate::{cargo, cargo_command};

/// A fuzz target, and the files that it starts from.
struct Target {
    name: &'static str,
    seeds: &'static [Seeds],
}

/// Seeds of all files of a folder with one of these endings, each after a prefix.
struct Seeds {
    /// If it ends with `*`, all folders whose paths begin so.
    folder: &'static str,
    endings: &'static [&'static str],
    prefix: &'static str,
}

const fn seeds(folder: &'static str, endings: &'static [&'static str], prefix: &'static str) -> Seeds {
    Seeds { folder, endings, prefix }
}

const LINES: &[&str] = &["jsonl"];
const OTLP: &[&str] = &["jsonl", "bin"];
const SETTINGS: &[&str] = &["yaml", "json"];
/// The first byte of a target of lines: its adapter restarts after that line.
const RESTART: &str = "\u{3}";
const READS: &str = "GET /v1/slos?limit=2\u{1e}GET /v1/alerts?state=open\u{1e}GET /v1/traces?slo=a&bad=true\u{1e}GET /v1/traces/0af7651916cd43dd8448eb211c80319c\u{1e}GET /metrics\u{1e}GET /v1/live\n\n\n\n\n\n\n\n";

const TARGETS: [Target; 18] = [
    Target { name: "native", seeds: &[seeds("docs/examples", LINES, RESTART)] },
    Target {
        name: "langgraph",
        seeds: &[
            seeds("tests/recordings/langgraph", LINES, RESTART),
            seeds("tests/fuzz/seeds/langgraph", LINES, RESTART),
        ],
    },
    Target { name: "autogen", seeds: &[seeds("tests/recordings/autogen", LINES, RESTART)] },
    Target { name: "crewai", seeds: &[seeds("tests/recordings/crewai", LINES, RESTART)] },
    Target { name: "dify", seeds: &[seeds("tests/recordings/dify", LINES, RESTART)] },
    Target { name: "langchain", seeds: &[seeds("tests/recordings/langchain", LINES, RESTART)] },
    Target { name: "llamaindex", seeds: &[seeds("tests/recordings/llamaindex", LINES, RESTART)] },
    Target { name: "semantic_kernel", seeds: &[seeds("tests/recordings/semantic-kernel", LINES, RESTART)] },
    Target { name: "openai_agents", seeds: &[seeds("tests/recordings/openai-agents", LINES, RESTART)] },
    Target { name: "otlp_traces", seeds: &[seeds("tests/recordings/otlp-*", OTLP, "")] },
    Target { name: "otlp_logs", seeds: &[seeds("tests/fuzz/seeds/otlp_logs", &["json"], "")] },
    Target {
        name: "slo_specs",
        seeds: &[seeds("docs/examples", SETTINGS, ""), seeds("crates/sre-slo/tests/openslo", SETTINGS, "")],
    },
    Target {
        name: "settings",
        seeds: &[
            seeds("docs/examples/serve", SETTINGS, ""),
            seeds("docs/examples/guards", SETTINGS, ""),
            seeds("docs/examples/alerts", SETTINGS, ""),
        ],
    },
    Target { name: "values", seeds: &[] },
    Target { name: "trace_context", seeds: &[seeds("tests/fuzz/seeds/trace_context", &["txt"], "")] },
    Target { name: "state", seeds: &[seeds("tests/state", &["bin"], "")] },
    Target { name: "journal", seeds: &[] },
    Target {
        name: "requests",
        seeds: &[
            seeds("docs/examples", LINES, "POST /v1/events/sre\n\n\n\n\n\n\n\n"),
            seeds(
                "tests/recordings/otlp-semantic-kernel",
                &["bin"],
                "POST /v1/traces\napplication/x-protobuf\n\n\n\n\n\n\n",
            ),
            seeds("tests/fuzz/seeds/otlp_logs", &["json"], "POST /v1/logs\napplication/json\n\n\n\n\n\n\n"),
            seeds("docs/examples", &["yaml"], READS),
            seeds("tests/fuzz/seeds/requests", &["txt"], ""),
        ],
    },
];

/// The length of the longest seed in bytes. Each mutation of a longer one would take long.
const LONGEST: usize = 32 << 10;
const FOLDER: &str = "target/fuzz";
const TARGET: (&str, &str) = ("CARGO_TARGET_DIR", FOLDER);

/// Returns the parser of target names for `cargo xtask fuzz`.
pub(crate) fn names() -> PossibleValuesParser {
    TARGETS.map(|target| target.name).into()
}

/// Runs targets of these names, or all, for some seconds each.
pub(crate) fn run(names: &[String], seconds: u64, install: bool) -> anyhow::Result<()> {
    if FUZZ.version().is_none() && !(install && FUZZ.install()) {
        bail!("cargo-fuzz is not installed; `cargo install --locked cargo-fuzz` installs it");
    }
    // Sanitizers need a nightly toolchain. Safe code has no use for them.
    cargo(&["fuzz", "build", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none"], &[TARGET])?;
    let targets = TARGETS.iter().filter(|target| names.is_empty() || names.iter().any(|name| name == target.name));
    let waiting = Mutex::new(targets);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    // Each core takes the next target once it is done with one.
    let work = || std::iter::from_fn(next).try_for_each(|target| target.run(seconds));
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

fn folder(kind: &str, target: &Target) -> anyhow::Result<PathBuf> {
    let folder = Path::new(FOLDER).join(kind).join(target.name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

impl Target {
    fn run(&self, seconds: u64) -> anyhow::Result<()> {
        let (corpus, seeds) = (folder("corpus", self)?, folder("seeds", self)?);
        self.write_seeds(&seeds)?;
        let mut command = cargo_command(&["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none", self.name]);
        // An input that takes longer, or more memory, is a fault as much as a panic is.
        let limit = format!("-max_total_time={seconds}");
        command.args([&corpus, &seeds]).args(["--", &limit, "-timeout=10", "-rss_limit_mb=1024", "-verbosity=0"]);
        command.arg("-print_final_stats=1").env(TARGET.0, TARGET.1);
        // The service syncs its journal, which takes long on a disk.
        if Path::new("/dev/shm").is_dir() {
            command.env("TMPDIR", "/dev/shm");
        }
        let output = command.output().context("cannot start cargo")?;
        let printed = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{printed}\n{}: an input fails; its file is named above", self.name);
        }
        let inputs = printed.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        println!("{}: {} inputs in {seconds} s", self.name, inputs.unwrap_or_default().trim());
        Ok(())
    }

    fn write_seeds(&self, to: &Path) -> anyhow::Result<()> {
        let mut number = 0;
        for Seeds { folder, endings, prefix } in self.seeds {
            for path in files(folder)? {
                let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
                if endings.contains(&ending) {
                    let seed = [prefix.as_bytes(), &fs::read(&path)?].concat();
                    // Of a long file, the lines that fit.
                    let end = if seed.len() <= LONGEST { Some(seed.len()) } else { last_newline(&seed[..LONGEST]) };
                    if let Some(end) = end {
                        fs::write(to.join(number.to_string()), &seed[..end])?;
                        number += 1;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns the files of a folder, or of all folders that begin so if it ends with `*`.
fn files(folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    let list = |folder: &Path| -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        Ok(entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?)
    };
    let Some(beginning) = folder.strip_suffix('*') else { return list(Path::new(folder)) };
    let parent = Path::new(beginning).parent().context("a folder of folders")?;
    let folders = list(parent)?.into_iter().filter(|path| path.to_string_lossy().starts_with(beginning));
    Ok(folders.map(|folder| list(&folder)).collect::<Result<Vec<_>, _>>()?.concat())
}

fn last_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|byte| *byte == b'\n')
}
