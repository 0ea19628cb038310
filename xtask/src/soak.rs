//! Runs the live service under load and faults (`tests/soak`).

use std::fs;
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::bench::{DOCS, with_block};
use crate::cargo_command;

const HEADER: &str = "| minutes | tasks | of these failed | faults | memory at most | seed |\n| ---: | ---: | ---: | --- | ---: | ---: |";

/// Runs it for some minutes; `record` writes the result into `docs/performance.md`.
pub(crate) fn run(minutes: f64, seed: Option<u64>, record: bool) -> anyhow::Result<()> {
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("soaking for {minutes} minutes, with seed {seed}");
    let mut command = cargo_command(&["run", "--quiet", "-p", "sre-tests", "--example", "soak"]);
    command.arg("--").args([minutes.to_string(), seed.to_string()]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the soak with seed {seed} failed");
    }
    let table = format!("{HEADER}\n{}", String::from_utf8_lossy(&output.stdout));
    println!("{table}");
    if record {
        let docs = fs::read_to_string(DOCS)?;
        fs::write(DOCS, with_block(&docs, "soak", &table)?)?;
    }
    Ok(())
}
