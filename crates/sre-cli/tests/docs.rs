//! The commands in the documentation do what it says: each `$ sre …` runs, and prints what stands below it.

use std::path::Path;
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The commands in a page's `console` blocks, each with the output that is written below it.
fn commands(page: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line.strip_prefix("$ ") {
            Some(command) if inside => commands.push((command.to_owned(), String::new())),
            _ if line.starts_with("```") => inside = line == "```console",
            _ if inside => {
                let (_, output) = commands.last_mut().expect("output below a command");
                output.push_str(line);
                output.push('\n');
            }
            _ => {}
        }
    }
    commands
}

#[test]
fn the_commands_in_the_documentation_work() {
    let mut run = 0;
    for page in ["README.md", "docs/cli.md", "docs/slo.md", "docs/adapters.md", "docs/events.md", "docs/performance.md"]
    {
        let text = std::fs::read_to_string(Path::new(ROOT).join(page)).unwrap();
        for (command, expected) in commands(&text) {
            let Some(arguments) =
                command.strip_prefix("sre ").or_else(|| command.strip_prefix("cargo run --bin sre -- "))
            else {
                continue;
            };
            let output = Command::new(env!("CARGO_BIN_EXE_sre"))
                .args(arguments.split_whitespace())
                .current_dir(ROOT)
                .output()
                .unwrap();
            let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{page}: {command}\n{printed}{errors}");
            assert!(expected.is_empty() || expected == printed, "{page}: {command}\n{printed}");
            run += 1;
        }
    }
    assert!(run >= 3, "{run} commands");
}

/// Every option that the page lists exists, and the other way round.
#[test]
fn the_options_in_the_documentation_are_those_of_the_command() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/cli.md")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sre")).args(["check", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let options = help.split_whitespace().filter(|word| word.starts_with("--") && *word != "--help");
    let mut count = 0;
    for option in options {
        assert!(page.contains(&format!("`{option}")), "{option} is not in docs/cli.md");
        count += 1;
    }
    assert!(count >= 7);
}

/// The picture in the README shows the numbers that the command prints.
#[test]
fn the_picture_shows_what_the_command_prints() {
    let picture = std::fs::read_to_string(Path::new(ROOT).join("docs/report.svg")).unwrap();
    let arguments = [
        "check",
        "--slo",
        "docs/examples/support.yaml",
        "--from",
        "langgraph",
        "tests/recordings/langgraph/long_mixed.jsonl",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_sre")).args(arguments).current_dir(ROOT).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut shown = String::new();
    for text in picture.split("<text ").skip(1) {
        let inside =
            text.split_once('>').and_then(|(_, rest)| rest.split_once("</text>")).map_or("", |(inside, _)| inside);
        shown.push_str(&inside.replace("&#x27;", "'").replace("&amp;", "&"));
    }
    let letters = |text: &str| text.split_whitespace().collect::<String>();
    assert_eq!(letters(&shown), letters(&printed));
}
