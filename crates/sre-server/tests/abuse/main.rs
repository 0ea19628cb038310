//! Hostile clients, and a normal one beside them: whatever they send, the memory of the service stays within its bounds, and the normal
//! client's requests are acknowledged about as fast as without them and counted exactly.
//!
//! The service runs in a process of its own, so that its memory can be measured.

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
