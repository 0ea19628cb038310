use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::figure::{Figure, Required};
use crate::cargo;

const EVENTS: u64 = 5_000_000;

/// Runs `sre check` as a separate process, and returns its rate and peak memory.
pub(super) fn measure() -> anyhow::Result<[Figure; 2]> {
    cargo(&["build", "--release", "--bin", "sre"], &[])?;
    let input = Path::new("target/bench-events.jsonl");
    write_events(input)?;
    let start = Instant::now();
    let mut child = Command::new("target/release/sre")
        .args([
            "check",
            "--slo",
            "docs/examples/support.yaml",
            "--from",
            "sre",
            "--fail-on",
            "never",
            "--output",
            "json",
        ])
        .arg(input)
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start sre")?;
    let mut peak_kib = 0;
    let status = loop {
        peak_kib = peak_kib.max(peak_memory(child.id()));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let seconds = start.elapsed().as_secs_f64();
    fs::remove_file(input)?;
    ensure!(status.success(), "sre check failed");
    let figure =
        |what: String, measured, unit: &str, required| Figure { what, measured, unit: unit.to_owned(), required };
    let what = format!("`sre check`, {} million events", EVENTS / 1_000_000);
    let rate = EVENTS as f64 / seconds / 1e6;
    let mib = peak_kib as f64 / 1024.0;
    Ok([
        figure(what, rate, "M/s", Required::AtLeast(1.0)),
        figure("its peak memory".to_owned(), mib, "MiB", Required::AtMost(64.0)),
    ])
}

/// Returns a mixed run: of every ten events, a task's start and end, five model calls and three tool calls.
fn write_events(path: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    for number in 0..EVENTS {
        let (task, time) = (number / 10, 1_790_000_000.0 + number as f64 / 50.0);
        let head = format!("\"time\":{time:.3},\"agent\":\"support-agent\",\"task\":\"task-{task}\"");
        let success = task % 50 != 0;
        match number % 10 {
            0 => writeln!(file, "{{\"event\":\"task_started\",{head},\"name\":\"support\"}}")?,
            9 => writeln!(file, "{{\"event\":\"task_finished\",{head},\"success\":{success},\"duration_ms\":812.5}}")?,
            2 | 4 | 6 => writeln!(
                file,
                "{{\"event\":\"tool_call\",{head},\"tool\":\"lookup\",\"arguments_hash\":\"{number:016x}\",\"success\":true,\"duration_ms\":12.25}}"
            )?,
            _ => writeln!(
                file,
                "{{\"event\":\"llm_call\",{head},\"model\":\"gpt-4o-mini\",\"provider\":\"openai\",\"input_tokens\":512,\"output_tokens\":64,\"cost_usd\":\"0.00042\",\"success\":true,\"duration_ms\":231.5}}"
            )?,
        }
    }
    Ok(file.flush()?)
}

/// Returns the peak resident memory of a process in KiB, or 0 if the system does not report it.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
