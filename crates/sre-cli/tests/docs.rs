//! Tests the documentation: each `$ sre …` command runs and prints the output shown below it.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Returns the commands in the `console` blocks of a page, each with the output shown below it.
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
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let backends = runtime.block_on(common::backends::start());
    let mut run = 0;
    for page in [
        "README.md",
        "docs/cli.md",
        "docs/slo.md",
        "docs/adapters.md",
        "docs/events.md",
        "docs/performance.md",
        "docs/alerts.md",
        "docs/guards.md",
        "docs/serve.md",
        "docs/exporters.md",
        "docs/tracing.md",
    ] {
        let text = std::fs::read_to_string(Path::new(ROOT).join(page)).unwrap();
        for (command, expected) in commands(&text) {
            let Some(arguments) =
                command.strip_prefix("sre ").or_else(|| command.strip_prefix("cargo run --bin sre -- "))
            else {
                continue;
            };
            // MLflow and Phoenix run for the tests of their exporters.
            let arguments = ["http://127.0.0.1:5000", "http://127.0.0.1:6006"]
                .iter()
                .fold(arguments.to_owned(), |arguments, url| arguments.replace(url, &format!("{}/x", backends.uri())));
            // The service runs until it is stopped.
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path().to_str().unwrap();
            let is_service = arguments.starts_with("serve");
            let bounded = ["--stop-after", "2s", "--listen", "127.0.0.1:0", "--data", data];
            let output = Command::new(env!("CARGO_BIN_EXE_sre"))
                .args(arguments.split_whitespace().chain(bounded.into_iter().filter(|_| is_service)))
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

/// Every option of the commands is on the page.
#[test]
fn the_options_in_the_documentation_are_those_of_the_command() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/cli.md")).unwrap();
    let mut count = 0;
    for command in [
        &["check"][..],
        &["events"],
        &["serve"],
        &["gate"],
        &["trace", "show"],
        &["trace", "list"],
        &["export"],
        &["exporters", "test"],
        &["config", "check"],
        &["config", "token"],
        &["alerts", "test"],
        &["alerts", "list"],
        &["alerts", "ack"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sre")).args(command).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let options = help.split_whitespace().filter(|word| word.starts_with("--") && *word != "--help");
        for option in options {
            assert!(page.contains(&format!("`{option}")), "{option} of {command:?} is not in docs/cli.md");
            count += 1;
        }
    }
    assert!(count >= 20);
}

/// The sample on the page is what the command prints for the example, with rounded numbers, and lists cut to their first entry.
#[test]
fn the_json_on_the_page_is_what_the_command_prints() {
    fn compare(shown: &Value, printed: &Value, at: &str) {
        match (shown, printed) {
            (Value::Object(shown), Value::Object(printed)) => {
                assert_eq!(shown.keys().collect::<Vec<_>>(), printed.keys().collect::<Vec<_>>(), "the fields of {at}");
                shown.iter().for_each(|(field, value)| compare(value, &printed[field], &format!("{at}.{field}")));
            }
            (Value::Array(shown), Value::Array(printed)) => {
                assert!(!shown.is_empty() && shown.len() <= printed.len(), "{at}");
                shown.iter().zip(printed).for_each(|(shown, printed)| compare(shown, printed, at));
            }
            (Value::Number(shown), Value::Number(printed)) => {
                let [shown, printed] = [shown, printed].map(|number| number.as_f64().unwrap());
                assert!((shown - printed).abs() < 0.001, "{at}: {printed}");
            }
            _ => assert_eq!(shown, printed, "{at}"),
        }
    }
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/cli.md")).unwrap();
    let sample = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let events = std::fs::read_to_string(Path::new(ROOT).join("docs/examples/events.jsonl")).unwrap();
    let (_, printed, _) = common::check(common::SLO, &events, &[]);
    compare(&serde_json::from_str(sample).unwrap(), &printed, "");
}

/// The first YAML on the page is the example file, which is valid; the tables list every channel type and field.
#[test]
fn the_channels_on_the_page_are_valid() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/alerts.md")).unwrap();
    let yaml = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(yaml, std::fs::read_to_string(Path::new(ROOT).join("docs/examples/alerts/notify.yaml")).unwrap());
    assert!(yaml.lines().count() <= 10);
    let environment = |_: &str| Some("https://example.com/".to_owned());
    let config = agent_sre::alerts::NotifyConfig::parse(yaml, "docs/alerts.md", &environment).unwrap();
    assert_eq!(config.channels.len(), 2);
    let schema: serde_json::Value = serde_json::from_str(agent_sre::alerts::SCHEMA).unwrap();
    let fields = schema["properties"].as_object().unwrap().keys().filter(|field| *field != "channels").cloned();
    let channels = schema["properties"]["channels"]["items"]["oneOf"].as_array().unwrap();
    let types = channels.iter().map(|channel| channel["properties"]["type"]["const"].as_str().unwrap().to_owned());
    let of_channel = channels[7]["properties"].as_object().unwrap().keys().filter(|field| *field != "type").cloned();
    for name in fields.chain(types).chain(of_channel) {
        assert!(page.contains(&format!("| `{name}` |")), "{name} is in no table");
    }
}

/// The first YAML on the page is valid without its parent, which does not exist.
#[test]
fn the_objective_on_the_page_is_valid() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/slo.md")).unwrap();
    let yaml = page.split("```yaml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let own: String =
        yaml.lines().filter(|line| !line.starts_with("inherits_from")).map(|line| format!("{line}\n")).collect();
    let registry = agent_sre::slo::SliRegistry::default();
    let specs = agent_sre::slo::parse(&own, "docs/slo.md", &registry).unwrap();
    agent_sre::slo::SloEngine::new(specs, registry).unwrap();
    for kind in agent_sre::slo::SliRegistry::default().types() {
        assert!(page.contains(&format!("| `{kind}` |")), "{kind} is not in the table");
    }
}

/// Every block to paste is a configuration that `sre config check` accepts, and each type of exporter has one.
#[test]
fn the_exporters_on_the_page_are_valid() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/exporters.md")).unwrap();
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    for block in &blocks {
        std::fs::write(file.path(), block).unwrap();
        let names = block.split("${").skip(1).filter_map(|rest| rest.split('}').next());
        let output = Command::new(env!("CARGO_BIN_EXE_sre"))
            .args(["config", "check", "--reload"])
            .arg(file.path())
            .envs(names.map(|name| (name, "a-key")))
            .output()
            .unwrap();
        assert!(output.status.success(), "{block}{}", String::from_utf8_lossy(&output.stderr));
    }
    for kind in agent_sre::exporter_types() {
        let section = page.split("\n## ").find(|section| section.contains(&format!("(`{kind}`)\n")));
        let section = section.unwrap_or_else(|| panic!("{kind} has no section"));
        assert!(section.contains(&format!("- {{type: {kind}, ")), "{kind} has no block to paste");
    }
    assert!(blocks.len() > agent_sre::exporter_types().count());
}

fn schema(name: &str) -> jsonschema::Validator {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/schemas").join(name)).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[test]
fn the_output_and_the_example_in_the_documentation_match_the_schema() {
    let schema = schema("check.schema.json");
    for (from, input) in [
        ("langgraph", "tests/recordings/langgraph/long_mixed.jsonl"),
        ("openai-agents", "tests/recordings/openai-agents/handoff_and_guardrail.jsonl"),
        ("otlp", "tests/recordings/otlp-vercel-ai/task_failure.jsonl"),
        ("sre", "docs/examples/events.jsonl"),
    ] {
        let arguments =
            ["check", "--slo", "docs/examples", "--from", from, "--output", "json", "--fail-on", "never", input];
        let output = Command::new(env!("CARGO_BIN_EXE_sre")).args(arguments).current_dir(ROOT).output().unwrap();
        let json = serde_json::from_slice(&output.stdout).unwrap();
        let errors: Vec<String> =
            schema.iter_errors(&json).map(|error| format!("{error} at {}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{input}: {errors:?}");
    }
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/cli.md")).unwrap();
    let example = page.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let errors: Vec<String> =
        schema.iter_errors(&serde_json::from_str(example).unwrap()).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "docs/cli.md: {errors:?}");
}

#[test]
fn the_schema_of_events_accepts_what_the_parser_accepts() {
    let schema = schema("event.schema.json");
    let lines = std::fs::read_to_string(Path::new(ROOT).join("docs/examples/events.jsonl")).unwrap();
    let good = lines.lines().chain([
        r#"{"event":"heartbeat","time":"2026-11-23T12:00:00Z"}"#,
        r#"{"event":"evaluation","time":1,"metric":"relevance","score":0.4,"confidence":1}"#,
        r#"{"event":"tool_call","time":1.5,"tool":"search","more":[1]}"#,
        r#"{"event":"tool_call","time":1,"tool":"search","attempt":2,"operation_id":"call_1","trace_id":"run-17"}"#,
        r#"{"event":"span_finished","time":1,"duration_ms":2,"span":{"name":"GET /","role":"server","parent_span_id":"00f067aa0ba902b7"}}"#,
    ]);
    let bad = [
        r#"{"event":"heartbeat"}"#,
        r#"{"event":"heartbeat","time":-1}"#,
        r#"{"event":"task_finished","time":1}"#,
        r#"{"event":"task_finished","time":1,"success":true,"duration_ms":-5}"#,
        r#"{"event":"llm_call","time":1,"cost_usd":-0.5}"#,
        r#"{"event":"evaluation","time":1,"metric":"relevance"}"#,
        r#"{"event":"evaluation","time":1,"metric":"relevance","score":1,"confidence":2}"#,
        r#"{"event":"handoff","time":1,"from":"a"}"#,
        r#"{"event":"handoff","time":1,"from":"a","to":"b","depth":1001}"#,
        r#"{"event":"tool_call","time":1,"tool":"search","attempt":0}"#,
        r#"{"event":"span_finished","time":1,"span":{"role":"server"}}"#,
        r#"{"event":"span_finished","time":1,"span":{"name":"GET /","role":"waiter"}}"#,
    ];
    for (line, valid) in good.map(|line| (line, true)).chain(bad.map(|line| (line, false))) {
        let read = agent_sre::AgentEvent::from_json(line.as_bytes()).is_ok();
        assert_eq!((schema.is_valid(&serde_json::from_str(line).unwrap()), read), (valid, valid), "{line}");
    }
}

/// The picture in the README shows what the command prints.
#[test]
fn the_picture_shows_the_output_of_the_command() {
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

/// The breakers file on the page is the example file, which is valid; the page names every setting.
#[test]
fn the_breakers_on_the_page_are_valid() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/guards.md")).unwrap();
    let example = std::fs::read_to_string(Path::new(ROOT).join("docs/examples/guards/breakers.yaml")).unwrap();
    assert!(page.contains(&example));
    agent_sre::cascade::DetectorConfig::parse(&example, "breakers.yaml").unwrap();
    let schema: serde_json::Value = serde_json::from_str(agent_sre::cascade::SCHEMA).unwrap();
    let properties = |pointer: &str| schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned();
    let cascade = properties("/properties/cascade/properties");
    let window = properties("/properties/window/properties").map(|name| format!("window.{name}"));
    for name in properties("/properties").filter(|name| name != "cascade").chain(cascade) {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
    for name in window {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

/// The limits file on the page is the example file, which is valid, as is the price map; the page names every setting.
#[test]
fn the_limits_on_the_page_are_valid() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/guards.md")).unwrap();
    let folder = Path::new(ROOT).join("docs/examples/guards");
    let example = std::fs::read_to_string(folder.join("limits.yaml")).unwrap();
    assert!(page.contains(&example));
    let limits = agent_sre::cost::Limits::parse(&example, "limits.yaml").unwrap();
    let named = agent_sre::cost::Limits {
        agents: limits.agents.clone(),
        teams: limits.teams.clone(),
        models: limits.models.clone(),
        ..agent_sre::cost::Limits::default()
    };
    assert_eq!(limits, named, "the written values are the defaults");
    assert_eq!(agent_sre::cost::PriceBook::load(&folder.join("prices.json")).unwrap().len(), 3);
    let prices = page.split("```yaml\n").find(|block| block.starts_with("prices:")).unwrap();
    agent_sre::cost::PriceBook::from_yaml(prices.split("```").next().unwrap(), "guards.md").unwrap();
    let schema: serde_json::Value = serde_json::from_str(agent_sre::cost::LIMITS_SCHEMA).unwrap();
    for name in schema["properties"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

/// The taps on the page are the files that `tests/taps.rs` runs, its configuration is the example file, and it names every setting.
#[test]
fn the_taps_and_the_configuration_on_the_page_are_the_tested_files() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/serve.md")).unwrap();
    let examples = Path::new(ROOT).join("docs/examples");
    let mut taps = 0;
    for tap in std::fs::read_dir(examples.join("taps")).unwrap() {
        let path = tap.unwrap().path();
        if path.is_file() {
            assert!(page.contains(&std::fs::read_to_string(&path).unwrap()), "{}", path.display());
            taps += 1;
        }
    }
    assert_eq!(taps, 2);
    for module in std::fs::read_dir(Path::new(ROOT).join("crates/sre-cli/python/sre_taps")).unwrap() {
        let name = module.unwrap().file_name().into_string().unwrap();
        if let Some(framework) = name.strip_suffix(".py").filter(|name| !name.starts_with('_')) {
            assert!(page.contains(&format!("sre_taps.{framework}.tap(")), "{framework}");
        }
    }
    let settings = std::fs::read_to_string(examples.join("serve/sre.yaml")).unwrap();
    assert!(page.contains(&settings));
    let config = sre_server::Config::load(&examples.join("serve/sre.yaml")).unwrap();
    assert_eq!(config.tokens.len(), 2);
    for file in config.slos.iter().chain(&config.notify).chain(config.engine_files.values()) {
        assert!(file.exists(), "{}", file.display());
    }
    for name in sre_server::config_schema()["properties"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

/// Appends the files and folders below a folder.
fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let is_generated = ["target", "node_modules"].iter().any(|name| entry.file_name() == *name);
        if is_generated || entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        paths.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), paths);
        }
    }
}

/// A path may begin at any folder. Of one with `NAME`, which stands for a new part, the folder above must exist.
#[test]
fn every_path_on_the_page_of_the_architecture_exists() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/architecture.md")).unwrap();
    let mut paths = Vec::new();
    walk(Path::new(ROOT), &mut paths);
    let is_path = |span: &&str| {
        let is_file = [".rs", ".toml", ".md", ".json", ".yaml", ".html"].iter().any(|ending| span.ends_with(ending));
        let is_plain = span.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
        is_plain && (is_file || span.contains('/')) && !span.starts_with(['/', '.'])
    };
    let mut count = 0;
    // The spans of code are between the odd and even backticks; blocks of code have none.
    for span in page.split('`').skip(1).step_by(2).filter(is_path) {
        let known: PathBuf = Path::new(span)
            .components()
            .take_while(|part| !part.as_os_str().to_string_lossy().contains("NAME"))
            .collect();
        assert!(paths.iter().any(|path| path.ends_with(&known)), "{span} does not exist");
        count += 1;
    }
    assert!(count > 100, "{count} paths");
}
