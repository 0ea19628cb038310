use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, even when a thread panicked while it held the lock: for data that is consistent at any moment, because no
/// code of users runs under the lock.
#[inline]
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
