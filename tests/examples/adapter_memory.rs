//! Plays a recording again and again, each time an hour later and with other ids: `cargo xtask verify adapter-memory`. The first
//! argument is a folder of recordings, the second the number of records. Prints the peak memory of the process, in KiB, after a fifth
//! of the records and at the end.

use std::path::Path;

use agent_sre::Format;
use sre_core::RunLimits;
use sre_testkit::recordings::{Replay, folders, in_folder};

/// As in the `sre` command.
#[global_allocator]
static HEAP: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("a folder of recordings and a number of records");
    let (folder, records) = (next(), next().parse::<usize>().expect("a number of records"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let (_, format) = folders(&root).into_iter().find(|(name, _)| *name == folder).expect("a folder of recordings");
    let recordings = in_folder(&root.join(&folder));
    let recording = recordings.iter().find(|recording| recording.name == "all_ok").expect("a recording");
    let replay = Replay::new(format, recording);
    let mut adapter = format.parse::<Format>().expect("a format of this build").adapter(RunLimits::default());
    let (mut read, mut events, mut after_a_fifth) = (0, 0_u64, None);
    for number in 0.. {
        for record in replay.records(number) {
            adapter.ingest(&record, &mut |_| events += 1).expect("a recorded line");
            read += 1;
        }
        if read >= records / 5 {
            after_a_fifth.get_or_insert_with(peak_memory);
        }
        if read >= records {
            break;
        }
    }
    assert!(events > 0, "no events");
    assert_eq!(adapter.stats().unmatched, 0, "records of no run");
    println!("{} {}", after_a_fifth.expect("a measurement"), peak_memory());
}

/// Returns the peak resident memory of this process, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
