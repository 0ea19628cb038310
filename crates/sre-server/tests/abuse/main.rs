//! Hostile clients, and a normal one beside them: whatever they send, the memory of the service stays within its bounds, and the normal
//! client's requests are acknowledged about as fast as without them and counted exactly.
//!
//! The service runs in a process of its own, so that its memory can be measured. Attacks that need no such process have their tests
//! elsewhere:
//!
//! | attack | tests |
//! | --- | --- |
//! | bodies that decode to far more | [`memory`] |
//! | names of any length | [`memory`], [`storage`] for a journal that they fill; `long_names.rs`; `a_snapshot_of_any_size_is_written_and_leaves_room_for_entries` in `sre-store-sqlite` for a state above SQLite's limit of a value |
//! | connections without a request | [`connections`]; `connections.rs` |
//! | gzip of several members | [`telemetry`]; `bodies.rs` |
//! | a clock that is ahead, a backlog, spans that are sent again | [`telemetry`]; `time.rs` |
//! | a data folder that is deleted, a full disk, kills, damaged entries | [`storage`]; `storage.rs`; `a_kill_after_any_entry_changes_nothing` in `src/processor/replay_tests.rs` |
//! | readers that never read, 20,000 objectives | [`readers`]; `live.rs`; the benchmark `serve` in `tests/benches` for the time that they take |
//! | streams and bodies that stall | [`connections`]; `bodies.rs` |
//! | tokens in the wrong place | `errors_name_line_field_and_expectation` in `src/config.rs`; `no_token_is_logged` in `sre-cli` |
//! | numbers and ids out of range | [`telemetry`]; `invalid_values_are_rejected_with_the_name_of_their_field` in `sre-core` |
//! | a foreign `Host` or `Origin`, malformed requests | [`telemetry`]; `openapi.rs`; `schemathesis.rs` |
//! | attempts of a pending delivery | `a_pending_delivery_says_how_often_it_was_tried_and_why_the_last_attempt_failed` in `sre-alerts` |
//! | a malformed address of the page | `an_address_that_is_not_percent_encoded_text_is_taken_as_it_is` in `page.rs` |

mod attacked;
mod bodies;
mod connection;
mod connections;
mod memory;
mod normal_client;
mod readers;
mod storage;
mod telemetry;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Not a test: the service that the others attack.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service() {
    attacked::serve().await;
}
