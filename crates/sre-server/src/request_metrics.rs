use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use agent_sre::private::lock;
use agent_sre::{ExponentialHistogram, Metric, MetricUnit};
use http::{Method, StatusCode};

/// HTTP requests by route template: a client can choose paths and methods, which therefore are no label values.
#[derive(Debug, Default)]
pub(crate) struct RequestMetrics(Mutex<BTreeMap<String, RouteMetrics>>);

#[derive(Debug, Default)]
struct RouteMetrics {
    responses: BTreeMap<(&'static str, u16), u64>,
    seconds: ExponentialHistogram,
}

impl RequestMetrics {
    /// Records a request to a route.
    pub(crate) fn record(&self, route: &str, method: &Method, status: StatusCode, duration: Duration) {
        let mut routes = lock(&self.0);
        if !routes.contains_key(route) {
            routes.insert(route.to_owned(), RouteMetrics::default());
        }
        let Some(metrics) = routes.get_mut(route) else { return };
        *metrics.responses.entry((method_label(method), status.as_u16())).or_default() += 1;
        metrics.seconds.record(duration.as_secs_f64());
    }

    pub(crate) fn emit(&self, emit: &mut dyn FnMut(Metric<'_>)) {
        for (route, metrics) in &*lock(&self.0) {
            for ((method, status), count) in &metrics.responses {
                let status = status.to_string();
                let of = [("method", *method), ("route", route), ("status", &status)];
                let requests = Metric::counter("sre.http.requests", *count as f64).with_labels(&of);
                emit(requests.with_help("HTTP requests, by route template."));
            }
            let seconds = Metric::histogram("sre.http.request_duration", metrics.seconds.clone());
            let seconds = seconds.with_unit(MetricUnit::Seconds).with_labels(&[("route", route)]);
            emit(seconds.with_help("Time from an HTTP request's headers to its response's headers."));
        }
    }
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
