//! What the lock-free parts are built on: the standard library's, or loom's when it explores how threads interleave.

#[cfg(not(sre_loom))]
pub(crate) use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
#[cfg(not(sre_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(not(sre_loom))]
pub(crate) use sre_core::thread_number;

#[cfg(sre_loom)]
pub(crate) use loom::sync::atomic::{AtomicI64, AtomicU64, Ordering};
#[cfg(sre_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};

/// Locks. Nothing that holds one of these locks runs code of a user's, so a poisoned one is whole still.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// loom's threads all run on one of the system's. Each execution counts its own, since it must repeat exactly.
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
