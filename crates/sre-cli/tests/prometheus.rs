//! Tests `sre slo rules` and `sre slo dashboard` with a real Prometheus that scrapes a real service.

mod common;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use agent_sre::HttpClient;
use agent_sre::http::{Client, Options};
use common::{sre, text};
use http::Request;
use serde_json::Value;
use sre_server::{Config, Server};
use sre_testkit::outside;

const SLO: &str = "name: answers\ndescription: Tasks succeed\nlabels: {team: search, not-a-label: x}\n\
                   indicators: [{type: task_success_rate, target: 0.95}, {type: response_latency}]\n\
                   error_budget_policy: {policy: sre-workbook}\n---\nname: cheap\nindicators: [{type: cost_per_task}]\n";

struct Prometheus {
    child: Child,
    url: String,
    client: Client,
}

impl Prometheus {
    async fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.get(&format!("/api/v1/query?query={encoded}")).await["data"]["result"].as_array().unwrap().clone()
    }

    async fn get(&self, path: &str) -> Value {
        let request = Request::get(format!("{}{path}", self.url)).body(bytes::Bytes::new()).unwrap();
        let answer =
            self.client.send(request).await.map(|answer| serde_json::from_slice(answer.body()).unwrap_or_default());
        answer.unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_evaluates_the_rules_and_the_dashboard() {
    let test = "prometheus_evaluates_the_rules_and_the_dashboard";
    let (Some(mut promtool), Some(mut prometheus)) =
        (outside::program("promtool", test), outside::program("prometheus", test))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("slo.yaml"), SLO).unwrap();
    let rules = sre(&["slo", "rules", path("slo.yaml").to_str().unwrap()], "");
    assert!(rules.status.success(), "{}", text(&rules.stderr));
    std::fs::write(path("rules.yaml"), &rules.stdout).unwrap();
    let checked = promtool.args(["check", "rules"]).arg(path("rules.yaml")).output().unwrap();
    assert!(checked.status.success() && text(&checked.stdout).contains("SUCCESS"), "{}", text(&checked.stderr));

    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: path("data"),
        slos: vec![path("slo.yaml")],
        ..Config::default()
    };
    let server = Server::start(config).await.unwrap();
    let client = Client::new(Options::default()).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let line = |number: usize, agent: &str, success: bool, duration_ms: u64| {
        let head = format!("\"time\":{now},\"agent\":\"{agent}\",\"task\":\"{number}\"");
        format!(
            "{{\"event\":\"llm_call\",{head},\"model\":\"gpt-5\",\"cost_usd\":\"0.1\"}}\n\
             {{\"event\":\"task_finished\",{head},\"success\":{success},\"duration_ms\":{duration_ms}}}\n"
        )
    };
    let all = |number| {
        line(number, "bad", false, 812) + &line(number, "good", true, 812) + &line(number, "slow", true, 9_000)
    };
    let lines: String = (0..40).map(all).collect();
    let request = Request::post(format!("{}/v1/events/sre", server.url())).body(lines.into()).unwrap();
    assert!(client.send(request).await.unwrap().status().is_success());

    let settings = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yaml]\n\
         scrape_configs:\n  - {{job_name: sre, static_configs: [{{targets: [\"{}\"]}}]}}\n",
        server.address()
    );
    std::fs::write(path("prometheus.yaml"), settings).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    prometheus.arg(format!("--config.file={}", path("prometheus.yaml").display()));
    prometheus.arg(format!("--storage.tsdb.path={}", path("tsdb").display()));
    prometheus.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let child = prometheus.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let prometheus = Prometheus { child, url: format!("http://127.0.0.1:{port}"), client };

    // All burn alerts fire for the failing agent, that of its indicator for the slow one, and none for the other.
    let begun = Instant::now();
    let alerts = loop {
        let found = prometheus.get("/api/v1/alerts").await["data"]["alerts"].take();
        let alerts = found.as_array().cloned().unwrap_or_default();
        // Until its first scrape, Prometheus reports the service as down: that pending alert must disappear.
        if alerts.len() >= 5 && alerts.iter().all(|alert| alert["state"] == "firing") {
            break alerts;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{alerts:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    let mut names: Vec<_> = alerts
        .iter()
        .map(|alert| {
            let labels = &alert["labels"];
            let of = |name: &str| labels[name].as_str().unwrap_or("–").to_owned();
            [of("alertname"), of("agent"), of("severity"), of("team"), of("long_window"), of("indicator")]
        })
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            ["SreErrorBudgetBurn", "bad", "warning", "search", "3d", "–"],
            ["SreErrorBudgetBurnFast", "bad", "critical", "search", "1h", "–"],
            ["SreErrorBudgetBurnFast", "bad", "critical", "search", "6h", "–"],
            ["SreErrorBudgetExhausted", "bad", "critical", "search", "–", "–"],
            ["SreIndicatorMissesTarget", "slow", "critical", "search", "–", "response_latency"],
        ]
    );
    for summary in ["answers of bad: error budget exhausted", "answers of slow: response_latency misses its target"] {
        assert!(alerts.iter().any(|alert| alert["annotations"]["summary"] == summary), "{summary}: {alerts:?}");
    }

    // Every panel of the dashboard has data.
    let dashboard: Value = serde_json::from_slice(&sre(&["slo", "dashboard"], "").stdout).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let filled = ["$slo", "$agent", "$window"]
                .iter()
                .fold(expression.to_owned(), |filled, name| filled.replace(name, ".*"));
            let filled = filled.replace("$__rate_interval", "10s");
            let begun = Instant::now();
            while prometheus.query(&filled).await.is_empty() {
                assert!(begun.elapsed() < Duration::from_secs(20), "{}: {filled} shows nothing", panel["title"]);
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }
    server.stop().await;
}
