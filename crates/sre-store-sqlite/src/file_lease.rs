use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A lease that lasts as long as its process holds an OS lock on a file of its own.
///
/// The system releases the lock when the process ends, however it ends, so the lease needs no renewal and others notice its
/// end at once.
#[derive(Debug)]
pub(crate) struct FileLease {
    /// Identifies the owner among all that share the store.
    pub(crate) owner: i64,
    path: PathBuf,
    /// Locked until dropped.
    _file: File,
}

impl FileLease {
    pub(crate) fn acquire(store: &Path) -> io::Result<Self> {
        loop {
            let owner = random();
            let path = lock_file(store, owner);
            match File::create_new(&path) {
                Ok(file) => {
                    file.lock()?;
                    return Ok(Self { owner, path, _file: file });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns whether the owner's process still holds its lease.
    pub(crate) fn is_held(store: &Path, owner: i64) -> bool {
        let path = lock_file(store, owner);
        let Ok(file) = File::open(&path) else { return false };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => true,
            Ok(()) => {
                // The process died without removing its file. It does not matter if removing it fails.
                let _ = fs::remove_file(path);
                false
            }
            // In doubt, the owner keeps its deliveries.
            Err(TryLockError::Error(_)) => true,
        }
    }
}

impl Drop for FileLease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn lock_file(store: &Path, owner: i64) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(format!("-owner-{owner:016x}"));
    name.into()
}

/// Returns a number that is unique among processes: the standard library seeds its hashers randomly.
fn random() -> i64 {
    use std::hash::{BuildHasher, RandomState};
    let number = RandomState::new().hash_one(std::process::id());
    i64::try_from(number >> 1).unwrap_or_default()
}
