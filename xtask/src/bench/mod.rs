//! Runs the benchmarks, compares the results with their required bounds, and writes the tables of `docs/performance.md`.

mod figure;
mod long_input;
mod requirements;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use serde_json::Value;

use self::figure::{Figure, Required};
use self::requirements::{Bound, Requirement};
use crate::cargo;

/// A row is met when its worst run is: what holds only in the best of several runs does not hold.
const RUNS: usize = 3;
const RESULTS: &str = "target/bench-runs.json";
pub(crate) const DOCS: &str = "docs/performance.md";

/// The tables of the page, and the benchmarks that each needs.
const TABLES: [(&str, &[&str]); 5] = [
    ("core", &["slo", "input", "alerts"]),
    ("guards", &["breakers", "costs"]),
    ("exporters", &["exporters"]),
    ("trace", &["trace"]),
    ("serve", &["serve"]),
];

/// Returns the parser of table names for `cargo xtask bench`.
pub(crate) fn names() -> PossibleValuesParser {
    TABLES.map(|(name, _)| name).into()
}

/// Measures the tables of these names, or all, or only prints and writes them as they were last measured.
pub(crate) fn run(names: &[String], last: bool) -> anyhow::Result<()> {
    let mut results: BTreeMap<String, Vec<Vec<Figure>>> = match fs::read(RESULTS) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(_) => BTreeMap::new(),
    };
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    if !last && (is_wanted("core") || is_wanted("serve")) {
        // Both start this binary.
        cargo(&["build", "--release", "--bin", "sre"], &[])?;
    }
    let mut docs = fs::read_to_string(DOCS)?;
    for (name, benches) in TABLES {
        if !is_wanted(name) {
            continue;
        }
        if !last {
            let runs = (0..RUNS).map(|_| measure(name, benches)).collect::<anyhow::Result<_>>()?;
            results.insert(name.to_owned(), runs);
            fs::write(RESULTS, serde_json::to_vec(&results)?)?;
        }
        let runs = results.get(name).with_context(|| format!("run `cargo xtask bench {name}` first"))?;
        let table = figure::table(runs);
        println!("{table}");
        docs = with_block(&docs, name, &table)?;
    }
    let machine = machine();
    println!("{machine}");
    fs::write(DOCS, with_block(&docs, "machine", &machine)?)?;
    Ok(())
}

fn measure(table: &str, benches: &[&str]) -> anyhow::Result<Vec<Figure>> {
    let mut arguments = vec!["bench", "-p", "sre-tests"];
    arguments.extend(benches.iter().flat_map(|bench| ["--bench", bench]));
    cargo(&arguments, &[])?;
    match table {
        "core" => {
            let mut core = figures(&requirements::CORE)?;
            core.extend(long_input::measure()?);
            Ok(core)
        }
        "guards" => figures(&requirements::GUARDS),
        "exporters" => figures(&requirements::EXPORTERS),
        "trace" => figures(&requirements::TRACE),
        _ => {
            let serve = fs::read("target/bench-serve.json").context("`benches/serve.rs` writes it")?;
            Ok(serde_json::from_slice(&serve)?)
        }
    }
}

fn figures(requirements: &[Requirement]) -> anyhow::Result<Vec<Figure>> {
    let figure = |Requirement { what, measured, bound }: &Requirement| {
        let required = match *bound {
            Bound::Nanos(most) => Required::AtMost(most),
            Bound::Times(most, peer) => Required::Times { most, peer: peer.to_owned(), of_peer: nanos(peer)? },
        };
        Ok(Figure { what: (*what).to_owned(), measured: nanos(measured)?, unit: "ns".to_owned(), required })
    };
    requirements.iter().map(figure).collect()
}

/// Returns nanoseconds per iteration: the tenth percentile of criterion's samples. Other load on a shared machine makes samples
/// slower and never faster, so the fast ones measure the code itself.
fn nanos(benchmark: &str) -> anyhow::Result<f64> {
    let path = PathBuf::from("target/criterion").join(benchmark).join("new/sample.json");
    let text =
        fs::read_to_string(&path).with_context(|| format!("{}: run `cargo xtask bench` first", path.display()))?;
    let samples: Value = serde_json::from_str(&text)?;
    let numbers = |field: &str| samples[field].as_array().into_iter().flatten().filter_map(Value::as_f64);
    let mut nanos: Vec<f64> =
        numbers("times").zip(numbers("iters")).map(|(time, iterations)| time / iterations).collect();
    nanos.sort_by(f64::total_cmp);
    nanos.get(nanos.len() / 10).copied().with_context(|| format!("{}: no samples", path.display()))
}

/// Names the machine: its processor, and how much of it there is.
fn machine() -> String {
    let read = |path: &str, field: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let kib: u64 = read("/proc/meminfo", "MemTotal").split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let (name, cache) = (read("/proc/cpuinfo", "model name"), read("/proc/cpuinfo", "cache size"));
    format!("Processor: {cores} cores of {name} ({cache} cache), {} GiB of memory.\n", kib / (1024 * 1024))
}

/// Replaces what is between `<!-- bench: NAME -->` and the next `<!-- end -->`.
pub(crate) fn with_block(text: &str, name: &str, content: &str) -> anyhow::Result<String> {
    let begin = format!("<!-- bench: {name} -->\n");
    let (head, rest) = text.split_once(&begin).with_context(|| format!("{DOCS}: found no `{}`", begin.trim()))?;
    let (_, tail) =
        rest.split_once("<!-- end -->").with_context(|| format!("{DOCS}: `{}` has no end", begin.trim()))?;
    Ok(format!("{head}{begin}\n{content}\n<!-- end -->{tail}"))
}
