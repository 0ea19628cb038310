//! The client against servers on loopback that respond, that do not respond, and that send too much.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, StatusCode};
use sre_core::{HttpClient, HttpError, ResponseLimit};
use sre_http::{Client, Options};
use wiremock::matchers::{body_string, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

fn client() -> Client {
    Client::new(Options { timeout: Duration::from_secs(1), max_response: 1_000, ..Options::default() }).unwrap()
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn a_request_arrives_as_it_is_and_so_does_its_answer() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(404).insert_header("retry-after", "3").set_body_string("nothing here");
    Mock::given(method("POST"))
        .and(path("/a"))
        .and(header("x-key", "v"))
        .and(body_string("hello"))
        .respond_with(answer)
        .mount(&server)
        .await;
    let request = Request::post(format!("{}/a", server.uri())).header("x-key", "v").body(Bytes::from("hello")).unwrap();
    let answer = client().send(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND, "an error status is an answer");
    assert_eq!((&answer.headers()["retry-after"], &answer.body()[..]), (&"3".parse().unwrap(), &b"nothing here"[..]));
    let agent = server.received_requests().await.unwrap()[0].headers["user-agent"].to_str().unwrap().to_owned();
    assert!(agent.starts_with("agent-sre/"), "{agent}");
}

#[tokio::test]
async fn an_answer_without_a_date_gets_that_of_its_arrival() {
    let second = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for (own, is_kept) in [("date: Wed, 21 Oct 2015 07:28:00 GMT\r\n", true), ("", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1_024]);
            stream.write_all(format!("HTTP/1.1 503 Busy\r\n{own}content-length: 0\r\n\r\n").as_bytes()).unwrap();
        });
        let before = second();
        let answer = client().send(get(&format!("http://{address}"))).await.unwrap();
        let date = answer.headers()["date"].to_str().unwrap();
        if is_kept {
            assert_eq!(date, "Wed, 21 Oct 2015 07:28:00 GMT");
        } else {
            let arrived = httpdate::parse_http_date(date).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert!((before..=second()).contains(&arrived.as_secs()), "{date}");
        }
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn redirects_are_answers_too() {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/elsewhere");
    Mock::given(method("GET")).respond_with(answer).mount(&server).await;
    assert_eq!(client().send(get(&server.uri())).await.unwrap().status(), StatusCode::FOUND);
}

#[tokio::test]
async fn answers_are_bounded_in_size_and_time() {
    let server = MockServer::start().await;
    Mock::given(path("/huge"))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(vec![0; 1_001]))
        .mount(&server)
        .await;
    Mock::given(path("/fits"))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(vec![0; 1_000]))
        .mount(&server)
        .await;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(5));
    Mock::given(path("/slow")).respond_with(slow).mount(&server).await;
    let send = |path: &str| {
        let request = get(&format!("{}{path}", server.uri()));
        async move { client().send(request).await }
    };
    assert!(matches!(send("/huge").await, Err(HttpError::TooLarge { status: 200, limit: 1_000, .. })));
    assert_eq!(send("/fits").await.unwrap().body().len(), 1_000);
    let limited = |path: &str, limit| {
        let mut request = get(&format!("{}{path}", server.uri()));
        request.extensions_mut().insert(ResponseLimit(limit));
        async move { client().send(request).await }
    };
    assert!(matches!(limited("/fits", 999).await, Err(HttpError::TooLarge { status: 200, limit: 999, .. })));
    assert!(limited("/huge", usize::MAX).await.unwrap().body().len() > 1_000, "the caller may read more");
    let error = send("/slow").await.unwrap_err();
    assert!(matches!(error, HttpError::TimedOut { seconds, .. } if seconds == 1.0), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn no_error_shows_more_of_a_url_than_its_host() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://user:s3cr3t@{free}/s3cr3t?key=s3cr3t");
    let unreachable = client().send(get(&url)).await.unwrap_err();
    assert!(unreachable.to_string().starts_with(&format!("cannot reach {free}: ")), "{unreachable}");
    // A server that hangs up, and one that does not use HTTP.
    for says in ["", "s3cr3t\r\n\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(says.as_bytes());
        });
        let error = client().send(get(&format!("http://{address}/s3cr3t"))).await.unwrap_err();
        assert!(error.is_retryable() && !format!("{error} {error:?}").contains("s3cr3t"), "{error:?}");
        thread.join().unwrap();
    }
    assert!(!format!("{unreachable:?}").contains("s3cr3t"));
    // A server without TLS.
    let server = MockServer::start().await;
    let tls = client().send(get(&server.uri().replace("http://", "https://"))).await.unwrap_err();
    assert!(matches!(tls, HttpError::Unreachable { .. }), "{tls}");
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_no_reason_to_try_again() {
    for url in ["/only/a/path", "ftp://example.com/"] {
        let error = client().send(get(url)).await.unwrap_err();
        assert!(matches!(error, HttpError::Invalid { .. }) && !error.is_retryable(), "{url}: {error:?}");
    }
}
