//! What must outlive the process in SQLite files: alerts and their deliveries, the ledger of costs, a service's journal,
//! and what exporters have still to send.
//!
//! The file of alerts is in WAL mode and synced at every commit, so that what was written survives a crash and a power cut. Several
//! processes may have it open: each owns the deliveries it is at work on, and takes over those of processes that died.
//!
//! ```
//! use sre_core::{AlertQuery, AlertStore};
//! use sre_store_sqlite::SqliteAlertStore;
//! # let folder = tempfile::tempdir().unwrap();
//! let store = SqliteAlertStore::open(folder.path().join("alerts.db"))?;
//! assert_eq!(store.count()?, 0);
//! assert!(store.query(&AlertQuery::default())?.is_empty());
//! # Ok::<(), sre_core::StoreError>(())
//! ```
mod alerts;
mod file;
mod journal;
mod ledger;
mod owner;
mod schema;
mod spool;

pub use alerts::SqliteAlertStore;
pub use journal::SqliteJournal;
pub use ledger::SqliteLedger;
pub use spool::SqliteSpool;
