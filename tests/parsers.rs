//! No parser panics on arbitrary bytes or damaged records.

use std::path::Path;

use agent_sre::Format;
use proptest::prelude::*;
use sre_core::adapter::{Adapter, Body, BodyKind, IngestLimits, RunLimits};
use sre_testkit::recordings::folders;

fn adapters() -> impl Iterator<Item = Box<dyn Adapter>> {
    Format::all().map(|format| format.adapter(RunLimits::default()))
}

/// Returns some lines and bodies of each recorded format.
fn records() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let mut records = vec![
        br#"{"event":"task_finished","time":1790000000,"agent":"a","task":"t","success":true,"cost_usd":"0.1"}"#
            .to_vec(),
        read("otlp-semantic-kernel/task_failure.0.bin"),
        read("otlp-semantic-kernel/task_failure.jsonl"),
    ];
    for (name, _) in folders(&folder).into_iter().filter(|(name, _)| !name.starts_with("otlp-")) {
        let lines = read(&format!("{name}/task_failure.jsonl"));
        records.extend(lines.split(|byte| *byte == b'\n').step_by(7).map(<[u8]>::to_vec));
    }
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
