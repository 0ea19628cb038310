//! Tests the live service from the command line: configuration, Unix signals and `sre gate`.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_sre::HttpClient;
use agent_sre::http::{Client, Options};
use common::{SLO, Service, serve, sre, text};
use http::Request;
use serde_json::Value;
use sre_testkit::outside;

impl Service {
    async fn ask(&self, path: &str) -> Value {
        let client = Client::new(Options::default()).unwrap();
        let request = Request::get(format!("{}{path}", self.url)).body(bytes::Bytes::new()).unwrap();
        serde_json::from_slice(client.send(request).await.unwrap().body()).unwrap()
    }

    async fn send(&self, lines: &str) {
        let client = Client::new(Options::default()).unwrap();
        let request = Request::post(format!("{}/v1/events/sre", self.url)).body(lines.to_owned().into()).unwrap();
        assert!(client.send(request).await.unwrap().status().is_success());
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

fn tasks(agent: &str, success: bool) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let line = |task: u32| {
        format!(
            "{{\"event\":\"task_finished\",\"time\":{now},\"agent\":\"{agent}\",\"task\":\"{task}\",\"success\":{success}}}\n"
        )
    };
    (0..40).map(line).collect()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    std::fs::write(folder.join(name), text).unwrap();
    folder.join(name).to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_of_gate_says_whether_a_deploy_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let slo = SLO.to_owned() + "labels: {tier: one}\nerror_budget_policy: {exhaustion_action: freeze_deployments}\n";
    let (slo, data) = (write(folder.path(), "slo.yaml", &slo), folder.path().join("data").display().to_string());
    let service = Service::of(serve(&["--listen", "127.0.0.1:0", "--data", &data, "--slo", &slo]));
    service.send(&(tasks("good", true) + &tasks("bad", false))).await;
    for (arguments, code, printed) in [
        (&["--service", "good"][..], 0, "deploy allowed: 1 objective checked\n"),
        (&["--slo", "answers", "--label", "tier=two"], 2, ""),
        (&["--service", "godo"], 2, ""),
        (&["--label", "tier=one"], 1, "deploy not allowed: 2 objectives checked\n"),
        // Freezes deployments, whatever is asked for.
        (&["--service", "bad", "--fail-on", "never"], 1, "deploy not allowed: 1 objective checked\n"),
        (&["--fail-on", "healthy"], 2, ""),
        (&["--slo", "nothing"], 2, ""),
        (&["--label", "tier"], 2, ""),
    ] {
        let output = sre(&[&["gate", "--url", &service.url], arguments].concat(), "");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stdout).ends_with(printed), "{arguments:?}: {}", text(&output.stdout));
    }
    let without_scheme = service.url.trim_start_matches("http://");
    let output = sre(&["gate", "--url", without_scheme], "");
    let reason = "answers of bad: exhausted. The error budget of task_success_rate is exhausted. Burn rate 20.0 over the last 1h";
    assert!(text(&output.stdout).starts_with(reason), "{}", text(&output.stdout));
    let unreachable = sre(&["gate", "--url", "http://127.0.0.1:1"], "");
    assert_eq!(unreachable.status.code(), Some(2), "an unreachable service allows no deploy");
}

/// `pip install` of the wheel is tested by `cargo xtask dist`; here Python finds its modules where the wheel takes them from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_on_the_page_in_the_three_commands_of_the_documentation() {
    let Some(mut agent) = outside::python_with("contextvars", "serve: three commands") else { return };
    let page = std::fs::read_to_string(Path::new(common::ROOT).join("docs/serve.md")).unwrap();
    let commands =
        page.split("```sh\n").find_map(|block| block.strip_prefix("pip install ./crates/sre-cli\n")).unwrap();
    assert_eq!(commands.split("```").next(), Some("sre serve\npython agent.py\n"));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let service = Service::of(serve(&["--listen", "127.0.0.1:0", "--data", &data]));
    let code = "import sre_taps\n\
                with sre_taps.task(agent='support'):\n    \
                    with sre_taps.llm_call('gpt-4o') as call:\n        \
                        call.usage(input_tokens=50, output_tokens=10)\n";
    let modules = Path::new(common::ROOT).join("crates/sre-cli/python");
    agent.arg(write(folder.path(), "agent.py", code)).env("PYTHONPATH", modules).env("SRE_URL", &service.url);
    assert!(agent.status().unwrap().success());
    // The tap sends what is left before the agent exits.
    let begun = Instant::now();
    let agents = loop {
        let agents = service.ask("/v1/agents").await["agents"].take();
        if agents[0]["tasks"] == 1 {
            break agents;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{agents}");
    };
    let counts = ["succeeded", "llm_calls", "input_tokens", "output_tokens"].map(|count| agents[0][count].as_u64());
    assert_eq!((&agents[0]["agent"], counts), (&"support".into(), [Some(1), Some(1), Some(50), Some(10)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reloads_the_configuration_and_sigterm_stops_the_service() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "slo.yaml", SLO);
    let config = write(folder.path(), "sre.yaml", "listen: 127.0.0.1:0\nslos: [slo.yaml]\ndata: data\n");
    let mut service = Service::of(serve(&["--config", &config]));
    service.send(&tasks("a", true)).await;
    write(folder.path(), "slo.yaml", &SLO.replace("0.95", "0.5"));
    service.signal("HUP");
    let begun = Instant::now();
    let slos = loop {
        let slos = service.ask("/v1/slos").await;
        if slos["slos"][0]["target"] == 0.5 {
            break slos;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{slos}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(slos["slos"][0]["good"], 40, "counts survive a reload");
    service.signal("TERM");
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
    let service = Service::of(serve(&["--config", &config]));
    assert_eq!(service.ask("/v1/slos").await["slos"][0]["good"], 40);
}

/// Returns a command that runs a shell's script with mounts of its own; `None` where that is not permitted.
fn with_own_mounts(script: &str) -> Option<Command> {
    let unshare = |options: &str, script: &str| {
        let mut command = Command::new("unshare");
        command.args([options, "sh", "-c", script]);
        command
    };
    let is_permitted = |options: &&str| {
        let mount = unshare(options, "mount -t tmpfs tmpfs /mnt").stderr(Stdio::null()).status();
        mount.is_ok_and(|status| status.success())
    };
    ["-m", "-rm"].into_iter().find(is_permitted).map(|options| unshare(options, script))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_starts_on_a_full_disk_waits_for_room() {
    // Room for nothing, for part of the first file, and for part of the second.
    for free in ["0", "12K", "80K"] {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let script = "mount -t tmpfs -o size=8M tmpfs \"$DISK\" && { cat /dev/zero >\"$DISK/filler\" 2>/dev/null || true; } \
                      && truncate -s -$FREE \"$DISK/filler\" \
                      && exec \"$SRE\" serve --listen \"$LISTEN\" --data \"$DISK/data\"";
        let Some(mut command) = with_own_mounts(script) else {
            return outside::skip("a_service_that_starts_on_a_full_disk_waits_for_room: mounting is not permitted");
        };
        command.env("DISK", &disk).env("FREE", free).env("LISTEN", &listen).env("SRE_LOG", "error");
        command.env("SRE", env!("CARGO_BIN_EXE_sre")).stdout(Stdio::null());
        let mut service = Service { child: command.spawn().unwrap(), url: format!("http://{listen}") };
        let filler = format!("/proc/{}/root{}/filler", service.child.id(), disk.display());
        let client = Client::new(Options::default()).unwrap();
        let begun = Instant::now();
        let mut until_ready_says = async |text: &str| {
            loop {
                let request = Request::get(format!("{}/readyz", service.url)).body(bytes::Bytes::new()).unwrap();
                match client.send(request).await {
                    Ok(ready) if String::from_utf8_lossy(ready.body()).contains(text) => return ready.status(),
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
                assert!(service.child.try_wait().unwrap().is_none(), "{free} free: the service has ended");
                assert!(begun.elapsed() < Duration::from_secs(60), "{free} free: it never says {text}");
            }
        };
        assert_eq!(until_ready_says("waits for room on the disk").await, 503);
        std::fs::remove_file(&filler).unwrap();
        assert_eq!(until_ready_says("\"ready\":true").await, 200);
        service.send(&tasks("a", true)).await;
        assert_eq!(service.ask("/v1/slos").await["totals"]["tasks"], 40);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let (token, digest) = sre_server::Token::generate().unwrap();
    let settings = format!("listen: 127.0.0.1:0\ndata: data\ntokens: [{{name: a, scope: read, sha256: {digest}}}]\n");
    let config = write(folder.path(), "sre.yaml", &settings);
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = serve(&["--config", &config]);
    command.env("SRE_LOG", "trace").stderr(log);
    let service = Service::of(command);
    let client = Client::new(Options::default()).unwrap();
    for (path, token) in [("/v1/slos", token.as_str()), ("/v1/slos", "sre_wrong"), ("/v1/traces", token.as_str())] {
        let request = Request::get(format!("{}{path}", service.url)).header("authorization", format!("Bearer {token}"));
        client.send(request.body(bytes::Bytes::new()).unwrap()).await.unwrap();
    }
    service.signal("TERM");
    drop(service);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    for secret in [&token[4..], &digest, "sre_wrong"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_keeps_its_data_only_where_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let kept = folder.path().join("kept");
    for (more, is_kept) in [(&[][..], false), (&["--data", kept.to_str().unwrap()], true)] {
        let mut command = serve(&[&["--demo", "--listen", "127.0.0.1:0"], more].concat());
        command.current_dir(folder.path()).env("TMPDIR", &temporary);
        let mut service = Service::of(command);
        let entries = || std::fs::read_dir(&temporary).unwrap().count();
        assert_eq!((entries(), kept.exists()), (1, is_kept));
        service.signal("TERM");
        assert_eq!(service.child.wait().unwrap().code(), Some(0));
        assert_eq!((entries(), kept.join("journal.db").exists()), (0, is_kept));
        assert!(!folder.path().join("sre-data").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_an_objective_whose_latency_is_missed_and_why() {
    let service = Service::of(serve(&["--demo", "--listen", "127.0.0.1:0"]));
    let begun = Instant::now();
    let support = |slos: &Value| slos["slos"].as_array()?.iter().find(|slo| slo["agent"] == "support").cloned();
    loop {
        let slo = support(&service.ask("/v1/slos").await).unwrap_or_default();
        let alerts = service.ask("/v1/alerts").await.to_string();
        if slo["status"] == "critical" && alerts.contains("response_latency: Its error budget is consumed") {
            assert_eq!(slo["budget_status"], "healthy", "the latency alone is to blame");
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{slo} {alerts}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_override_the_file_now_and_after_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| write(folder.path(), name, text);
    let files = "notify: missing.yaml\nlimits: missing.yaml\nprices: missing.yaml\nbreakers: missing.yaml\n";
    let config = write("sre.yaml", &format!("listen: 127.0.0.1:0\ndata: data\n{files}"));
    let alerts = folder.path().join("alerts.jsonl");
    let channel = format!("{{type: file, name: own, path: \"{}\", min_severity: info}}", alerts.display());
    let notify = write("notify.yaml", &format!("channels: [{channel}]\n"));
    let limits = write("limits.yaml", "per_agent_daily: 7\n");
    let prices = write("prices.yaml", "prices:\n  - {model: own, input: 1000000, output: 0}\n");
    let breakers = write("breakers.yaml", "failure_threshold: 2\n");
    let options = ["--notify", &notify, "--limits", &limits, "--prices", &prices, "--breakers", &breakers];
    let service = Service::of(serve(&[&["--config", &config], &options[..]].concat()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let head = format!("\"time\":{now},\"agent\":\"a\",\"task\":\"t\"");
    let call = format!("{{\"event\":\"llm_call\",{head},\"model\":\"own\",\"input_tokens\":1}}\n");
    let failed = format!("{{\"event\":\"tool_call\",{head},\"tool\":\"search\",\"success\":false}}\n");
    service.send(&(call.clone() + &failed.repeat(2))).await;
    let budget = async || service.ask("/v1/costs").await["budgets"][0].take();
    assert_eq!((&budget().await["limit_usd"], &budget().await["spent_usd"]), (&"7".into(), &"1".into()));
    assert_eq!(service.ask("/v1/breakers").await["breakers"][0]["state"], "open");
    let begun = Instant::now();
    while !std::fs::read_to_string(&alerts).is_ok_and(|alerts| alerts.contains("circuit of tool search")) {
        assert!(begun.elapsed() < Duration::from_secs(20), "no alert arrives");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    write("limits.yaml", "per_agent_daily: 8\n");
    service.signal("HUP");
    while budget().await["limit_usd"] != "8" {
        assert!(begun.elapsed() < Duration::from_secs(40), "{}", budget().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(service.ask("/readyz").await, serde_json::json!({"ready": true}), "the reload succeeded");
}

#[test]
fn the_date_of_the_public_prices_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let output = serve(&["--listen", "127.0.0.1:0", "--data", data, "--stop-after", "1s"])
        .env("SRE_LOG", "info")
        .output()
        .unwrap();
    let log = text(&output.stderr);
    assert!(log.contains(agent_sre::cost::PriceBook::PUBLIC_AS_OF), "{log}");
}
