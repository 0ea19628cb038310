//! Memory of adapters over many runs. A single test, since heap statistics are per process.

use std::path::Path;

use agent_sre::Format;
use sre_core::RunLimits;
use sre_testkit::recordings::{Replay, folders, in_folder};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

/// Records for each adapter. `cargo xtask verify adapter-memory` reads ten million.
const RECORDS: usize = 1_000;
/// How much more memory may be held at the end than after a fifth of the records, in bytes.
const GROWTH: usize = 4 << 10;

#[test]
fn memory_is_flat_over_many_runs() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    // OpenTelemetry's adapter remembers the last 200,000 spans, so that its memory is flat only later.
    for (folder, format) in folders(&root).into_iter().filter(|(_, format)| *format != "otlp") {
        let recording =
            in_folder(&root.join(&folder)).into_iter().find(|recording| recording.name == "all_ok").unwrap();
        let replay = Replay::new(format, &recording);
        // Few ended runs are remembered, so that their number is reached.
        let limits = RunLimits { max_open_runs: 20, ..RunLimits::default() };
        let mut adapter = format.parse::<Format>().unwrap().adapter(limits);
        let (mut read, mut held, mut events) = (0, None, 0_u64);
        for number in 0.. {
            for record in replay.records(number) {
                adapter.ingest(&record, &mut |_| events += 1).unwrap();
                read += 1;
            }
            let now = dhat::HeapStats::get().curr_bytes;
            if read < RECORDS / 5 {
                continue;
            }
            let before = *held.get_or_insert(now);
            if read >= RECORDS {
                println!("{folder}: {before} bytes after a fifth of {read} records, {now} at the end");
                assert!(now <= before + GROWTH, "{folder}: {before} bytes, then {now}");
                break;
            }
        }
        assert!(events > 0, "{folder}");
        assert_eq!(adapter.stats().unmatched, 0, "{folder}: records of no run");
    }
}
