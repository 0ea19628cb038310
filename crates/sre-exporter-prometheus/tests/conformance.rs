//! The suite of exporters that are scraped.

use sre_exporter_prometheus::{PrometheusExporter, Rendering, Scraper, TextFormat};
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
    let mut scraper = Scraper::default();
    conformance::pull_exporter(&mut |source, now| {
        let (scrape, _) = scraper.scrape(source, now);
        let render = |format| {
            let mut rendering = Rendering::new(format);
            std::iter::from_fn(|| rendering.next_chunk(&scrape)).collect()
        };
        [TextFormat::Prometheus, TextFormat::OpenMetrics].map(render).to_vec()
    });
}
