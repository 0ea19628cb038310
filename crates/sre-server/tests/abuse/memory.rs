//! Requests that would take much memory.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;

use crate::attacked::{Attacked, MIB, assert_grown};
use crate::bodies::{BODY, Case, PROTOBUF, cases, gzip, open_spans};
use crate::normal_client::NormalClient;

/// The sizes of which every kind of body is tried. Bodies of more than 1 MiB are kept in another way than smaller ones.
const SIZES: [usize; 4] = [1 << 10, 64 << 10, MIB, 2 * MIB];
/// How often a body is sent that made the process grow by more: what grows once, such as a cache, is not due to the body.
const ATTEMPTS: usize = 3;

/// The largest growth for each size of a body, and the body.
#[derive(Default)]
struct Growth(BTreeMap<usize, (usize, String)>);

impl Growth {
    /// Sends a body, and notes by how much the process grows.
    async fn measure(
        &mut self,
        service: &mut Attacked,
        case: &Case,
        size: usize,
        send: impl AsyncFn(&Attacked, &[u8]),
    ) {
        let body = case.body(size);
        let compressed = gzip(&body);
        let mut grown = usize::MAX;
        for _ in 0..ATTEMPTS {
            let before = service.reset_peak();
            send(service, &compressed).await;
            grown = grown.min(service.peak().saturating_sub(before));
            if grown <= bound(body.len()) {
                break;
            }
        }
        let Case { name, path, kind, .. } = case;
        assert_grown(&format!("{name}, {} KiB to {path} {kind}", size >> 10), grown, bound(body.len()));
        let most = self.0.entry(size).or_default();
        if grown >= most.0 {
            *most = (grown, format!("{path} {kind} {name}"));
        }
    }

    fn print(&self, over: &str) {
        for (size, (grown, what)) in &self.0 {
            assert_grown(
                &format!("any of {} KiB over {over} (most: {what})", size >> 10),
                *grown,
                bound(*size + 1_000),
            );
        }
    }
}

/// Returns how much a request of a size may take, in bytes.
fn bound(size: usize) -> usize {
    4 * size + MIB
}

/// Returns the kinds of bodies with their sizes.
fn sized_cases() -> impl Iterator<Item = (Rc<Case>, usize)> {
    let sizes = |case: &Case| SIZES.into_iter().chain(case.is_large().then_some(BODY)).collect::<Vec<_>>();
    cases().into_iter().map(move |case| (sizes(&case), case)).flat_map(|(sizes, case)| {
        let case = Rc::new(case);
        sizes.into_iter().map(move |size| (case.clone(), size))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_takes_more_than_four_times_its_size() {
    let mut service = Attacked::start("").await;
    let client = NormalClient::start_beside(&service).await;
    // What comes once, such as threads and buffers, is not due to a request.
    for _ in 0..3 {
        service.post("/v1/traces", PROTOBUF, gzip(&[0; BODY])).await;
        service.post("/v1/events/sre", "", gzip(&[b' '; BODY])).await;
    }
    let mut growth = Growth::default();
    for (case, size) in sized_cases() {
        let Case { name, path, kind, .. } = &*case;
        let send = async |service: &Attacked, body: &[u8]| {
            let status = service.post(path, kind, body.to_vec()).await;
            assert!(status.is_success() || status.is_client_error(), "{path} {kind} {name}: {status}");
        };
        growth.measure(&mut service, &case, size, send).await;
    }
    growth.print("HTTP");
    client.finishes_within_bounds(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_together_stay_within_max_in_flight() {
    let mut service = Attacked::start("").await;
    let client = NormalClient::start_beside(&service).await.with_max_delay(Duration::from_millis(500));
    let before = service.reset_peak();
    let bodies = |size: usize, is_large: bool| -> Vec<_> {
        let cases = cases().into_iter().filter(|case| case.is_large() == is_large);
        cases.map(|case| (case.path, case.kind, gzip(&case.body(size)))).collect()
    };
    let (large, small) = (bodies(BODY, true), bodies(2 * MIB, false));
    let what = format!("{} requests of 16 MiB at once, and then {} of 2 MiB", 4 * large.len(), 2 * small.len());
    for (bodies, times) in [(large, 4), (small, 2)] {
        let all = std::iter::repeat_n(&bodies, times).flatten();
        let sent = all.map(|(path, kind, body)| service.post(path, kind, body.clone()));
        join_all(sent).await;
    }
    let grown = service.peak().saturating_sub(before);
    assert_grown(&what, grown, 192 * MIB);
    client.finishes_within_bounds(&mut service).await;
}

/// Returns whether a request was taken in, or refused for what is in it.
fn is_read(status: StatusCode) -> bool {
    status.is_success() || [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE].contains(&status)
}

/// With the least memory, two requests of the largest size pass, whatever is in them, and further ones at the same time are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_max_in_flight_is_enough_for_two_requests() {
    let mut service = Attacked::start("max_in_flight: 130MiB\n").await;
    // Those that take most.
    let large = cases().into_iter().filter(|case| ["small spans", "attributes that are nulls"].contains(&case.name));
    let large: Vec<_> = large.map(|case| (gzip(&case.body(BODY)), case)).collect();
    // What comes once, such as threads, the journal's buffers and what is kept of the records, is not due to a request.
    for (body, case) in &large {
        service.post(case.path, case.kind, body.clone()).await;
    }
    let before = service.reset_peak();
    let send = |(body, case): &(Vec<u8>, Case)| service.post(case.path, case.kind, body.clone());
    for request in &large {
        let (first, second) = tokio::join!(send(request), send(request));
        assert!(is_read(first) && is_read(second), "{} {}: {first}, {second}", request.1.path, request.1.name);
    }
    let client = NormalClient::start_beside(&service).await.with_max_delay(Duration::from_millis(500));
    let statuses = join_all(large.iter().cycle().take(8).map(send)).await;
    let refused = statuses.iter().filter(|status| **status == StatusCode::TOO_MANY_REQUESTS).count();
    assert!((1..statuses.len()).contains(&refused), "{statuses:?}");
    let grown = service.peak().saturating_sub(before);
    // The least leaves nothing for threads, buffers and the journal, which the default includes.
    assert_grown("such requests with the least `max_in_flight`", grown, 192 * MIB);
    client.finishes_with_refusals(&mut service, &[StatusCode::TOO_MANY_REQUESTS]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_names_are_bounded_and_snapshots_go_on() {
    let mut service = Attacked::start("snapshot_after: 1MiB\n").await;
    let client = NormalClient::start_beside(&service).await.with_max_delay(Duration::from_secs(1));
    let before = service.reset_peak();
    let start = br#"{"event":"llm_call","time":1790000000,"agent":"attacker","task":"t","success":true,"model":""#;
    let start = gzip(&[&start[..], &b"m".repeat(15 << 20)].concat());
    for number in 0..12 {
        let body = [start.clone(), gzip(format!("{number}\"}}").as_bytes())].concat();
        let status = service.post("/v1/events/sre", "", body).await;
        assert!(
            [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status),
            "{status}"
        );
    }
    let grown = service.peak().saturating_sub(before);
    assert_grown("12 events whose models have names of 15 MiB", grown, 192 * MIB);
    service.until_ready().await;
    client.finishes_within_bounds(&mut service).await;
    service.restart();
    service.until_ready().await;
    assert!(service.memory() <= before + 192 * MIB, "{} MiB after the restart", service.memory() / MIB);
    let client = NormalClient::start_beside(&service).await.with_max_delay(Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.finishes_within_bounds(&mut service).await;
}

/// Returns the frame of a message that is compressed by gzip.
fn framed(message: &[u8]) -> Vec<u8> {
    [&[1][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_grpc_message_takes_more_than_four_times_its_size() {
    let mut service = Attacked::start("").await;
    let client = NormalClient::start_beside(&service).await;
    for _ in 0..3 {
        service.target.export("trace", framed(&gzip(&[0; BODY]))).await;
    }
    let mut growth = Growth::default();
    for (case, size) in sized_cases().filter(|(case, _)| case.kind == PROTOBUF) {
        let signal = case.path.trim_start_matches("/v1/");
        let signal = if signal == "traces" { "trace" } else { signal };
        let send = async |service: &Attacked, body: &[u8]| {
            let status = service.target.export(signal, framed(body)).await;
            // What HTTP answers with 200, 400 and 413.
            let expected = [tonic::Code::Ok, tonic::Code::InvalidArgument, tonic::Code::OutOfRange];
            assert!(expected.contains(&status), "{signal} {}: {status:?}", case.name);
        };
        growth.measure(&mut service, &case, size, send).await;
    }
    growth.print("gRPC");
    client.finishes_within_bounds(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_requests_stay_within_max_in_flight() {
    let mut service = Attacked::start("").await;
    // Each of its requests waits for up to 200 others.
    let client = NormalClient::start_beside(&service).await.with_max_delay(Duration::from_secs(5));
    let before = service.reset_peak();
    // A quarter of a MiB each, of which the decoded form is larger.
    let small = gzip(
        &[b"{\"event\":\"heartbeat\",\"time\":1790000000,\"agent\":\"a\"}\n".repeat(10), vec![b' '; 256 << 10]]
            .concat(),
    );
    let empty = gzip(&[0x12, 0].repeat(128 << 10));
    for _ in 0..2 {
        let lines = (0..100).map(|_| service.post("/v1/events/sre", "", small.clone()));
        let spans = (0..100).map(|_| service.post("/v1/traces", PROTOBUF, empty.clone()));
        tokio::join!(join_all(lines), join_all(spans));
    }
    let grown = service.peak().saturating_sub(before);
    assert_grown("200 small requests at once, of 256 KiB each", grown, 192 * MIB);
    // The reserve for small requests is for all of them: the attacker's may have it.
    client.finishes_with_refusals(&mut service, &[StatusCode::TOO_MANY_REQUESTS]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_that_never_end_are_bounded_and_harm_no_other_agent() {
    let mut service = Attacked::start("").await;
    let client = NormalClient::start_beside(&service).await.with_max_delay(Duration::from_secs(1));
    let started = format!(
        "{{\"event\":\"task_started\",\"time\":{:.3},\"agent\":\"calm\",\"task\":\"t\"}}\n",
        crate::normal_client::now()
    );
    assert_eq!(service.post("/v1/events/sre", "", started.clone()).await, StatusCode::OK);
    let before = service.reset_peak();
    for number in 0..12 {
        let status = service.post("/v1/traces", PROTOBUF, gzip(&open_spans(number))).await;
        assert!([StatusCode::OK, StatusCode::TOO_MANY_REQUESTS].contains(&status), "{status}");
    }
    // More open tasks of another agent than may be open.
    let flood = |number: usize| started.replace("calm", "flood").replace("\"t\"", &format!("\"{number}\""));
    let flood: String = (0..12_000).map(flood).collect();
    assert_eq!(service.post("/v1/events/sre", "", flood).await, StatusCode::OK);
    let grown = service.peak().saturating_sub(before);
    // Of open runs 128 MiB are counted, which take about twice as much, and once more while they are saved.
    assert_grown("192 MiB of spans whose traces never end", grown, 4 * 128 * MIB);
    let ended = started.replace("task_started", "task_finished").replace("}\n", ",\"success\":true}\n");
    assert_eq!(service.post("/v1/events/sre", "", ended).await, StatusCode::OK);
    service.until_tasks("calm", 1, 0).await;
    client.finishes_within_bounds(&mut service).await;
}
