//! Requests that would take much memory.

use std::time::Duration;

use http::StatusCode;

use crate::attacked::{Attacked, MIB};
use crate::bodies::{BODY, Case, PROTOBUF, cases, gzip, open_spans};
use crate::honest::Honest;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_takes_more_than_four_times_its_size() {
    let mut service = Attacked::start("").await;
    let honest = Honest::beside(&service).await;
    // What comes once, such as threads and buffers, is not due to a request.
    for _ in 0..3 {
        service.post("/v1/traces", PROTOBUF, gzip(&[0; BODY])).await;
        service.post("/v1/events/sre", "", gzip(&[b' '; BODY])).await;
    }
    for Case { name, path, kind, body } in cases() {
        let what = format!("{path} {kind} {name}");
        let before = service.reset_peak();
        let status = service.post(path, kind, gzip(&body)).await;
        let grown = service.peak().saturating_sub(before);
        eprintln!("{what}: {} MiB more", grown / MIB);
        assert!(grown <= 4 * body.len() + MIB, "{what}: {} MiB more for {} MiB", grown / MIB, body.len() / MIB);
        assert!(status.is_success() || status.is_client_error(), "{what}: {status}");
    }
    honest.ends_unharmed(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_together_stay_within_max_in_flight() {
    let mut service = Attacked::start("").await;
    let honest = Honest::beside(&service).await;
    let before = service.reset_peak();
    let bodies: Vec<_> = cases().into_iter().map(|case| (case.path, case.kind, gzip(&case.body))).collect();
    for _ in 0..2 {
        let sent = bodies.iter().map(|(path, kind, body)| service.post(path, kind, body.clone()));
        futures_util::future::join_all(sent).await;
    }
    let grown = service.peak().saturating_sub(before);
    eprintln!("all of them at once, twice: {} MiB more", grown / MIB);
    // The process also takes memory for threads, buffers and the journal.
    assert!(grown <= 224 * MIB, "{} MiB more", grown / MIB);
    honest.ends_unharmed(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_names_are_bounded_and_snapshots_go_on() {
    let mut service = Attacked::start("snapshot_after: 1MiB\n").await;
    let honest = Honest::beside(&service).await;
    let before = service.reset_peak();
    for number in 0..34 {
        let name = [b"m".repeat(15 << 20), number.to_string().into_bytes()].concat();
        let start = br#"{"event":"llm_call","time":1790000000,"agent":"attacker","task":"t","success":true,"model":""#;
        let status = service.post("/v1/events/sre", "", gzip(&[&start[..], &name, b"\"}"].concat())).await;
        assert!(
            [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status),
            "{status}"
        );
    }
    let grown = service.peak().saturating_sub(before);
    eprintln!("long names: {} MiB more", grown / MIB);
    assert!(grown <= 192 * MIB, "{} MiB more", grown / MIB);
    service.until_ready().await;
    honest.ends_unharmed(&mut service).await;
    service.restart();
    service.until_ready().await;
    assert!(service.memory() <= before + 192 * MIB, "{} MiB after the restart", service.memory() / MIB);
    let honest = Honest::beside(&service).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    honest.ends_unharmed(&mut service).await;
}

/// The frame of a message that is compressed by gzip.
#[cfg(feature = "grpc")]
fn framed(message: &[u8]) -> Vec<u8> {
    [&[1][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

#[cfg(feature = "grpc")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_grpc_message_takes_more_than_four_times_its_size() {
    let mut service = Attacked::start("").await;
    let honest = Honest::beside(&service).await;
    for _ in 0..3 {
        service.post_grpc("trace", framed(&gzip(&[0; BODY]))).await;
    }
    for Case { name, path, kind, body } in cases() {
        let Some(signal) = path.strip_prefix("/v1/").filter(|_| kind == PROTOBUF) else { continue };
        let signal = if signal == "traces" { "trace" } else { signal };
        let before = service.reset_peak();
        let status = service.post_grpc(signal, framed(&gzip(&body))).await;
        let grown = service.peak().saturating_sub(before);
        eprintln!("{signal} {name}: {} MiB more", grown / MIB);
        assert!(grown <= 4 * body.len() + MIB, "{name}: {} MiB more for {} MiB", grown / MIB, body.len() / MIB);
        assert_eq!(status, StatusCode::OK, "gRPC has a status of its own");
    }
    honest.ends_unharmed(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_requests_stay_within_max_in_flight() {
    let mut service = Attacked::start("").await;
    let honest = Honest::beside(&service).await;
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
        tokio::join!(futures_util::future::join_all(lines), futures_util::future::join_all(spans));
    }
    let grown = service.peak().saturating_sub(before);
    eprintln!("200 small requests at once, twice: {} MiB more", grown / MIB);
    assert!(grown <= 192 * MIB, "{} MiB more", grown / MIB);
    // The reserve for small requests is for all of them: the attacker's may have it.
    honest.ends_counted(&mut service, &[StatusCode::TOO_MANY_REQUESTS]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_that_never_end_are_bounded_and_harm_no_other_agent() {
    let mut service = Attacked::start("").await;
    let honest = Honest::beside(&service).await;
    let started = format!(
        "{{\"event\":\"task_started\",\"time\":{:.3},\"agent\":\"calm\",\"task\":\"t\"}}\n",
        crate::honest::now()
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
    eprintln!("traces that never end: {} MiB more", grown / MIB);
    // Of open runs 128 MiB are counted, which take about twice as much, and once more while they are saved.
    assert!(grown <= 4 * 128 * MIB, "{} MiB more", grown / MIB);
    let ended = started.replace("task_started", "task_finished").replace("}\n", ",\"success\":true}\n");
    assert_eq!(service.post("/v1/events/sre", "", ended).await, StatusCode::OK);
    service.until_tasks("calm", 1, 0).await;
    honest.ends_unharmed(&mut service).await;
}
