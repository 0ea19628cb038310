//! Runs the benchmarks, and compares the results with their required bounds.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::cargo;

/// The required bound of a benchmark, relative to a peer measured in the same run or absolute.
struct Requirement {
    what: &'static str,
    measured: &'static str,
    bound: Bound,
}

enum Bound {
    /// At most this multiple of the peer's time.
    Times(f64, &'static str),
    /// At most this number of nanoseconds.
    Nanos(f64),
}

const ASKED: [Requirement; 33] = [
    Requirement {
        what: "record an event into an SLO",
        measured: "record/slo_after_1k",
        bound: Bound::Times(12.0, "record/atomic_add"),
    },
    Requirement {
        what: "the same after 100 million events",
        measured: "record/slo_after_100M",
        bound: Bound::Times(1.1, "record/slo_after_1k"),
    },
    Requirement {
        what: "two threads on one SLO, per event",
        measured: "record/slo_two_threads",
        bound: Bound::Times(1.0 / 1.5, "record/slo_one_thread"),
    },
    Requirement { what: "evaluate an SLO, all windows", measured: "evaluate/slo", bound: Bound::Nanos(2_000.0) },
    Requirement {
        what: "record a latency",
        measured: "latency/indicator_record",
        bound: Bound::Times(3.0, "latency/ddsketch_add"),
    },
    Requirement { what: "p95 over a window", measured: "latency/p95", bound: Bound::Nanos(50_000.0) },
    Requirement {
        what: "OTLP protobuf, OpenInference (LangGraph)",
        measured: "otlp-langgraph/adapter",
        bound: Bound::Times(2.0, "otlp-langgraph/prost_decode"),
    },
    Requirement {
        what: "OTLP protobuf, OpenInference (OpenAI Agents)",
        measured: "otlp-openai-agents/adapter",
        bound: Bound::Times(2.0, "otlp-openai-agents/prost_decode"),
    },
    Requirement {
        what: "OTLP protobuf, GenAI (Semantic Kernel)",
        measured: "otlp-semantic-kernel/adapter",
        bound: Bound::Times(2.0, "otlp-semantic-kernel/prost_decode"),
    },
    Requirement {
        what: "OTLP protobuf, OpenLLMetry",
        measured: "otlp-traceloop/adapter",
        bound: Bound::Times(2.0, "otlp-traceloop/prost_decode"),
    },
    Requirement {
        what: "OTLP protobuf, Vercel AI SDK",
        measured: "otlp-vercel-ai/adapter",
        bound: Bound::Times(2.0, "otlp-vercel-ai/prost_decode"),
    },
    Requirement { what: "send an alert to a callback", measured: "alerts/send", bound: Bound::Nanos(1_000.0) },
    Requirement { what: "repeat the only open alert", measured: "alerts/dedup_hit/1", bound: Bound::Nanos(150.0) },
    Requirement { what: "repeat any of a thousand", measured: "alerts/dedup_hit/1000", bound: Bound::Nanos(150.0) },
    Requirement { what: "repeat one, with a million open", measured: "alerts/hot/1000000", bound: Bound::Nanos(150.0) },
    Requirement { what: "repeat any of a million", measured: "alerts/dedup_hit/1000000", bound: Bound::Nanos(150.0) },
    Requirement {
        what: "the same, against one access to such a memory",
        measured: "alerts/dedup_hit/1000000",
        bound: Bound::Times(2.0, "alerts/memory_load"),
    },
    Requirement {
        what: "an alert through the durable path (50,000 a second)",
        measured: "alerts_durable/send_all",
        bound: Bound::Nanos(20_000.0),
    },
    Requirement {
        what: "the same, against bare SQLite",
        measured: "alerts_durable/send_all",
        bound: Bound::Times(3.0, "alerts_durable/sqlite_bare"),
    },
    Requirement {
        what: "a protected call, consecutive failures",
        measured: "breaker/consecutive",
        bound: Bound::Times(1.0, "breaker/recloser"),
    },
    Requirement {
        what: "the same by two threads",
        measured: "breaker/consecutive_two_threads",
        bound: Bound::Times(1.0 / 3.0, "breaker/recloser_two_threads"),
    },
    Requirement {
        what: "a guarded call, window of calls",
        measured: "breaker/window_of_calls",
        bound: Bound::Times(1.0, "breaker/recloser"),
    },
    Requirement {
        what: "the same by two threads",
        measured: "breaker/window_of_calls_two_threads",
        bound: Bound::Times(1.0 / 3.0, "breaker/recloser_two_threads"),
    },
    Requirement {
        what: "a guarded call, window of time",
        measured: "breaker/window_of_time",
        bound: Bound::Times(1.0, "breaker/recloser"),
    },
    Requirement {
        what: "the same by two threads",
        measured: "breaker/window_of_time_two_threads",
        bound: Bound::Times(1.0 / 3.0, "breaker/recloser_two_threads"),
    },
    Requirement {
        what: "a guarded `tower` service",
        measured: "breaker_layer/ours",
        bound: Bound::Times(1.0, "breaker_layer/tower_resilience"),
    },
    Requirement {
        what: "check 100,000 agents for a cascade, 1 % open",
        measured: "cascade/check",
        bound: Bound::Nanos(1_000_000.0),
    },
    Requirement {
        what: "the same, nothing open",
        measured: "cascade/check_nothing_open",
        bound: Bound::Nanos(1_000_000.0),
    },
    Requirement {
        what: "the same, a hub open and everybody exposed",
        measured: "cascade/check_all_exposed",
        bound: Bound::Nanos(1_000_000.0),
    },
    Requirement {
        what: "check and charge, 10,000 agents",
        measured: "charge/guard_1",
        bound: Bound::Times(2.0, "charge/governor_1"),
    },
    Requirement {
        what: "the same by two threads, each for agents of its own",
        measured: "charge/guard_2",
        bound: Bound::Times(1.0 / 1.5, "charge/guard_1"),
    },
    Requirement {
        what: "the same without anomaly detection, one thread",
        measured: "charge/guard_without_anomalies_1",
        bound: Bound::Times(2.0, "charge/governor_1"),
    },
    Requirement {
        what: "the same by two threads",
        measured: "charge/guard_without_anomalies_2",
        bound: Bound::Times(1.0 / 1.5, "charge/guard_without_anomalies_1"),
    },
];

pub(crate) fn run(last: bool) -> anyhow::Result<()> {
    if !last {
        // `benches/serve.rs` starts this binary.
        cargo(&["build", "--release", "--bin", "sre"], &[])?;
        cargo(&["bench", "-p", "sre-tests"], &[])?;
    }
    let mut table =
        "| what | measured | asked | peer | ratio | |\n| --- | ---: | ---: | ---: | ---: | --- |\n".to_owned();
    for asked in &ASKED {
        table.push_str(&row(asked)?);
    }
    table.push_str(&check_a_long_input()?);
    table.push_str(&fs::read_to_string("target/bench-serve.md").context("run `cargo xtask bench` first")?);
    println!("{table}");
    Ok(())
}

fn row(asked: &Requirement) -> anyhow::Result<String> {
    let measured = nanos(asked.measured)?;
    let mark = |met: bool| if met { "met" } else { "**missed**" };
    let what = asked.what;
    Ok(match asked.bound {
        Bound::Nanos(most) => {
            format!("| {what} | {} | ≤ {} | – | – | {} |\n", time(measured), time(most), mark(measured <= most))
        }
        Bound::Times(most, peer) => {
            let of_peer = nanos(peer)?;
            let ratio = measured / of_peer;
            let met = mark(ratio <= most);
            format!(
                "| {what} | {} | ≤ {most:.2} × | `{peer}` {} | {ratio:.2} | {met} |\n",
                time(measured),
                time(of_peer)
            )
        }
    })
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

fn time(nanos: f64) -> String {
    match nanos {
        nanos if nanos < 1e3 => format!("{nanos:.1} ns"),
        nanos if nanos < 1e6 => format!("{:.2} µs", nanos / 1e3),
        nanos => format!("{:.2} ms", nanos / 1e6),
    }
}

const EVENTS: u64 = 5_000_000;

/// Runs `sre check` as a separate process, and returns its events per second and peak memory.
fn check_a_long_input() -> anyhow::Result<String> {
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
    let rate = EVENTS as f64 / seconds / 1e6;
    let mib = peak_kib as f64 / 1024.0;
    let mark = |met: bool| if met { "met" } else { "**missed**" };
    let mut rows = String::new();
    writeln!(
        rows,
        "| `sre check`, {} million events | {rate:.2} M/s | ≥ 1 M/s | – | – | {} |",
        EVENTS / 1_000_000,
        mark(rate >= 1.0)
    )?;
    writeln!(rows, "| its peak memory | {mib:.1} MiB | < 64 MiB | – | – | {} |", mark(mib < 64.0))?;
    Ok(rows)
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
