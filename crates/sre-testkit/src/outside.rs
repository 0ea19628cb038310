//! External programs that tests use if they are installed.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Returns the program if it can be run; otherwise lists `test` as skipped.
pub fn program(name: &str, test: &str) -> Option<Command> {
    if runs(Command::new(name).arg("--version")) {
        return Some(Command::new(name));
    }
    skip(&format!("{test}: no `{name}`"));
    None
}

/// Returns Python if it has the module; otherwise lists `test` as skipped.
pub fn python_with(module: &str, test: &str) -> Option<Command> {
    if runs(Command::new("python3").args(["-c", &format!("import {module}")])) {
        return Some(Command::new("python3"));
    }
    skip(&format!("{test}: no Python with `{module}`"));
    None
}

/// Returns an interpreter if it can run `check`, such as an import; otherwise lists `test` as skipped.
pub fn interpreter_with(interpreter: &Path, check: &[&str], test: &str) -> Option<Command> {
    interpreter_in(Path::new("."), interpreter, check, test)
}

/// Like [`interpreter_with`], but runs in a folder.
pub fn interpreter_in(folder: &Path, interpreter: &Path, check: &[&str], test: &str) -> Option<Command> {
    if runs(Command::new(interpreter).args(check).current_dir(folder)) {
        return Some(Command::new(interpreter));
    }
    skip(&format!("{test}: `{}` lacks a module that the test needs", interpreter.display()));
    None
}

fn runs(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Lists a test as skipped.
pub fn skip(what: &str) {
    eprintln!("skipped {what}");
    if let Ok(path) = std::env::var("SRE_SKIPPED") {
        let list = std::fs::OpenOptions::new().create(true).append(true).open(path);
        // A test does not fail because the list cannot be written.
        let _ = list.and_then(|mut list| writeln!(list, "- {what}"));
    }
}
