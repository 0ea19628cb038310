//! Programs from outside of the workspace, which tests use when they are there.

use std::io::Write;
use std::process::{Command, Stdio};

/// The program, when it can be run; else `test` is put on the list of what was skipped.
pub fn program(name: &str, test: &str) -> Option<Command> {
    let found = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Some(Command::new(name));
    }
    let line = format!("- {test}: no `{name}`\n");
    eprint!("skipped {line}");
    if let Ok(path) = std::env::var("SRE_SKIPPED") {
        let list = std::fs::OpenOptions::new().create(true).append(true).open(path);
        // A list that cannot be written is no failure of the test.
        let _ = list.and_then(|mut list| list.write_all(line.as_bytes()));
    }
    None
}
