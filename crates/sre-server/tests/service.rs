//! Durability, access, reloads of the configuration, and the responses of the API.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use agent_sre::http::{Client, Options};
use agent_sre::sqlite::SqliteJournal;
use agent_sre::{Clock, HttpClient, JournalEntry, JournalStore, SystemClock};
use bytes::Bytes;
use common::{BUSY, Service, config, finished, own_slos, tasks};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use sre_server::{Config, LoadError, Scope, Server, ServerLimits, StartError, Tls, Token};
use sre_testkit::outside;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn state_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(own_slos(folder.path(), BUSY)).await;
    service.events(&tasks("a", 40, 20)).await;
    let call = "{\"event\":\"llm_call\",\"time\":1,\"agent\":\"a\",\"task\":\"open\",\"model\":\"gpt-5\",\"cost_usd\":\"0.75\"}\n";
    service.events(call).await;
    let begun = finished("a", 999, true).replace("task_finished", "task_started");
    service.events(&begun).await;
    service.until("/v1/slos", |slos| slos["slos"][0]["status"] == "exhausted").await;
    service.until("/v1/alerts", |alerts| alerts["alerts"].as_array().unwrap().len() == 1).await;
    let (slos, costs) = (service.get("/v1/slos").await, service.get("/v1/costs").await);
    service.server.stop().await;

    let service = Service::start(own_slos(folder.path(), BUSY)).await;
    let again = service.get("/v1/slos").await;
    assert_eq!((&again["slos"][0]["good"], &again["slos"][0]["bad"]), (&json!(20), &json!(20)));
    assert_eq!(again["totals"], slos["totals"]);
    assert_eq!(again["slos"][0]["indicators"], slos["slos"][0]["indicators"]);
    assert_eq!(service.get("/v1/costs").await["models"], costs["models"]);
    assert_eq!(service.get("/v1/agents").await["agents"][0]["tasks"], 40);
    // An open run continues, and an incident that continues sends no second alert.
    service.events(&finished("a", 999, true)).await;
    assert_eq!(service.totals().await["tasks"], 41);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(service.get("/v1/alerts").await["alerts"].as_array().unwrap().len(), 1);
    service.server.stop().await;
}

#[tokio::test]
async fn a_full_journal_refuses_batches_until_a_snapshot_frees_space() {
    let folder = tempfile::tempdir().unwrap();
    // The limit of the journal stands for a disk that is nearly full.
    let server_limits = ServerLimits { max_journal: 1 << 20, ..ServerLimits::default() };
    let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
    let mut lines = tasks("a", 1_000, 0);
    lines.push_str(&" ".repeat(500_000));
    let mut accepted = 0;
    let refused = loop {
        let response = service.post("/v1/events/sre", "text/plain", lines.clone()).await;
        if response.status() != StatusCode::OK {
            break response;
        }
        accepted += 1;
        assert!(accepted < 5, "two of these fill it");
    };
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"5".parse().unwrap())
    );
    assert!(String::from_utf8_lossy(refused.body()).contains("full"));
    // A snapshot covers the entries, which are removed then.
    let mut attempts = 0;
    while service.post("/v1/events/sre", "text/plain", lines.clone()).await.status() != StatusCode::OK {
        attempts += 1;
        assert!(attempts < 100, "the journal stays full");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ready = service.get("/readyz").await;
    assert_eq!(ready, json!({"ready": true}));
    assert_eq!(service.totals().await["tasks"], (accepted + 1) * 1_000);
    service.server.stop().await;
}

#[tokio::test]
async fn a_batch_that_cannot_be_journaled_is_refused_and_readiness_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let server_limits = ServerLimits { max_journal: 1 << 20, ..ServerLimits::default() };
    let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
    // Larger than the whole journal.
    let refused = service.post("/v1/events/sre", "text/plain", vec![b' '; 2 << 20]).await;
    assert_eq!(
        (refused.status(), refused.headers().contains_key("retry-after")),
        (StatusCode::SERVICE_UNAVAILABLE, true)
    );
    let ready = service.get_raw("/readyz").await;
    let answer: Value = serde_json::from_slice(ready.body()).unwrap();
    assert_eq!((ready.status(), &answer["ready"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(false)));
    assert!(answer["reasons"][0].as_str().unwrap().starts_with("journal write failed"), "{answer}");
    service.events(&finished("a", 1, true)).await;
    assert_eq!(service.get("/readyz").await, json!({"ready": true}));
}

#[tokio::test]
async fn the_service_is_not_ready_while_its_state_cannot_be_saved() {
    let folder = tempfile::tempdir().unwrap();
    let server_limits = ServerLimits { snapshot_after: 1, ..ServerLimits::default() };
    let config = Config { server_limits, ..config(folder.path()) };
    Service::start(config.clone()).await.server.stop().await;
    // A file in which snapshots fail until there is a third request.
    let trigger = "CREATE TRIGGER broken BEFORE INSERT ON snapshot WHEN NEW.last < 3
        BEGIN SELECT RAISE(ABORT, 'a broken disk'); END";
    let file = folder.path().join("data").join(SqliteJournal::DEFAULT_FILE);
    rusqlite::Connection::open(file).unwrap().execute_batch(trigger).unwrap();

    let service = Service::start(config).await;
    let until_ready_is = async |expected: StatusCode| {
        let begun = Instant::now();
        loop {
            let ready = service.get_raw("/readyz").await;
            if ready.status() == expected {
                return String::from_utf8(ready.body().to_vec()).unwrap();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{ready:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    service.events(&finished("a", 1, true)).await;
    let reason = until_ready_is(StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(reason.contains("snapshot failed") && reason.contains("a broken disk"), "{reason}");
    let metrics = String::from_utf8(service.get_raw("/metrics").await.body().to_vec()).unwrap();
    assert!(!metrics.contains("sre_server_snapshot_failures_total 0"), "{metrics}");
    // Requests are accepted all the same.
    service.events(&finished("a", 2, true)).await;
    service.events(&finished("a", 3, true)).await;
    until_ready_is(StatusCode::OK).await;
    service.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_progress_are_completed_when_the_service_stops() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let mut in_progress = tokio::net::TcpStream::connect(service.server.address()).await.unwrap();
    let line = finished("a", 1, true);
    let head = format!("POST /v1/events/sre HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", line.len());
    in_progress.write_all((head + &line[..20]).as_bytes()).await.unwrap();
    // The service has received the head before it stops.
    service.get("/v1/slos").await;
    let address = service.server.address();
    let stopping = tokio::spawn(service.server.stop());
    let mut refused = tokio::net::TcpStream::connect(address).await;
    while refused.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        refused = tokio::net::TcpStream::connect(address).await;
    }
    in_progress.write_all(&line.as_bytes()[20..]).await.unwrap();
    let mut answer = Vec::new();
    in_progress.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    stopping.await.unwrap();
    let service = Service::start(config(folder.path())).await;
    assert_eq!(service.totals().await["tasks"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_waits_while_another_process_holds_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let first = Service::start(config(folder.path())).await;
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let waiting = tokio::spawn(Server::start(Config { listen, ..config(folder.path()) }));
    let client = Client::new(Options::default()).unwrap();
    let ask = async |method: &str, path: &str, kind: &str| {
        let request = Request::builder().method(method).uri(format!("http://{listen}{path}"));
        client.send(request.header("content-type", kind).body(Bytes::new()).unwrap()).await
    };
    // The reason is known only after the first attempt.
    let begun = Instant::now();
    let ready = loop {
        match ask("GET", "/readyz", "").await {
            Ok(ready) if String::from_utf8_lossy(ready.body()).contains("locked") => break ready,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the reason never appears");
    };
    let answer: Value = serde_json::from_slice(ready.body()).unwrap();
    assert_eq!(answer, json!({"ready": false, "reasons": ["the journal is locked by another process"]}));
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask("GET", "/healthz", "").await.unwrap().status(), StatusCode::OK);
    for (method, path, kind) in [
        ("POST", "/v1/traces", "application/x-protobuf"),
        ("POST", "/v1/events/sre", "text/plain"),
        ("GET", "/v1/slos", "text/plain"),
    ] {
        let refused = ask(method, path, kind).await.unwrap();
        let found = (refused.status(), &refused.headers()["retry-after"]);
        assert_eq!(found, (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap()), "{path}");
    }
    // The first service is not disturbed.
    first.events(&finished("a", 1, true)).await;
    first.server.stop().await;
    let second = Service::of(waiting.await.unwrap().unwrap());
    second.events(&finished("a", 2, true)).await;
    assert_eq!(second.totals().await["tasks"], 2);
}

#[tokio::test]
async fn a_journal_that_is_full_at_the_start_is_emptied() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let lines = tasks("a", 1_000, 0) + &" ".repeat(400_000);
    let server_limits = ServerLimits { max_journal: 1 << 20, ..ServerLimits::default() };
    {
        let path = folder.path().join("data").join(SqliteJournal::DEFAULT_FILE);
        let journal = SqliteJournal::open(path, server_limits.max_journal).unwrap();
        let received = SystemClock.now();
        let entry = JournalEntry::new(received, "sre", None, lines.as_bytes());
        while journal.append(&[entry]).is_ok() {}
    }
    let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
    let restored = service.totals().await["tasks"].as_u64().unwrap();
    let mut attempts = 0;
    while service.post("/v1/events/sre", "text/plain", lines.clone()).await.status() != StatusCode::OK {
        attempts += 1;
        assert!(attempts < 100, "the journal stays full");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(service.totals().await["tasks"], restored + 1_000);
}

#[tokio::test]
async fn tokens_limit_access_by_scope() {
    let folder = tempfile::tempdir().unwrap();
    let (ingest, ingest_digest) = Token::generate().unwrap();
    let (read, read_digest) = Token::generate().unwrap();
    let settings = format!(
        "listen: 127.0.0.1:0\ntokens:\n  - {{name: agents, scope: ingest, sha256: {ingest_digest}}}\n  - {{name: people, scope: read, sha256: {read_digest}}}\n"
    );
    let config = Config { data: folder.path().join("data"), ..Config::parse(&settings, "sre.yaml").unwrap() };
    let mut service = Service::start(config.clone()).await;
    let line = finished("a", 1, true) + &finished("b", 1, true);
    for (token, send, ask, open) in [
        (None, 401, 401, 200),
        (Some("sre_wrong".to_owned()), 401, 401, 200),
        (Some(read.clone()), 403, 200, 200),
        (Some(ingest.clone()), 200, 403, 200),
    ] {
        service.token = token;
        let sent = service.post("/v1/events/sre", "text/plain", line.clone()).await;
        let otlp = service.post("/v1/traces", "application/x-protobuf", "").await;
        let asked = service.get_raw("/v1/slos").await;
        let gate = service.post("/v1/gate", "application/json", "{}").await;
        let metrics = service.get_raw("/metrics").await;
        let live = service.get_raw("/healthz").await;
        let found = [&sent, &otlp, &asked, &gate, &metrics, &live].map(|response| response.status().as_u16());
        assert_eq!(found, [send, send, ask, ask, ask, open]);
        for response in [sent, asked] {
            assert!(!String::from_utf8_lossy(response.body()).contains(ingest.trim_start_matches("sre_")));
        }
    }
    service.token = Some(read);
    let agents = service.get("/v1/agents").await;
    assert_eq!(agents["agents"].as_array().unwrap().len(), 2, "a token is not bound to agents");
    // With tokens, any host name is accepted.
    let request = Request::get(format!("{}/healthz", service.server.url())).header("host", "sre.example");
    assert_eq!(service.send(request, "").await.status(), StatusCode::OK);
    let open = Config { listen: "0.0.0.0:0".parse().unwrap(), tokens: Vec::new(), ..config.clone() };
    assert!(matches!(open.check(), Err(StartError::Config(LoadError::Open(_)))));
    let Err(error) = Server::start(open).await else { panic!("it starts without tokens") };
    assert!(error.to_string().contains("`tokens` are needed for both scopes"), "{error}");
    let half = Config { listen: "0.0.0.0:0".parse().unwrap(), tokens: config.tokens[..1].to_vec(), ..config };
    assert!(matches!(Server::start(half).await, Err(StartError::Config(LoadError::Open(_)))));
    assert_eq!(service.server.address().ip().to_string(), "127.0.0.1");
    assert_eq!(Scope::named("read"), Some(Scope::Read));
}

#[tokio::test]
async fn no_path_reaches_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    std::fs::write(folder.path().join("data/secret.txt"), "secret").unwrap();
    let data = folder.path().join("data");
    let absolute = format!("{}/secret.txt", data.display());
    for path in [
        "/secret.txt",
        "/data/secret.txt",
        "/../data/secret.txt",
        "/assets/../../data/secret.txt",
        "/assets/..%2f..%2fdata%2fsecret.txt",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..\\..\\etc\\passwd",
        "/v1/slos/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/events/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/proc/self/environ",
        "file:///etc/passwd",
        &format!("/{absolute}"),
        &absolute,
    ] {
        let mut stream = tokio::net::TcpStream::connect(service.server.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        let leaks = ["root:", "\r\n\r\nsecret"].iter().any(|text| answer.contains(text));
        assert!(answer.starts_with("HTTP/1.1 4") && !leaks, "{path}: {answer}");
    }
}

#[tokio::test]
async fn other_websites_cannot_reach_a_service_without_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let url = format!("{}/v1/slos", service.server.url());
    for (header, value, status) in [
        ("host", "evil.example", 403),
        ("host", "localhost:4318", 200),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://localhost:3000", 200),
    ] {
        let response = service.send(Request::get(&url).header(header, value), "").await;
        assert_eq!(response.status().as_u16(), status, "{header}: {value}");
    }
}

#[tokio::test]
async fn https_works_with_a_renewed_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::new(folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let renew = || {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&tls.certificate, own.cert.pem()).unwrap();
        std::fs::write(&tls.key, own.signing_key.serialize_pem()).unwrap();
    };
    renew();
    let service = Service::start(Config { tls: Some(tls.clone()), ..config(folder.path()) }).await;
    let port = service.server.address().port();
    for _ in 0..2 {
        let Some(mut curl) = outside::program("curl", "https_works_with_a_renewed_certificate") else { return };
        curl.args(["-sS", "--max-time", "20", "--resolve", &format!("localhost:{port}:127.0.0.1"), "--cacert"]);
        curl.arg(&tls.certificate).arg(format!("https://localhost:{port}/healthz"));
        let output = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n", "{}", String::from_utf8_lossy(&output.stderr));
        // A renewed certificate needs no restart.
        renew();
        service.server.reload().await.unwrap();
    }
    service.server.stop().await;
    std::fs::write(&tls.key, "no key").unwrap();
    let Err(error) = Server::start(Config { tls: Some(tls), ..config(folder.path()) }).await else { panic!("no key") };
    assert!(error.to_string().contains("key.pem"), "{error}");
}

#[tokio::test]
async fn a_reload_keeps_counts_and_an_invalid_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sre.yaml");
    std::fs::write(folder.path().join("slo.yaml"), BUSY).unwrap();
    std::fs::write(&file, "listen: 127.0.0.1:0\nslos: [slo.yaml]\n").unwrap();
    let service = Service::start(Config::load(&file).unwrap()).await;
    service.events(&tasks("a", 20, 1)).await;
    let changed = format!("{}---\nname: cheap\nindicators: [{{type: cost_per_task}}]\n", BUSY.replace("0.9", "0.5"));
    std::fs::write(folder.path().join("slo.yaml"), changed).unwrap();
    // The service notices the change by itself.
    let slos = service.until("/v1/slos", |slos| slos["slos"].as_array().unwrap().len() == 2).await;
    let answers = &slos["slos"][0];
    assert_eq!((&answers["name"], &answers["target"], &answers["good"]), (&json!("answers"), &json!(0.5), &json!(19)));

    std::fs::write(folder.path().join("slo.yaml"), "name: answers\nlabel: {}\n").unwrap();
    let ready = service.until("/readyz", |ready| ready.get("warnings").is_some()).await;
    assert_eq!(
        ready["warnings"][0],
        "config reload failed; keeping the previous configuration (the log has the error)"
    );
    let error = service.server.reload().await.unwrap_err();
    assert!(error.contains("slo.yaml:2: `label`: unknown field"), "{error}");
    service.events(&finished("a", 100, true)).await;
    assert_eq!(service.get("/v1/slos").await["slos"][0]["good"], 20, "the previous objectives continue");

    // A file that the settings name later is watched too.
    std::fs::write(folder.path().join("more.yaml"), BUSY).unwrap();
    std::fs::write(&file, "listen: 127.0.0.1:0\nslos: [more.yaml]\n").unwrap();
    service.until("/v1/slos", |slos| slos["slos"][0]["target"] == 0.9).await;
    std::fs::write(folder.path().join("more.yaml"), BUSY.replace("0.9", "0.8")).unwrap();
    let slos = service.until("/v1/slos", |slos| slos["slos"][0]["target"] == 0.8).await;
    assert_eq!((slos["slos"].as_array().unwrap().len(), &slos["slos"][0]["good"]), (1, &json!(20)));
    service.server.stop().await;
}

#[tokio::test]
async fn the_gate_refuses_deploys_while_an_objective_is_exhausted() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(own_slos(folder.path(), BUSY)).await;
    service.events(&(tasks("good", 20, 0) + &tasks("bad", 20, 19))).await;
    let ask = async |question: Value| {
        let response = service.post("/v1/gate", "application/json", question.to_string()).await;
        assert_eq!(response.status(), StatusCode::OK, "{:?}", response.body());
        serde_json::from_slice::<Value>(response.body()).unwrap()
    };
    let everything = ask(json!({})).await;
    assert_eq!((&everything["allowed"], &everything["checked"]), (&json!(false), &json!(2)));
    assert!(
        everything["reasons"][0]
            .as_str()
            .unwrap()
            .starts_with("answers of bad: exhausted. The error budget of task_success_rate is")
    );
    assert_eq!(ask(json!({"service": "good"})).await, json!({"allowed": true, "reasons": [], "checked": 1}));
    assert_eq!(ask(json!({"slos": ["answers"], "labels": {"team": "search"}})).await["allowed"], false);
    assert_eq!(ask(json!({"labels": {"team": "other"}})).await["checked"], 0);
    for question in ["{\"slos\": [\"nothing\"]}", "{\"slo\": \"answers\"}", "nonsense"] {
        let response = service.post("/v1/gate", "application/json", question).await;
        assert!(response.status().is_client_error(), "{question}");
    }
}

#[tokio::test]
async fn agents_beyond_the_limit_share_a_series() {
    let folder = tempfile::tempdir().unwrap();
    let server_limits = ServerLimits { max_agents: 3, ..ServerLimits::default() };
    let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
    let spends = |agent| finished(&format!("agent-{agent}"), agent, true).replace("20}", "20,\"cost_usd\":\"0.5\"}");
    service.events(&(0..50).map(spends).collect::<String>()).await;
    let slos = service.get("/v1/slos").await;
    let agents: Vec<&str> = slos["slos"].as_array().unwrap().iter().map(|slo| slo["agent"].as_str().unwrap()).collect();
    assert_eq!(agents, ["__overflow__", "agent-0", "agent-1", "agent-2"]);
    assert_eq!(slos["slos"][0]["good"], 47);
    let agents = service.get("/v1/agents").await;
    assert_eq!((agents["agents"].as_array().unwrap().len(), &agents["agents"][0]["tasks"]), (4, &json!(47)));
    let costs = service.get("/v1/costs").await;
    let budgets = costs["budgets"].as_array().unwrap();
    assert_eq!((budgets.len(), &budgets[3]["spent_usd"]), (4, &json!("25")), "three agents and the overflow");
    let found = ["remaining_usd", "utilization_percent", "avg_cost_per_task"].map(|field| budgets[0][field].clone());
    assert_eq!(found, [json!("99.5"), json!(0.5), json!("0.5")]);
}

#[tokio::test]
async fn prometheus_reads_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(own_slos(folder.path(), BUSY)).await;
    service.events(&tasks("a", 40, 30)).await;
    let text = service.get_raw("/metrics").await;
    assert_eq!(text.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let body = String::from_utf8(text.body().to_vec()).unwrap();
    for line in [
        "sre_slo_window_events{agent=\"a\",outcome=\"bad\",slo=\"answers\"} 30",
        "sre_server_records_total 40",
        "sre_adapter_open_runs{adapter=\"sre\"} 0",
    ] {
        assert!(body.contains(line), "{line} is not in\n{body}");
    }
    let request = Request::get(format!("{}/metrics", service.server.url()));
    let open = service.send(request.header("accept", "application/openmetrics-text;version=1.0.0"), "").await;
    assert!(open.headers()["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(open.body().ends_with(b"# EOF\n"));
    let Some(mut promtool) = outside::program("promtool", "prometheus_reads_the_metrics") else { return };
    let file = folder.path().join("metrics.txt");
    std::fs::write(&file, body).unwrap();
    promtool.args(["check", "metrics"]).stdin(std::fs::File::open(file).unwrap());
    let output = promtool.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the text of every Rust file below a folder.
fn sources(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            texts.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(std::fs::read_to_string(path).unwrap());
        }
    }
    texts
}

#[test]
fn every_line_of_the_security_page_names_a_test() {
    let root = Path::new(common::ROOT);
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let sources = sources(&root.join("crates")).join("\n");
    let rows =
        page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---") && !line.ends_with("| test |"));
    let mut count = 0;
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let mut named = tests.split('`').skip(1).step_by(2).filter(|name| !name.starts_with("sre-")).peekable();
        assert!(named.peek().is_some(), "no test: {row}");
        for name in named {
            let is_known = name.starts_with("cargo xtask ") || sources.contains(&format!("fn {name}("));
            assert!(is_known, "found no test `{name}`: {row}");
        }
        count += 1;
    }
    assert!(count > 30, "{count} lines");
}
