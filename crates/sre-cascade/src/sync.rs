//! Synchronization primitives: the standard library's, or loom's in its model tests.

#[cfg(not(sre_loom))]
pub(crate) use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
#[cfg(not(sre_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(not(sre_loom))]
pub(crate) use sre_core::private::thread_number;

#[cfg(sre_loom)]
pub(crate) use loom::sync::atomic::{AtomicI64, AtomicU64, Ordering};
#[cfg(sre_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// Locks a mutex, ignoring poisoning: no user code runs under these locks, so the data is consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Numbers loom's threads, which all run on one system thread. Numbers begin at 0 in each execution, since loom replays
/// executions exactly.
#[cfg(sre_loom)]
pub(crate) fn thread_number() -> usize {
    loom::lazy_static! {
        static ref NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    }
    loom::thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
