use std::fs::{self, Metadata};
use std::path::Path;

use crate::wal::log_of;

/// Which files a store has open: SQLite goes on writing to one that was deleted, and what it writes is lost.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Identity {
    /// The file at the path; `None` if there is none.
    pub(crate) file: Option<FileId>,
    /// Its write-ahead log, which the first write creates.
    pub(crate) log: Option<FileId>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FileId(u64, u64);

impl Identity {
    /// Returns which files are at the path of a store now.
    pub(crate) fn at(path: &Path) -> Self {
        Self { file: FileId::at(path), log: FileId::at(&log_of(path)) }
    }
}

impl FileId {
    fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    /// Device and number of the file.
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(metadata.dev(), metadata.ino())
    }

    /// Other systems do not delete a file that is open.
    #[cfg(not(unix))]
    fn of(_metadata: &Metadata) -> Self {
        Self(0, 0)
    }
}
