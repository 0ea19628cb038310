//! Tests `sre check --notify` and `sre alerts` as a user runs them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const SECRET: &str = "s3cr3t0123456789abcdef0123456789";

/// Runs `sre` with a secret in its environment, and returns exit code, standard output and standard error.
fn sre(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sre"));
    let output = command.args(arguments).current_dir(ROOT).env("PD_KEY", SECRET).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.path().join(name), text).unwrap();
        self.path(name)
    }

    fn read(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.path().join(name)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs a check of `good` and `bad` tasks with `--notify`.
    fn check(&self, notify: &str, good: usize, bad: usize) -> (i32, String, String) {
        self.check_with(notify, good, bad, "", &[])
    }

    /// Runs such a check with further lines and options.
    fn check_with(&self, notify: &str, good: usize, bad: usize, lines: &str, more: &[&str]) -> (i32, String, String) {
        let line = |(index, success): (usize, bool)| {
            let time = 1_790_000_000 + index;
            format!("{{\"event\":\"task_finished\",\"time\":{time},\"agent\":\"a\",\"success\":{success}}}\n")
        };
        let tasks = (0..good).map(|_| true).chain((0..bad).map(|_| false)).enumerate();
        let input = self.write("events.jsonl", &(tasks.map(line).collect::<String>() + lines));
        let slo = self.write(
            "slo.yaml",
            "name: answers\nindicators:\n  - type: task_success_rate\n    target: 0.95\nlabels: {team: search}\n\
             error_budget_policy: {exhaustion_action: freeze_deployments}\n",
        );
        sre(&[&["check", "--slo", &slo, "--from", "sre", "--notify", notify, &input], more].concat())
    }
}

#[test]
fn a_check_alerts_once_and_resolves_once() {
    let folder = Folder::new();
    let notify = folder.write(
        "notify.yaml",
        &format!(
            "channels:\n  - {{type: file, name: log, path: \"{}\"}}\nhistory: alerts.db\n",
            folder.path("alerts.jsonl")
        ),
    );
    let (code, _, stderr) = folder.check(&notify, 70, 30);
    assert_eq!((code, &*stderr), (1, ""));
    assert_eq!(folder.check(&notify, 70, 30).0, 1);
    let alerts = folder.read("alerts.jsonl");
    assert_eq!(alerts.len(), 1, "the second check sends no repeat: {alerts:?}");
    assert_eq!((&alerts[0]["title"], &alerts[0]["severity"]), (&"answers of a: exhausted".into(), &"critical".into()));
    let message = alerts[0]["message"].as_str().unwrap();
    assert!(
        message.contains("Burn rate 6.0 over") && message.contains("Exhaustion action: freeze deployments."),
        "{message}"
    );
    assert_eq!(alerts[0]["labels"]["team"], "search");
    assert_eq!(folder.check(&notify, 100, 0).0, 0);
    assert_eq!(folder.check(&notify, 100, 0).0, 0);
    let alerts = folder.read("alerts.jsonl");
    assert_eq!((alerts.len(), &alerts[1]["title"]), (2, &"answers of a: healthy again".into()));

    let (code, text, _) = sre(&["alerts", "list", "--notify", &notify]);
    assert_eq!(code, 0);
    assert!(text.contains("answers of a: exhausted") && text.ends_with("2 of 2 alerts\n"), "{text}");
    let (_, json, _) =
        sre(&["alerts", "list", "--history", &folder.path("alerts.db"), "--severity", "critical", "--output", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let schema = std::fs::read_to_string(Path::new(ROOT).join("docs/schemas/alerts.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    assert!(schema.is_valid(&json), "{json:#}");
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(
        (&json[0]["deliveries"][0]["channel"], &json[0]["deliveries"][0]["state"]),
        (&"log".into(), &"delivered".into())
    );
    let (_, text, _) = sre(&["alerts", "list", "--notify", &notify, "--agent", "nobody"]);
    assert_eq!(text, "0 of 2 alerts\n");
    let mut here = Command::new(env!("CARGO_BIN_EXE_sre"));
    let output = here.args(["alerts", "list"]).current_dir(folder.path("")).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("2 of 2 alerts\n"));
}

#[test]
fn an_agent_that_its_limits_block_is_an_alert_until_it_is_unblocked() {
    let folder = Folder::new();
    let channel = format!("{{type: file, name: file, path: \"{}\"}}", folder.path("alerts.jsonl"));
    let notify = folder.write("notify.yaml", &format!("channels: [{channel}]\nhistory: alerts.db\n"));
    let limits = folder.write("limits.yaml", "per_agent_daily: 10\nper_task: 10\n");
    let spend = |agent: &str, cost_usd: &str| {
        format!(
            "{{\"event\":\"llm_call\",\"time\":1790000100,\"agent\":\"{agent}\",\"task\":\"t\",\"model\":\"m\",\"cost_usd\":\"{cost_usd}\"}}\n"
        )
    };
    let spent = spend("a", "9.6") + &spend("b", "2");
    let check = |lines: &str| folder.check_with(&notify, 50, 0, lines, &["--limits", &limits]);
    for _ in 0..2 {
        let (code, _, stderr) = check(&spent);
        assert_eq!((code, &*stderr), (0, ""));
    }
    // A check of another day, on which the agent has spent little.
    assert_eq!(check(&(spend("a", "0.1") + &spend("b", "0.1"))).0, 0);
    let alerts = folder.read("alerts.jsonl");
    let found: Vec<_> = alerts
        .iter()
        .map(|alert| ["severity", "title", "message"].map(|field| alert[field].as_str().unwrap()))
        .collect();
    let expected = [
        ["critical", "Cost alert, agent a: blocked: the limit is nearly spent", "Spent $9.6 of the $10 limit."],
        ["resolved", "Cost alert, agent a: no longer throttled or blocked", "Spent $0.1 of the $10 limit."],
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_incident_can_be_acknowledged() {
    let folder = Folder::new();
    let notify = folder.write("notify.yaml", "channels: [{type: stdout}]\nhistory: alerts.db\n");
    let (code, _, stderr) = sre(&["alerts", "list", "--notify", &notify]);
    assert_eq!(code, 2);
    assert!(stderr.contains("no alert has been sent yet"), "{stderr}");
    folder.check(&notify, 70, 30);
    let (code, text, _) = sre(&["alerts", "ack", "slo/answers/a", "--by", "ann", "--notify", &notify]);
    assert_eq!((code, &*text), (0, "slo/answers/a: acknowledged by ann\n"));
    assert!(sre(&["alerts", "list", "--notify", &notify]).1.contains("acknowledged by ann"));
    let (code, _, stderr) = sre(&["alerts", "ack", "other", "--by", "ann", "--notify", &notify]);
    assert_eq!(code, 2);
    assert!(stderr.contains("`other`: found no open incident"), "{stderr}");
}

#[test]
fn a_failing_channel_is_named_and_its_key_redacted() {
    let folder = Folder::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(MockServer::start());
    let echo = ResponseTemplate::new(400).set_body_string(format!("bad routing_key {SECRET}"));
    runtime.block_on(Mock::given(any()).respond_with(echo).mount(&server));
    let text = format!(
        "channels:\n  - {{type: pagerduty, name: oncall, routing_key: \"${{PD_KEY}}\", url: \"{}\"}}\n  - {{type: file, name: log, path: \"{}\"}}\nhistory: alerts.db\n",
        server.uri(),
        folder.path("alerts.jsonl")
    );
    let notify = folder.write("notify.yaml", &text);
    let (code, stdout, stderr) = folder.check(&notify, 70, 30);
    assert_eq!(code, 2);
    assert!(stderr.contains("channel `oncall`: 1 of 1 not delivered: answered 400: bad routing_key ***"), "{stderr}");
    assert_eq!(folder.read("alerts.jsonl").len(), 1, "the other channel delivers");
    let (test_code, test_out, test_err) = sre(&["alerts", "test", "--notify", &notify, "--channel", "oncall"]);
    assert_eq!(test_code, 2);
    let (_, listed, _) = sre(&["alerts", "list", "--notify", &notify, "--output", "json"]);
    let sent = runtime.block_on(server.received_requests()).unwrap();
    let body: Value = serde_json::from_slice(&sent[0].body).unwrap();
    assert_eq!(body["routing_key"], SECRET, "the vendor receives the real key");
    for printed in [stdout, stderr, test_out, test_err, listed] {
        assert!(!printed.contains(SECRET), "{printed}");
    }
    for file in Path::new(&folder.path("")).read_dir().unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET));
    }
}

#[test]
fn a_test_alert_bypasses_the_filters_of_its_channel() {
    let folder = Folder::new();
    let text = format!(
        "channels:\n  - {{type: file, name: log, path: \"{}\", min_severity: critical, matchers: [\"team=x\"], enabled: false}}\n  - {{type: stdout}}\n",
        folder.path("alerts.jsonl")
    );
    let notify = folder.write("notify.yaml", &text);
    let (code, text, stderr) = sre(&["alerts", "test", "--notify", &notify, "--channel", "log", "--resolve"]);
    assert_eq!((code, &*text), (0, "log: delivered\n"), "{stderr}");
    let alerts = folder.read("alerts.jsonl");
    assert_eq!(
        (alerts.len(), &alerts[0]["labels"]["test"], &alerts[1]["severity"]),
        (2, &"true".into(), &"resolved".into())
    );
    let (code, _, stderr) = sre(&["alerts", "test", "--notify", &notify, "--channel", "logs"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("found no channel `logs`, expected one of log, stdout"), "{stderr}");
    let (code, schema, _) = sre(&["alerts", "schema"]);
    assert!(code == 0 && serde_json::from_str::<Value>(&schema).is_ok());
}
