//! Tests `sre slo` as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn sre(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sre")).args(arguments).current_dir(ROOT).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn write(folder: &Path, name: &str, yaml: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, yaml).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_error_in_an_objective_names_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "a.yaml", "name: a\ntarget: 0.9\nlabel: {}\n");
    let output = sre(&["slo", "validate", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(&format!("{file}:3: `label`: unknown field")), "{}", text(&output.stderr));
}

#[test]
fn every_error_of_every_file_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "a.yaml",
        "name: a\ntarget: 0.9\nlabel: {}\nwindow: 30x\n---\nname: b\nindicators: [{type: x}]\n",
    );
    write(folder.path(), "b.yaml", "name: c\n");
    let output = sre(&["slo", "validate", folder.path().to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
    let found = text(&output.stderr).replace(&format!("{}/", folder.path().display()), "");
    let errors: Vec<&str> =
        found.trim_start_matches("error: ").lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(errors, ["a.yaml:3", "a.yaml:4", "a.yaml:7", "b.yaml:1"], "{found}");
}

#[test]
fn a_diff_with_an_empty_folder_shows_new_and_removed_objectives() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "a.yaml", "name: a\ntarget: 0.9\n");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let output = sre(&["slo", "diff", empty.to_str().unwrap(), &file, "--output", "json"]);
    let changes: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((changes.as_array().unwrap().len(), &changes[0]["slo"]), (1, &"a".into()));
}

#[test]
fn objectives_inherit_across_the_files_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "b.yaml", "name: child\ninherits_from: base\n");
    write(folder.path(), "a.yml", "name: base\ntarget: 0.9\n");
    write(folder.path(), "notes.txt", "no objective");
    let output = sre(&["slo", "validate", folder.path().to_str().unwrap()]);
    assert_eq!(text(&output.stdout), "base: valid\nchild: valid\n2 objectives, all valid\n");
}

#[test]
fn a_diff_reports_changes_and_fails_on_loosened_ones() {
    let folder = tempfile::tempdir().unwrap();
    let old = write(folder.path(), "old.yaml", "name: a\ntarget: 0.95\nwindow: 7d\n");
    let new = write(folder.path(), "new.yaml", "name: a\ntarget: 0.9\nwindow: 7d\n");
    let output = sre(&["slo", "diff", &old, &new]);
    assert_eq!(output.status.code(), Some(0));
    let words: Vec<String> = text(&output.stdout).split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["loosened", "a", "target", "0.95", "→", "0.9"]);
    assert_eq!(sre(&["slo", "diff", &old, &new, "--fail-on", "loosened"]).status.code(), Some(1));
    assert_eq!(sre(&["slo", "diff", &old, &new, "--fail-on", "breaking"]).status.code(), Some(0));
    assert_eq!(sre(&["slo", "diff", &new, &old, "--fail-on", "loosened"]).status.code(), Some(0));
    let json: Value = serde_json::from_slice(&sre(&["slo", "diff", &old, &new, "--output", "json"]).stdout).unwrap();
    assert_eq!(json[0]["kind"], "loosened");
}

#[test]
fn objectives_convert_to_openslo_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let there = sre(&["slo", "convert", "--to", "openslo", "docs/examples/support.yaml"]).stdout;
    let file = write(folder.path(), "openslo.yaml", &text(&there));
    let back = sre(&["slo", "convert", "--to", "yaml", &file]).stdout;
    let back = write(folder.path(), "back.yaml", &text(&back));
    assert_eq!(
        text(&sre(&["slo", "validate", &back]).stdout),
        "support-answers: valid\nsupport-tools: valid\n2 objectives, all valid\n"
    );
    assert_eq!(text(&sre(&["slo", "diff", "docs/examples/support.yaml", &back]).stdout), "no change\n");
}

#[test]
fn rules_are_printed_for_a_composite_objective() {
    let folder = tempfile::tempdir().unwrap();
    let composite = "name: all\ntarget: 0.9\ncomposite: {objectives: [{name: a}]}\n---\nname: a\ntarget: 0.9\n";
    let output = sre(&["slo", "rules", &write(folder.path(), "a.yaml", composite)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let rules = text(&output.stdout);
    for expected in ["- name: sre-slo-all\n", "all: error budget exhausted", "a of {{ $labels.agent }}: error budget"] {
        assert!(rules.contains(expected), "{rules}");
    }
}

#[test]
fn the_schema_is_json() {
    let schema: Value = serde_json::from_slice(&sre(&["slo", "schema"]).stdout).unwrap();
    assert_eq!(schema["required"][0], "name");
}
