use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Who a process is among those that share a file, and how the others see that it is alive: it holds a lock on a file of
/// its own, which the system takes back when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) number: i64,
    path: PathBuf,
    /// Locked while this lives.
    _file: File,
}

impl Owner {
    pub(crate) fn new(store: &Path) -> io::Result<Self> {
        loop {
            let number = random();
            let path = lock_file(store, number);
            match File::create_new(&path) {
                Ok(file) => {
                    file.lock()?;
                    return Ok(Self { number, path, _file: file });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the process of that number is at work still.
    pub(crate) fn is_alive(store: &Path, number: i64) -> bool {
        let path = lock_file(store, number);
        let Ok(file) = File::open(&path) else { return false };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => true,
            Ok(()) => {
                // It died without taking its file away. Whether that succeeds now does not matter.
                let _ = fs::remove_file(path);
                false
            }
            // Where nothing is known, nothing is taken away from anybody.
            Err(TryLockError::Error(_)) => true,
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn lock_file(store: &Path, number: i64) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(format!("-owner-{number:016x}"));
    name.into()
}

/// A number that no other process has drawn: the standard library seeds its hashers by the system's randomness.
fn random() -> i64 {
    use std::hash::{BuildHasher, RandomState};
    let number = RandomState::new().hash_one(std::process::id());
    i64::try_from(number >> 1).unwrap_or_default()
}
