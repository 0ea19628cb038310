use std::mem::discriminant;

use sre_core::{Exemplar, ExportBatch, Metric, MetricValue};
use sre_otlp::{Encoder, unix_nanos};

/// The size that most data points stay below, in bytes.
const TYPICAL_POINT: usize = 256;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// Encodes the metrics of a batch: one message per name, with a data point per metric.
///
/// Source: `opentelemetry/proto/metrics/v1/metrics.proto`.
pub(crate) fn encode(batch: &ExportBatch<'_>) -> Encoder {
    let mut metrics: Vec<&Metric<'_>> = batch.metrics.iter().collect();
    metrics.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| kind(a).cmp(&kind(b))));
    let mut encoder = Encoder::with_capacity(metrics.len() * TYPICAL_POINT);
    let is_same =
        |a: &&Metric<'_>, b: &&Metric<'_>| a.name == b.name && discriminant(&a.value) == discriminant(&b.value);
    for of_name in metrics.chunk_by(is_same) {
        encoder.message(2, |message| write_message(message, of_name, unix_nanos(batch.at)));
    }
    encoder
}

/// Returns the field of a message that has the data points of such metrics; `None` for unknown kinds of metrics.
const fn kind(metric: &Metric<'_>) -> Option<u8> {
    match metric.value {
        MetricValue::Gauge(_) => Some(5),
        MetricValue::Counter(_) => Some(7),
        MetricValue::Histogram(_) => Some(10),
        _ => None,
    }
}

/// Writes metrics of the same name and kind.
fn write_message(message: &mut Encoder, metrics: &[&Metric<'_>], time: u64) {
    let first = metrics[0];
    message.text(1, &[&first.name]);
    message.text(2, &[&first.help]);
    message.text(3, &[first.unit.ucum()]);
    let Some(kind) = kind(first) else { return };
    message.message(kind, |data| {
        metrics.iter().for_each(|metric| data.message(1, |point| write_point(point, metric, time)));
        if !matches!(first.value, MetricValue::Gauge(_)) {
            data.uint(2, CUMULATIVE);
        }
        if matches!(first.value, MetricValue::Counter(_)) {
            // The sum is monotonic.
            data.uint(3, 1);
        }
    });
}

/// Writes a data point. The start of a sum is unknown, because it may be older than this process.
fn write_point(point: &mut Encoder, metric: &Metric<'_>, time: u64) {
    let is_histogram = matches!(metric.value, MetricValue::Histogram(_));
    let mut attributes = point.attributes(if is_histogram { 1 } else { 7 });
    metric.labels.iter().for_each(|(name, value)| attributes.text(name, &**value));
    point.fixed(3, time);
    match &metric.value {
        MetricValue::Gauge(value) | MetricValue::Counter(value) => {
            point.double(4, *value);
            metric.exemplar.iter().for_each(|exemplar| point.message(5, |message| write_exemplar(message, exemplar)));
        }
        MetricValue::Histogram(histogram) => {
            point.fixed(4, histogram.count);
            point.double(5, histogram.sum);
            point.sint(6, histogram.scale);
            point.fixed(7, histogram.zero_count);
            point.message(8, |buckets| {
                buckets.sint(1, histogram.offset);
                buckets.uints(2, &histogram.buckets);
            });
        }
        _ => {}
    }
}

/// Writes an exemplar, which stands for one event.
fn write_exemplar(message: &mut Encoder, exemplar: &Exemplar) {
    message.fixed(2, unix_nanos(exemplar.time));
    message.double(3, 1.0);
    message.bytes(4, &exemplar.span_id.to_bytes());
    message.bytes(5, &exemplar.trace_id.to_bytes());
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::{
        AggregationTemporality, Metric as Message, metric, number_data_point,
    };
    use prost::Message as _;
    use sre_core::{AgentEvent, ExponentialHistogram, MetricUnit, Resource, Timestamp};
    use sre_otlp::OtlpRequest;

    use super::*;

    fn decoded(metrics: &[Metric<'static>], at: i64) -> Vec<Message> {
        let resource = Resource::new("test");
        let batch = ExportBatch::new(Timestamp::from_secs(at), &resource).with_state(metrics, &[]);
        let bytes = OtlpRequest::new(&resource, encode(&batch).as_bytes()).parts().concat();
        let mut request = ExportMetricsServiceRequest::decode(&*bytes).unwrap();
        request.resource_metrics.remove(0).scope_metrics.remove(0).metrics
    }

    #[test]
    fn metrics_of_one_name_are_one_message_with_a_point_each() {
        let metrics = [
            Metric::gauge("a", 1.0).with_unit(MetricUnit::Ratio).with_label("slo", "x"),
            Metric::counter("b", 2.0).with_help("All of b."),
            Metric::gauge("a", 3.0).with_unit(MetricUnit::Ratio).with_label("slo", "y"),
        ];
        let messages = decoded(&metrics, 1);
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].name.as_str(), messages[0].unit.as_str()), ("a", "1"));
        let Some(metric::Data::Gauge(gauge)) = &messages[0].data else { panic!("{:?}", messages[0]) };
        let values: Vec<_> = gauge.data_points.iter().map(|point| point.value.unwrap()).collect();
        assert_eq!(values, [1.0, 3.0].map(number_data_point::Value::AsDouble), "in their order");
        assert_eq!(gauge.data_points[1].attributes[0].key, "slo");
        let Some(metric::Data::Sum(sum)) = &messages[1].data else { panic!("{:?}", messages[1]) };
        assert!(sum.is_monotonic && sum.aggregation_temporality() == AggregationTemporality::Cumulative);
        assert_eq!((sum.data_points[0].time_unix_nano, messages[1].description.as_str()), (1_000_000_000, "All of b."));
    }

    #[test]
    fn a_histogram_keeps_its_buckets() {
        let mut histogram = ExponentialHistogram::new(3);
        [0.0, 0.25, 1.0, 1.0, 300.0].into_iter().for_each(|value| histogram.record(value));
        let messages = decoded(&[Metric::histogram("h", histogram.clone()).with_label("agent", "a")], 1);
        let Some(metric::Data::ExponentialHistogram(found)) = &messages[0].data else { panic!("{messages:?}") };
        assert_eq!(found.aggregation_temporality(), AggregationTemporality::Cumulative);
        let point = &found.data_points[0];
        assert_eq!((point.attributes.len(), point.time_unix_nano), (1, 1_000_000_000));
        assert_eq!((point.count, point.sum, point.scale, point.zero_count), (5, Some(302.25), 3, 1));
        let buckets = point.positive.as_ref().unwrap();
        assert_eq!((buckets.offset, &buckets.bucket_counts), (histogram.offset, &histogram.buckets));
    }

    #[test]
    fn an_exemplar_links_to_the_trace_of_an_event() {
        let event = br#"{"event":"task_finished","time":7,"agent":"a","task":"t","success":false}"#;
        let found = Exemplar::of(&AgentEvent::from_json(event).unwrap()).unwrap();
        let messages = decoded(&[Metric::gauge("bad", 1.0).with_exemplar(Some(found))], 9);
        let Some(metric::Data::Gauge(gauge)) = &messages[0].data else { panic!("{messages:?}") };
        let exemplar = &gauge.data_points[0].exemplars[0];
        assert_eq!(exemplar.trace_id, found.trace_id.to_bytes());
        assert_eq!((exemplar.span_id.len(), exemplar.time_unix_nano), (8, 7_000_000_000));
    }
}
