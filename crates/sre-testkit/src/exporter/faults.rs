use std::net::TcpListener;
use std::time::Duration;

use sre_core::ExportError;
use wiremock::ResponseTemplate;

use super::{Exported, SECRET, Suite, Unreadable, received};

impl Suite {
    /// Returns the errors of all batches against a server that always gives the same response.
    async fn errors(&self, answer: ResponseTemplate) -> Vec<ExportError> {
        let server = self.server(answer).await;
        let exported = self.export(&server.uri(), &self.small()).await;
        exported.into_iter().map(|exported| exported.result.expect_err("an error")).collect()
    }

    pub(super) async fn statuses_map_to_error_kinds(&self) {
        // Some backends repeat invalid values in their message.
        let body = format!("no {SECRET} here");
        let answer = |status| ResponseTemplate::new(status).set_body_string(&body);
        for error in self.errors(answer(429).insert_header("retry-after", "7")).await {
            assert!(error.is_retryable() && error.is_unavailable(), "{error}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{error}");
        }
        for (status, retryable, unavailable) in
            [(500, true, false), (503, true, true), (408, true, false), (400, false, false), (404, false, false)]
        {
            if status == 408 && !self.backend.is_http() {
                continue;
            }
            for error in self.errors(answer(status)).await {
                assert_eq!((error.is_retryable(), error.is_unavailable()), (retryable, unavailable), "{error}");
                assert!(error.to_string().contains(&status.to_string()), "{error}");
            }
        }
        for error in self.errors(answer(413)).await {
            assert!(error.is_too_large() && !error.is_retryable(), "{error}");
        }
        for status in [401, 403] {
            for error in self.errors(answer(status)).await {
                assert!(error.is_unauthorized() && !error.is_retryable(), "{error}");
            }
        }
    }

    pub(super) async fn missing_and_malformed_responses_are_classified(&self) {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        for Exported { result, .. } in self.export(&format!("http://{free}"), &self.small()).await {
            let error = result.expect_err("nothing listens there");
            assert!(error.is_retryable() && error.is_unavailable(), "{error}");
        }
        for error in self.errors(ResponseTemplate::new(200).set_delay(Duration::from_secs(30))).await {
            assert!(error.is_retryable() && error.is_unavailable(), "too slow: {error}");
        }
        for error in self.errors(ResponseTemplate::new(500).set_body_bytes(vec![b'x'; 1 << 20])).await {
            assert!(error.is_retryable(), "too large an answer: {error}");
        }
        if !self.backend.is_http() {
            return;
        }
        // A proxy's login page, in place of a response of the backend, with status 200.
        for error in
            self.errors(ResponseTemplate::new(200).set_body_raw("<html>Log in", "text/html; charset=utf-8")).await
        {
            assert!(error.is_retryable() && error.is_unavailable(), "a page: {error}");
        }
        let html = "<html>\u{0}ok".as_bytes().to_vec();
        for body in [vec![b'x'; 1 << 20], html, b"{\"partialSuccess\":7,\"errors\":{}}".to_vec(), Vec::new()] {
            let server = self.server(Unreadable { backend: self.backend.clone(), body }).await;
            for Exported { len, result, .. } in self.export(&server.uri(), &self.small()).await {
                let report = result.unwrap_or_else(|error| panic!("a success that cannot be read: {error}"));
                assert_eq!(report.accepted + report.ignored, len as u64, "it is a success still: {report:?}");
            }
        }
    }

    pub(super) async fn a_redirect_is_not_followed(&self) {
        if !self.backend.is_http() {
            return;
        }
        let elsewhere = self.server(ResponseTemplate::new(200)).await;
        for status in [301, 307] {
            let to = format!("{}/elsewhere", elsewhere.uri());
            for error in self.errors(ResponseTemplate::new(status).insert_header("location", to)).await {
                assert!(!error.is_retryable(), "{error}");
            }
        }
        assert!(received(&elsewhere).await.is_empty(), "a redirect was followed");
    }
}
