use std::collections::HashMap;
use std::mem::discriminant;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric as Message,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, metric, number_data_point,
};
use sre_core::{Exemplar, ExportBatch, Metric, MetricValue, Timestamp};
use sre_otlp::{Attributes, resource, scope, unix_nanos};

/// Returns the request for a batch's metrics: one message per name, with a data point per metric.
pub(crate) fn request(batch: &ExportBatch<'_>) -> ExportMetricsServiceRequest {
    let mut messages: Vec<Message> = Vec::new();
    let mut by_name = HashMap::new();
    for metric in batch.metrics {
        let place = *by_name.entry((&*metric.name, discriminant(&metric.value))).or_insert_with(|| {
            messages.push(message(metric));
            messages.len() - 1
        });
        add_point(&mut messages[place], metric, batch.at);
    }
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource(batch.resource)),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope()), metrics: messages, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

fn message(metric: &Metric<'_>) -> Message {
    let cumulative = AggregationTemporality::Cumulative.into();
    Message {
        name: metric.name.to_string(),
        description: metric.help.to_string(),
        unit: metric.unit.ucum().to_owned(),
        data: match &metric.value {
            MetricValue::Gauge(_) => Some(metric::Data::Gauge(Gauge::default())),
            MetricValue::Counter(_) => {
                let sum = Sum { aggregation_temporality: cumulative, is_monotonic: true, ..Sum::default() };
                Some(metric::Data::Sum(sum))
            }
            MetricValue::Histogram(_) => {
                let histogram = ExponentialHistogram { aggregation_temporality: cumulative, ..Default::default() };
                Some(metric::Data::ExponentialHistogram(histogram))
            }
            _ => None,
        },
        ..Message::default()
    }
}

/// Adds a data point. The start of a sum is unknown, because it may be older than this process.
fn add_point(message: &mut Message, metric: &Metric<'_>, at: Timestamp) {
    let mut attributes = Attributes::default();
    metric.labels.iter().for_each(|(name, value)| attributes.text(name, &**value));
    let (attributes, time_unix_nano) = (attributes.into_inner(), unix_nanos(at));
    let number = |value: f64| NumberDataPoint {
        attributes: attributes.clone(),
        time_unix_nano,
        value: Some(number_data_point::Value::AsDouble(value)),
        exemplars: metric.exemplar.iter().map(|found| exemplar(found)).collect(),
        ..NumberDataPoint::default()
    };
    match (&mut message.data, &metric.value) {
        (Some(metric::Data::Gauge(gauge)), MetricValue::Gauge(value)) => gauge.data_points.push(number(*value)),
        (Some(metric::Data::Sum(sum)), MetricValue::Counter(value)) => sum.data_points.push(number(*value)),
        (Some(metric::Data::ExponentialHistogram(message)), MetricValue::Histogram(histogram)) => {
            message.data_points.push(ExponentialHistogramDataPoint {
                attributes,
                time_unix_nano,
                count: histogram.count,
                sum: Some(histogram.sum),
                scale: histogram.scale,
                zero_count: histogram.zero_count,
                positive: Some(Buckets { offset: histogram.offset, bucket_counts: histogram.buckets.clone() }),
                ..ExponentialHistogramDataPoint::default()
            });
        }
        _ => {}
    }
}

/// An exemplar stands for one event.
fn exemplar(found: &Exemplar) -> v1::Exemplar {
    v1::Exemplar {
        time_unix_nano: unix_nanos(found.time),
        trace_id: found.trace_id.to_bytes().to_vec(),
        span_id: found.span_id.to_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(1.0)),
        ..v1::Exemplar::default()
    }
}

#[cfg(test)]
mod tests {
    use sre_core::{AgentEvent, MetricUnit, Resource};

    use super::*;

    #[test]
    fn metrics_of_one_name_are_one_message_with_a_point_each() {
        let metrics = [
            Metric::gauge("a", 1.0).with_unit(MetricUnit::Ratio).with_label("slo", "x"),
            Metric::counter("b", 2.0),
            Metric::gauge("a", 3.0).with_unit(MetricUnit::Ratio).with_label("slo", "y"),
        ];
        let resource = Resource::new("test");
        let batch = ExportBatch::new(Timestamp::from_secs(1), &resource).with_state(&metrics, &[]);
        let messages = &request(&batch).resource_metrics[0].scope_metrics[0].metrics;
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].name.as_str(), messages[0].unit.as_str()), ("a", "1"));
        let Some(metric::Data::Gauge(gauge)) = &messages[0].data else { panic!("{:?}", messages[0]) };
        assert_eq!(gauge.data_points.len(), 2);
        let Some(metric::Data::Sum(sum)) = &messages[1].data else { panic!("{:?}", messages[1]) };
        assert!(sum.is_monotonic && sum.aggregation_temporality() == AggregationTemporality::Cumulative);
        assert_eq!(sum.data_points[0].time_unix_nano, 1_000_000_000);
    }

    #[test]
    fn an_exemplar_links_to_the_trace_of_an_event() {
        let event = br#"{"event":"task_finished","time":7,"agent":"a","task":"t","success":false}"#;
        let found = Exemplar::of(&AgentEvent::from_json(event).unwrap()).unwrap();
        let metrics = [Metric::gauge("bad", 1.0).with_exemplar(Some(found))];
        let resource = Resource::new("test");
        let batch = ExportBatch::new(Timestamp::from_secs(9), &resource).with_state(&metrics, &[]);
        let messages = request(&batch).resource_metrics.remove(0).scope_metrics.remove(0).metrics;
        let Some(metric::Data::Gauge(gauge)) = &messages[0].data else { panic!("{messages:?}") };
        let exemplar = &gauge.data_points[0].exemplars[0];
        assert_eq!(exemplar.trace_id, found.trace_id.to_bytes());
        assert_eq!((exemplar.span_id.len(), exemplar.time_unix_nano), (8, 7_000_000_000));
    }
}
