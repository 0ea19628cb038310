use std::fs;

use agent_sre::{Metric, MetricUnit, Timestamp};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Emits the metrics of this process, with the names that Prometheus' client libraries use. Those of memory and of open files exist on
/// Linux only.
pub(super) fn emit(started: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = Metric::counter("process.cpu", used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
    emit(cpu.with_unit(MetricUnit::Seconds).with_help("User and system CPU time of the process."));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let open_files = fs::read_dir("/proc/self/fd").map(|files| files.count() as f64).ok();
    let max_files = getrlimit(Resource::Nofile).current.map(|files| files as f64);
    for (name, value, unit, help) in [
        (
            "process.start_time",
            Some(started.as_unix_seconds()),
            MetricUnit::Seconds,
            "Start time of the process, in Unix time.",
        ),
        (
            "process.resident_memory",
            bytes(&status, "VmRSS:"),
            MetricUnit::Bytes,
            "Resident memory of the process; on Linux only.",
        ),
        (
            "process.virtual_memory",
            bytes(&status, "VmSize:"),
            MetricUnit::Bytes,
            "Virtual memory of the process; on Linux only.",
        ),
        ("process.open_fds", open_files, MetricUnit::None, "Open file descriptors; on Linux only."),
        ("process.max_fds", max_files, MetricUnit::None, "Maximum number of open file descriptors."),
    ] {
        if let Some(value) = value {
            emit(Metric::gauge(name, value).with_unit(unit).with_help(help));
        }
    }
}

/// Returns a field of `/proc/self/status` in bytes.
fn bytes(status: &str, field: &str) -> Option<f64> {
    let kib = status.lines().find_map(|line| line.strip_prefix(field))?.trim().strip_suffix(" kB")?;
    Some((kib.parse::<u64>().ok()? << 10) as f64)
}
