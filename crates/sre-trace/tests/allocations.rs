//! What the trace context of a request allocates. Without a harness, whose threads allocate too: the heap is that of the whole process.

use std::fmt::Write;
use std::hint::black_box;

use sre_trace::{TraceContext, Traceparent};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Returns the number of allocations.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = dhat::HeapStats::get().total_blocks;
    work();
    dhat::HeapStats::get().total_blocks - before
}

/// A traceparent is parsed and formatted without allocation.
fn main() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let mut text = String::with_capacity(HEADER.len());
    let found = allocations(|| {
        for _ in 0..1_000 {
            let caller = TraceContext::from_traceparent(black_box(HEADER)).unwrap();
            let received = TraceContext::from_headers([("TraceParent", black_box(HEADER))]).unwrap();
            assert_eq!((caller.span_id, &*received.to_traceparent().to_text()), (received.span_id, HEADER));
            text.clear();
            write!(text, "{}", black_box(&caller).child().to_traceparent()).unwrap();
            assert_eq!(text[..36], HEADER[..36]);
            // Nor does what is wrong with it.
            for invalid in ["", &HEADER[1..], "00-0af7651916cd43dd8448eb211c80319C-b7ad6b7169203331-01"] {
                assert!(Traceparent::parse(black_box(invalid)).is_err());
            }
        }
    });
    assert_eq!(found, 0);
    let caller = TraceContext::from_traceparent(HEADER).unwrap();
    assert_eq!(allocations(|| _ = black_box(caller.to_headers())), 2, "the list, and the only header");
}
