//! No parser panics on arbitrary bytes or damaged records.

use std::path::Path;

use proptest::prelude::*;
use sre_adapter_langgraph::LangGraphAdapter;
use sre_adapter_openai_agents::OpenAiAgentsAdapter;
use sre_adapter_otel::OtelAdapter;
use sre_core::adapter::{Adapter, Body, BodyKind, IngestLimits, NativeAdapter, RunLimits};

fn adapters() -> [Box<dyn Adapter>; 4] {
    [
        Box::new(NativeAdapter::new(RunLimits::default())),
        Box::new(LangGraphAdapter::default()),
        Box::new(OpenAiAgentsAdapter::default()),
        Box::new(OtelAdapter::default()),
    ]
}

/// Returns some lines and bodies of each recorded format.
fn records() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let mut records = vec![
        br#"{"event":"task_finished","time":1790000000,"agent":"a","task":"t","success":true,"cost_usd":"0.1"}"#
            .to_vec(),
        read("otlp-semantic-kernel/task_failure.0.bin"),
    ];
    for name in ["langgraph/task_failure.jsonl", "openai-agents/handoff_and_guardrail.jsonl"] {
        records.extend(read(name).split(|byte| *byte == b'\n').step_by(7).map(<[u8]>::to_vec));
    }
    records.push(read("otlp-semantic-kernel/task_failure.jsonl"));
    records
}

fn feed(records: &[Vec<u8>]) {
    for mut adapter in adapters() {
        for record in records {
            let _ = adapter.ingest(record, &mut |_| {});
        }
        adapter.finish(&mut |_| {});
    }
    for mut adapter in adapters() {
        for kind in [BodyKind::Lines, BodyKind::Traces, BodyKind::Logs] {
            for record in records {
                let body = Body::new(kind, record.clone());
                let _ = adapter.ingest_body(body, &IngestLimits::default(), &mut |_| {});
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        feed(&[bytes]);
    }

    #[test]
    fn damaged_records(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut records = records();
        for (record, at, byte) in damage {
            let index = record.index(records.len());
            let record = &mut records[index];
            if !record.is_empty() {
                let at = at.index(record.len());
                record[at] = byte;
            }
        }
        let last = records.len() - 1;
        let length = cut.index(records[last].len());
        records[last].truncate(length);
        feed(&records);
    }

    #[test]
    fn swapped_numbers_and_texts(value in prop::sample::select(vec!["null", "-1", "1e308", "\"x\"", "[]", "{}", "true", "18446744073709551615", "\"-5\""]), nth in 0usize..40) {
        let records: Vec<Vec<u8>> = records()
            .into_iter()
            .filter_map(|record| String::from_utf8(record).ok())
            .map(|text| {
                let Some((at, _)) = text.match_indices("\":").nth(nth) else { return text.into_bytes() };
                let rest = &text[at + 2..];
                let end = rest.find([',', '}']).unwrap_or(rest.len());
                format!("{}\":{value}{}", &text[..at], &rest[end..]).into_bytes()
            })
            .collect();
        feed(&records);
    }
}
