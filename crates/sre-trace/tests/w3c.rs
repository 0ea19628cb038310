//! Runs the test suite of the W3C's working group (`w3c/`, unchanged) against the example service.

#[path = "../examples/trace_service.rs"]
#[allow(dead_code, unreachable_pub)]
mod trace_service;

use std::net::TcpListener;
use std::path::Path;

use sre_testkit::outside;

const SUITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/w3c/test");
const TESTS: usize = 41;

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_the_working_group_passes() {
    let Some(mut python) = outside::python_with("aiohttp", "the W3C test suite") else { return };
    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/test", service.local_addr().unwrap());
    tokio::spawn(trace_service::serve(service));
    let harness = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    python.args(["-B", "test.py", &url]).current_dir(Path::new(SUITE)).envs([
        ("SPEC_LEVEL", "2"),
        ("STRICT_LEVEL", "2"),
        ("HARNESS_PORT", &harness.to_string()),
    ]);
    let output = tokio::task::spawn_blocking(move || python.output().unwrap()).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains(&format!("Ran {TESTS} tests")) && printed.trim_end().ends_with("OK"), "{printed}");
}
