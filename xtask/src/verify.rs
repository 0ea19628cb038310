use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::builder::PossibleValuesParser;

use crate::tools::{FUZZ, MATURIN, SEMVER_CHECKS, Tool};
use crate::{cargo, dist, fuzz, soak};

/// A check that is too slow for CI or needs tools that CI lacks.
struct Check {
    name: &'static str,
    what: &'static str,
    tool: Option<Tool>,
    /// Returns why the check cannot run, if it is no failure.
    skip: fn(&Options) -> Option<&'static str>,
    /// Runs the check, and returns the text of its row if it passes.
    run: fn(&Options) -> anyhow::Result<String>,
}

const CHECKS: [Check; 7] = [
    Check {
        name: "adapter-memory",
        what: "memory of each adapter is flat over ten million records",
        tool: None,
        skip: never,
        run: adapter_memory,
    },
    Check { name: "charge-lines", what: "cache misses of a charge", tool: None, skip: never, run: charge_lines },
    Check {
        name: "dist",
        what: "the wheel installs, its command runs and every tap imports",
        tool: Some(MATURIN),
        skip: never,
        run: |_| dist::run(false, false).map(|()| "passed".to_owned()),
    },
    Check {
        name: "fuzz",
        what: "no input breaks a parser, saved state or the service",
        tool: Some(FUZZ),
        skip: never,
        run: |_| {
            fuzz::run(&[], FUZZ_SECONDS, false)?;
            Ok(format!("passed, {FUZZ_SECONDS} s for each target"))
        },
    },
    Check {
        name: "package",
        what: "every crate builds from its package alone",
        tool: None,
        skip: never,
        run: |_| cargo(&["package", "--workspace", "--quiet"], &[]).map(|()| "passed".to_owned()),
    },
    Check {
        name: "semver",
        what: "no break of the public API since the revision that it is compared with",
        tool: Some(SEMVER_CHECKS),
        skip: |options| options.baseline.is_none().then_some("no release tag; pass `--baseline-rev`"),
        run: semver,
    },
    Check {
        name: "soak",
        what: "under load and one fault after the other, exactly what was acknowledged counts",
        tool: None,
        skip: never,
        run: |_| {
            soak::run(SOAK_MINUTES, None, false)?;
            Ok(format!("passed, {SOAK_MINUTES} minutes"))
        },
    },
];

const FUZZ_SECONDS: u64 = 60;
const SOAK_MINUTES: f64 = 10.0;

struct Options {
    /// The revision that the public API is compared with: the one given, or the last tag.
    baseline: Option<String>,
}

/// Returns the parser of check names for `cargo xtask verify`.
pub(crate) fn names() -> PossibleValuesParser {
    CHECKS.iter().map(|check| check.name).collect::<Vec<_>>().into()
}

/// Runs checks, and prints a table for `docs/verification.md`.
pub(crate) fn run(names: &[String], baseline_rev: Option<String>) -> anyhow::Result<()> {
    let baseline = match baseline_rev {
        // A branch moves on; the row names the commit.
        Some(rev) => Some(
            git(&["rev-parse", "--short", &rev])?
                .with_context(|| format!("found no revision `{rev}`, expected a commit, tag or branch"))?,
        ),
        None => git(&["describe", "--tags", "--abbrev=0"])?,
    };
    let options = Options { baseline };
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let rows: Vec<(bool, String)> = CHECKS
        .iter()
        .filter(|check| names.is_empty() || names.iter().any(|name| name == check.name))
        .map(|check| check.row(&options, &cargo))
        .collect();
    println!("| check | what it shows | with | result | took |\n| --- | --- | --- | --- | ---: |");
    rows.iter().for_each(|(_, row)| println!("{row}"));
    if rows.iter().any(|(passed, _)| !passed) {
        bail!("at least one check failed");
    }
    Ok(())
}

impl Check {
    /// Runs the check; returns whether it passed, and its row of the table.
    fn row(&self, options: &Options, cargo: &str) -> (bool, String) {
        let Self { name, what, .. } = self;
        if let Some(reason) = (self.skip)(options) {
            return (true, format!("| `{name}` | {what} | | skipped: {reason} | |"));
        }
        let started = Instant::now();
        let mut with = version_of(cargo);
        let result = match &self.tool {
            None => (self.run)(options),
            Some(tool) => match tool.version() {
                Some(version) => {
                    with = format!("{with}, {version}");
                    (self.run)(options)
                }
                None => Err(anyhow::anyhow!("not installed: `cargo install --locked {}`", tool.program())),
            },
        };
        let passed = result.is_ok();
        let result = result.unwrap_or_else(|error| format!("**failed**: {error}"));
        (passed, format!("| `{name}` | {what} | {with} | {result} | {} s |", started.elapsed().as_secs()))
    }
}

/// Returns name and version of a program, such as `cargo 1.95.0`, without commit and date.
fn version_of(program: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let printed = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    printed.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn never(_: &Options) -> Option<&'static str> {
    None
}

fn semver(options: &Options) -> anyhow::Result<String> {
    let baseline = options.baseline.as_deref().context("a revision to compare with")?;
    cargo(&["semver-checks", "--workspace", "--all-features", "--baseline-rev", baseline], &[])?;
    Ok(format!("passed, compared with {baseline}"))
}

/// Maximum number of cache lines that a charge reads or writes.
const MAX_CHARGE_LINES: f64 = 4.1;

/// Counts the misses of a simulated cache of 1 MiB, whatever the machine's own caches are.
fn charge_lines(_: &Options) -> anyhow::Result<String> {
    cargo(&["build", "--release", "-p", "sre-tests", "--example", "charge_lines"], &[])?;
    let misses = |what: &str, rounds: &str| {
        let out = "target/cachegrind.out";
        let mut command = Command::new("valgrind");
        command.args(["--tool=cachegrind", "--cache-sim=yes", "--D1=32768,8,64", "--LL=1048576,16,64"]);
        command.arg(format!("--cachegrind-out-file={out}")).args([
            "target/release/examples/charge_lines",
            what,
            rounds,
        ]);
        if !command.output().context("cannot start valgrind")?.status.success() {
            bail!("valgrind failed");
        }
        // The last line is `summary: Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw`.
        let text = std::fs::read_to_string(out)?;
        let counts: Vec<f64> = text
            .lines()
            .find_map(|line| line.strip_prefix("summary:"))
            .context("cachegrind's output has a summary")?
            .split_whitespace()
            .filter_map(|count| count.parse().ok())
            .collect();
        Ok(counts.get(5).context("a count")? + counts.get(8).context("a count")?)
    };
    let per_charge = |what: &str| -> anyhow::Result<f64> {
        // One round more, without what begins once.
        Ok((misses(what, "2")? - misses(what, "1")?) / 200_000.0)
    };
    let (guard, governor) = (per_charge("guard")?, per_charge("governor")?);
    let lines = format!("{guard:.2}; governor's rate limiter: {governor:.2}");
    // Two of the account, and two of the table of names.
    if guard > MAX_CHARGE_LINES {
        bail!("found {lines}, expected at most {MAX_CHARGE_LINES}");
    }
    Ok(lines)
}

/// Number of records that each adapter reads.
const RECORDS: &str = "10000000";
/// How much the peak memory of an adapter may grow after a fifth of the records, in KiB.
const MAX_GROWTH: u64 = 512;

/// Measures each adapter in a process of its own; OpenTelemetry's with the spans of one dialect.
fn adapter_memory(_: &Options) -> anyhow::Result<String> {
    cargo(&["build", "--release", "-p", "sre-tests", "--example", "adapter_memory"], &[])?;
    let mut folders: Vec<String> = std::fs::read_dir("tests/recordings")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with("otlp-") || name == "otlp-semantic-kernel")
        .collect();
    folders.sort();
    let start = |folder: String| {
        let mut example = Command::new("target/release/examples/adapter_memory");
        let process = example.args([&*folder, RECORDS]).stdout(Stdio::piped()).spawn();
        process.map(|process| (folder, process)).context("cannot start the example")
    };
    let started = folders.into_iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let (adapters, mut peak, mut growth) = (started.len(), 0, 0);
    for (folder, process) in started {
        let output = process.wait_with_output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let (before, after) = printed.trim().split_once(' ').with_context(|| format!("{folder}: no measurement"))?;
        let (before, after): (u64, u64) = (before.parse()?, after.parse()?);
        eprintln!("{folder}: {before} KiB after a fifth of the records, {after} KiB at the end");
        if after > before + MAX_GROWTH {
            bail!("{folder}: found {before} KiB, then {after} KiB, expected a growth of at most {MAX_GROWTH} KiB");
        }
        (peak, growth) = (peak.max(after), growth.max(after - before));
    }
    Ok(format!("{adapters} adapters: at most {} MiB, of which {growth} KiB after two million", peak >> 10))
}

/// Returns the output of a git command; `None` if it fails.
fn git(arguments: &[&str]) -> anyhow::Result<Option<String>> {
    let output = Command::new("git").args(arguments).output().context("cannot start git")?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}
