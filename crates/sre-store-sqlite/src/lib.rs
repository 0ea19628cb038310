//! Stores in SQLite files: alerts and their deliveries, the ledger of costs, a service's journal, a spool for exporters, and the traces of
//! bad and slow tasks.
//!
//! The alert store uses WAL mode and syncs every commit, so that stored alerts survive a crash and a power failure. Several
//! processes may share it: each owns the deliveries it is working on, and adopts those of processes that died.
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
mod damage;
mod error;
mod file;
mod file_lease;
mod identity;
mod journal;
mod ledger;
mod schema;
mod spool;
mod traces;
mod wal;

pub use alerts::SqliteAlertStore;
pub use damage::JournalDamage;
pub use journal::SqliteJournal;
pub use ledger::SqliteLedger;
pub use spool::SqliteSpool;
pub use traces::SqliteTraceStore;

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
