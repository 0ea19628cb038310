use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use sre_core::{HttpClient, HttpError};

/// An HTTP client between an exporter and a real server. Of the requests to each address, the first is answered 500 and never
/// reaches the server, the second reaches it but is answered 503, and the response to the third is lost. Later ones pass.
pub(crate) struct FaultyClient {
    http: Arc<dyn HttpClient>,
    /// The number of requests by method and URL.
    requests: Mutex<HashMap<String, u32>>,
}

impl FaultyClient {
    pub(crate) fn new(http: Arc<dyn HttpClient>) -> Self {
        Self { http, requests: Mutex::default() }
    }

    /// Lets the next requests to each address fail again.
    pub(crate) fn fail_again(&self) {
        self.requests.lock().unwrap().clear();
    }

    /// Counts a request, and returns which one to its address it is.
    fn count(&self, request: &Request<Bytes>) -> u32 {
        let address = format!("{} {}", request.method(), request.uri());
        let mut requests = self.requests.lock().unwrap();
        let count = requests.entry(address).or_default();
        *count += 1;
        *count
    }
}

#[async_trait]
impl HttpClient for FaultyClient {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = |status: u16| Ok(Response::builder().status(status).body(Bytes::new()).unwrap());
        let count = self.count(&request);
        if count == 1 {
            return answer(500);
        }
        let response = self.http.send(request).await;
        match count {
            2 => answer(503),
            3 => Err(HttpError::TimedOut { host: "server".to_owned(), seconds: 60.0 }),
            _ => response,
        }
    }
}
