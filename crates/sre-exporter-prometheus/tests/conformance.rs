//! The suite of exporters that are scraped.

use sre_exporter_prometheus::{PrometheusExporter, Scrape, TextFormat};
use sre_testkit::conformance;

/// The suite collects a series twice, which is an error; what is served counts here.
#[test]
fn the_exporter_conforms() {
    let mut exporter = PrometheusExporter::new();
    conformance::pull_exporter(&mut |source, now| {
        let _ = exporter.collect(source, now);
        vec![exporter.render(), exporter.render_openmetrics()]
    });
}

#[test]
fn a_scrape_conforms() {
    conformance::pull_exporter(&mut |source, now| {
        let render = |format| {
            let mut scrape = Scrape::new(format);
            let _ = scrape.collect(source, now);
            scrape.into_chunks().collect()
        };
        [TextFormat::Prometheus, TextFormat::OpenMetrics].map(render).to_vec()
    });
}
