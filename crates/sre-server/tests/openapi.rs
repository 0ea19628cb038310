//! The responses of the API are those that its OpenAPI document describes.

mod common;

use std::time::{Duration, Instant};

use agent_sre::HttpClient;
use agent_sre::http::{Client, Options};
use bytes::Bytes;
use common::{BUSY, ROOT, Service, config, finished, own_slos, tasks};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use sre_server::{Config, Server, ServerLimits, openapi};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn errors_of_schema(api: &Value, schema: &Value, answer: &Value) -> Vec<String> {
    let mut schema = schema.clone();
    schema["components"] = api["components"].clone();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(answer).map(|error| error.to_string()).collect()
}

/// Returns what is wrong with an answer as JSON.
fn api_errors(api: &Value, path: &str, method: &str, status: u16, answer: &Value) -> Vec<String> {
    let response = &api["paths"][path][method]["responses"][status.to_string()];
    let schema = &response["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path} describes no JSON for {status}");
    errors_of_schema(api, schema, answer)
}

/// Checks that a refusal is the one that is described, and has the time to retry.
fn assert_refusal(api: &Value, path: &str, refused: &Response<Bytes>, status: StatusCode) {
    assert_eq!(refused.status(), status, "{path}");
    let answer = serde_json::from_slice(refused.body()).unwrap();
    let errors = api_errors(api, path, "post", status.as_u16(), &answer);
    assert!(errors.is_empty(), "{path}: {errors:?} in {answer}");
    let described = &api["paths"][path]["post"]["responses"][status.as_str()]["headers"]["Retry-After"];
    assert!(described.is_object() && refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().is_ok());
}

/// The paths that take telemetry, as they are described and as they are asked.
const INGEST: [(&str, &str); 4] = [
    ("/v1/events/{format}", "/v1/events/sre"),
    ("/v1/traces", "/v1/traces"),
    ("/v1/logs", "/v1/logs"),
    ("/v1/metrics", "/v1/metrics"),
];

fn document() -> Value {
    serde_json::from_str(openapi()).unwrap()
}

/// Returns an OTLP request with that number of spans.
fn spans(count: usize) -> String {
    let span = |number: usize| {
        json!({
            "traceId": format!("{:032x}", number + 1), "spanId": format!("{:016x}", number + 1), "name": "invoke_agent",
            "startTimeUnixNano": "1790000000000000000", "endTimeUnixNano": "1790000001000000000",
            "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "invoke_agent"}}],
        })
    };
    let spans: Vec<Value> = (0..count).map(span).collect();
    json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string()
}

#[tokio::test]
async fn answers_are_what_the_schemas_say() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(own_slos(folder.path(), BUSY)).await;
    let call = "{\"event\":\"llm_call\",\"time\":1,\"agent\":\"a\",\"task\":\"t\",\"model\":\"own-model\",\"input_tokens\":5}\n";
    // Three tools that fail are a cascade.
    let failed = |tool: &str| {
        let fields = format!("tool_call\",\"tool\":\"{tool}");
        finished("a", 0, false).replace("task_finished", &fields).repeat(6)
    };
    let tools: String = ["search", "mail", "fetch"].into_iter().map(failed).collect();
    service.events(&(tasks("a", 40, 30) + call + &tools)).await;
    service.tasks_from_two_sources("b", 5).await;
    service.until("/v1/agents", |answer| answer["agents"][1]["overlap"].is_object()).await;
    service.until("/v1/breakers", |answer| answer["breakers"].as_array().unwrap().len() >= 3).await;
    service.until("/v1/cascades", |answer| !answer["cascades"].as_array().unwrap().is_empty()).await;
    service.until("/v1/alerts", |alerts| !alerts["alerts"].as_array().unwrap().is_empty()).await;
    let traces = service.until("/v1/traces", |traces| !traces["traces"].as_array().unwrap().is_empty()).await;
    let trace = format!("/v1/traces/{}", traces["traces"][0]["trace_id"].as_str().unwrap());

    let check: Value =
        serde_json::from_str(&std::fs::read_to_string(format!("{ROOT}/docs/schemas/check.schema.json")).unwrap())
            .unwrap();
    let slos = service.get("/v1/slos").await;
    let errors: Vec<String> =
        jsonschema::validator_for(&check).unwrap().iter_errors(&slos).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");

    let api = document();
    let errors_of =
        |path: &str, method: &str, status: u16, answer: &Value| api_errors(&api, path, method, status, answer);
    for (path, asked) in [
        ("/v1/slos", "/v1/slos"),
        ("/v1/slos/{name}", "/v1/slos/answers?agent=a&window=1h"),
        ("/v1/agents", "/v1/agents"),
        ("/v1/alerts", "/v1/alerts?severity=critical&since=1h&limit=5"),
        ("/v1/breakers", "/v1/breakers"),
        ("/v1/cascades", "/v1/cascades"),
        ("/v1/costs", "/v1/costs"),
        ("/v1/traces", "/v1/traces?slo=answers&agent=a&bad=true&limit=5"),
        ("/v1/traces/{id}", &trace),
        ("/readyz", "/readyz"),
        ("/openapi.json", "/openapi.json"),
    ] {
        let answer = service.get(asked).await;
        let errors = errors_of(path, "get", 200, &answer);
        assert!(errors.is_empty(), "{path}: {errors:?}");
        assert!(
            path == "/openapi.json" || !errors_of(path, "get", 200, &json!({})).is_empty(),
            "{path} takes anything"
        );
    }
    let line = finished("a", 50, true);
    for (path, asked, body, status) in [
        ("/v1/gate", "/v1/gate", "{}", 200),
        ("/v1/gate", "/v1/gate", "{\"slos\": [\"nothing\"]}", 404),
        ("/v1/events/{format}", "/v1/events/sre", &line, 200),
        ("/v1/events/{format}", "/v1/events/sre", "nonsense\n", 200),
        ("/v1/events/{format}", "/v1/events/fax", &line, 404),
        ("/v1/traces", "/v1/traces", "{\"resourceSpans\": []}", 200),
        ("/v1/traces", "/v1/traces", "{", 400),
        ("/v1/logs", "/v1/logs", "{\"resourceLogs\": []}", 200),
        ("/v1/logs", "/v1/logs", "{", 400),
        ("/v1/metrics", "/v1/metrics", "{\"resourceMetrics\": []}", 200),
        ("/v1/metrics", "/v1/metrics", "{", 400),
        // A list of the fields of a span, or of an attribute.
        ("/v1/traces", "/v1/traces", "{\"resourceSpans\": [{\"scopeSpans\": [{\"spans\": [[]]}]}]}", 400),
        (
            "/v1/logs",
            "/v1/logs",
            "{\"resourceLogs\": [{\"resource\": {\"attributes\": [[\"service.name\", {}]]}}]}",
            400,
        ),
        // Bytes that protobuf can be read from, too.
        ("/v1/traces", "/v1/traces", "Q12345678", 400),
        ("/v1/metrics", "/v1/metrics", "[null, null]", 400),
        ("/v1/gate", "/v1/gate", "[null, null]", 400),
    ] {
        let response = service.post(asked, "application/json", body.to_owned()).await;
        assert_eq!(response.status().as_u16(), status, "{asked}");
        let errors = errors_of(path, "post", status, &serde_json::from_slice(response.body()).unwrap());
        assert!(errors.is_empty(), "{asked}: {errors:?}");
    }
    let detail = service.get("/v1/slos/answers?agent=a&window=1h").await;
    let events = &detail["slos"][0]["history"]["events"];
    let sum = |field: &str| events[field].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("good"), sum("bad")), (11, 30));
    let costs = service.get("/v1/costs").await;
    assert_eq!(costs["unknown_models"], json!({"own-model": 1}));
    assert_eq!(costs["prices_as_of"], agent_sre::cost::PriceBook::PUBLIC_AS_OF);
    // Every path of the document exists.
    for (path, methods) in api["paths"].as_object().unwrap() {
        let path = path.replace("{name}", "answers").replace("{format}", "sre");
        let response = if methods.get("post").is_some() {
            service.post(&path, "application/json", "").await
        } else if path == "/v1/live" {
            continue;
        } else {
            service.get_raw(&path).await
        };
        assert_ne!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
    for (path, asked) in [
        ("/v1/slos/{name}", "/v1/slos/answers?window=forever"),
        ("/v1/slos/{name}", "/v1/slos/%FF"),
        ("/v1/alerts", "/v1/alerts?limit=many"),
        ("/v1/alerts", "/v1/alerts?limit=1001"),
        ("/v1/alerts", "/v1/alerts?since=0ms"),
        ("/v1/alerts", "/v1/alerts?severity=%FF"),
        ("/v1/traces", "/v1/traces?limit=101"),
        ("/v1/traces/{id}", "/v1/traces/%FF"),
    ] {
        let refused = service.get_raw(asked).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{asked}");
        let errors = errors_of(path, "get", 400, &serde_json::from_slice(refused.body()).unwrap());
        assert!(errors.is_empty(), "{asked}: {errors:?}");
    }
    // Long windows are read in more forms than are described.
    for (window, described, read) in [
        ("1ms", true, true),
        ("90m", true, true),
        ("1h30m", true, true),
        ("999w999w999w", true, true),
        ("36500d", false, true),
        ("36501d", false, false),
        ("0ms", false, false),
        ("0h0m", false, false),
        ("5", false, false),
    ] {
        let parameters = api["paths"]["/v1/alerts"]["get"]["parameters"].as_array().unwrap();
        let since = parameters.iter().find(|parameter| parameter["name"] == "since").unwrap();
        let errors = errors_of_schema(&api, &since["schema"], &json!(window));
        let answered = service.get_raw(&format!("/v1/alerts?since={window}")).await;
        assert_eq!((errors.is_empty(), answered.status().is_success()), (described, read), "{window}");
    }
    assert_eq!(service.get_raw("/v1/slos/nothing").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn live_updates_are_what_the_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(own_slos(folder.path(), BUSY)).await;
    service.events(&tasks("a", 40, 30)).await;
    let api = document();
    let described = &api["paths"]["/v1/live"]["get"]["responses"]["200"]["content"];
    let mut stream = tokio::net::TcpStream::connect(service.server.address()).await.unwrap();
    stream.write_all(b"GET /v1/live HTTP/1.0\r\nHost: localhost\r\n\r\n").await.unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    let (head, update) = loop {
        let length = stream.read(&mut part).await.unwrap();
        assert!(length > 0, "the stream ends after {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if let Some((event, _)) = body.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            break (head.to_owned(), data.unwrap().to_owned());
        }
    };
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
    assert!(head.starts_with("HTTP/1.0 200") && described[kind].is_object(), "{head}");
    let update: Value = serde_json::from_str(&update).unwrap();
    let schema = json!({"$ref": "#/components/schemas/LiveUpdate"});
    let errors = errors_of_schema(&api, &schema, &update);
    assert!(errors.is_empty() && !errors_of_schema(&api, &schema, &json!({})).is_empty(), "{errors:?}");
    assert_eq!((&update["whole"], &update["parts"]["slo answers a"]["bad"]), (&json!(true), &json!(30)));
}

#[tokio::test]
async fn refusals_under_load_are_what_the_schemas_say() {
    let api = document();
    let folder = tempfile::tempdir().unwrap();
    let server_limits = ServerLimits { max_in_flight: 64 << 10, ..ServerLimits::default() };
    let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
    for (path, asked) in INGEST {
        // More than all bodies together may take.
        let refused = service.post(asked, "application/json", " ".repeat(100 << 10)).await;
        assert_refusal(&api, path, &refused, StatusCode::TOO_MANY_REQUESTS);
    }
    let folder = tempfile::tempdir().unwrap();
    let server_limits = ServerLimits { max_journal: 1 << 20, ..ServerLimits::default() };
    let service = Service::start(Config { server_limits, ..config(folder.path()) }).await;
    // Larger than the whole journal.
    for ((path, asked), body) in INGEST.into_iter().zip([" ".repeat(2 << 20), spans(20_000)]) {
        let refused = service.post(asked, "application/json", body).await;
        assert_refusal(&api, path, &refused, StatusCode::SERVICE_UNAVAILABLE);
    }
    let ready = service.get_raw("/readyz").await;
    let errors = api_errors(&api, "/readyz", "get", 503, &serde_json::from_slice(ready.body()).unwrap());
    assert!(ready.status() == StatusCode::SERVICE_UNAVAILABLE && errors.is_empty(), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_during_the_start_are_what_the_schemas_say() {
    let folder = tempfile::tempdir().unwrap();
    let api = document();
    let first = Service::start(config(folder.path())).await;
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let waiting = tokio::spawn(Server::start(Config { listen, ..config(folder.path()) }));
    let client = Client::new(Options::default()).unwrap();
    let post = async |path: &str| {
        let request = Request::post(format!("http://{listen}{path}")).header("content-type", "application/json");
        client.send(request.body(Bytes::from("{}")).unwrap()).await
    };
    let begun = Instant::now();
    while post("/v1/traces").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never listens");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (path, asked) in INGEST {
        assert_refusal(&api, path, &post(asked).await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
    }
    first.server.stop().await;
    waiting.await.unwrap().unwrap().stop().await;
}
