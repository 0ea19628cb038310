//! Runs the `sre` command.
#![allow(dead_code, reason = "each test uses what it needs")]

pub(crate) mod backends;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

pub(crate) fn sre(arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sre"));
    command.args(arguments).current_dir(ROOT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs `sre check` on lines of the `sre` format, and returns exit code, JSON and standard error.
pub(crate) fn check(slo: &str, lines: &str, more: &[&str]) -> (i32, Value, String) {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), slo).unwrap();
    let path = file.path().to_str().unwrap();
    let arguments = [&["check", "--slo", path, "--from", "sre", "--output", "json", "-"], more].concat();
    let output = sre(&arguments, lines);
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), json, text(&output.stderr))
}

pub(crate) const SLO: &str = "name: answers\nindicators:\n  - type: task_success_rate\n    target: 0.95\n";

/// A running `sre serve`, which is killed by SIGKILL when it is dropped.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Service {
    /// Starts the service with `sre.yaml` of a folder and a log level.
    pub(crate) fn start(folder: &Path, log: &str) -> Self {
        let mut command = serve(&["--config", folder.join("sre.yaml").to_str().unwrap()]);
        command.env("SRE_LOG", log);
        Self::of(command)
    }

    /// Starts the command of a service, and waits until it is ready.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.strip_prefix("ready: ").and_then(|rest| rest.split(' ').next()).expect("a ready line");
        Self { child, url: url.to_owned() }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the command that starts a service, which logs errors only.
pub(crate) fn serve(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sre"));
    command.arg("serve").args(arguments).env("SRE_LOG", "error").stdout(Stdio::piped());
    command
}
