//! Reads multipart requests as LangSmith does.

use std::collections::BTreeMap;

use serde_json::Value;
use sre_testkit::otlp;
use wiremock::Request;

/// Returns the parts of a request by name, in order.
pub(crate) fn parts(request: &Request) -> Vec<(String, Value)> {
    let content_type = request.headers["content-type"].to_str().unwrap();
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").expect("multipart");
    let body = String::from_utf8(otlp::body(request)).unwrap();
    let mut rest = body.strip_prefix(&format!("--{boundary}\r\n")).expect("a first part");
    let mut parts = Vec::new();
    loop {
        let (headers, content) = rest.split_once("\r\n\r\n").expect("headers");
        let mut by_name = BTreeMap::new();
        for header in headers.split("\r\n") {
            let (name, value) = header.split_once(": ").unwrap();
            by_name.insert(name.to_ascii_lowercase(), value);
        }
        assert_eq!(by_name["content-type"], "application/json");
        let name = by_name["content-disposition"].strip_prefix("form-data; name=\"").unwrap().trim_end_matches('"');
        let length: usize = by_name["content-length"].parse().unwrap();
        parts.push((name.to_owned(), serde_json::from_str(&content[..length]).unwrap()));
        let delimiter = format!("\r\n--{boundary}");
        match content[length..].strip_prefix(&delimiter).expect("the length is right") {
            "--\r\n" => return parts,
            next => rest = next.strip_prefix("\r\n").unwrap(),
        }
    }
}

/// Returns runs and feedback of a request, each with its operation; the parts of a run are its fields.
pub(crate) fn records(request: &Request) -> Vec<(String, Value)> {
    let mut records: Vec<(String, Value)> = Vec::new();
    for (name, content) in parts(request) {
        let (operation, rest) = name.split_once('.').unwrap();
        match rest.split_once('.') {
            None => {
                assert_eq!(content["id"], rest, "the part's name is the id");
                records.push((operation.to_owned(), content));
            }
            Some((id, field)) => {
                let (_, run) = records.last_mut().expect("the run comes first");
                assert_eq!(run["id"], id);
                run[field] = content;
            }
        }
    }
    records
}
