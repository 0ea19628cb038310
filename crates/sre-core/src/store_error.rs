use std::error::Error;
use std::sync::Arc;

/// A failed access to a store. `store` is its file or address, without secrets.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the store; retry once it is released.
    #[error("{store}: in use by another process ({source})")]
    Locked {
        /// The store.
        store: String,
        /// The cause.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The store has reached its size limit, or the disk is full.
    #[error("{store}: full ({source})")]
    Full {
        /// The store.
        store: String,
        /// The cause.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The stored data cannot be read.
    #[error("{store}: damaged or in another format ({source}): move it away to start with a new one")]
    Corrupt {
        /// The store.
        store: String,
        /// The cause.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The store holds other data, or data of a newer version.
    #[error("{store}: {reason}")]
    Incompatible {
        /// The store.
        store: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// The store was deleted or replaced while it was in use: what is written to it is lost.
    #[error("{store}: {reason}")]
    Missing {
        /// The store.
        store: String,
        /// What happened to it.
        reason: String,
    },
    /// The store cannot be opened, read or written.
    #[error("{store}: unavailable: {source}")]
    Unavailable {
        /// The store.
        store: String,
        /// The cause.
        source: Arc<dyn Error + Send + Sync>,
    },
}

impl StoreError {
    /// Creates a [`StoreError::Unavailable`].
    pub fn unavailable(store: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable { store: store.into(), source: source.into().into() }
    }

    /// Creates a [`StoreError::Corrupt`].
    pub fn corrupt(store: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Corrupt { store: store.into(), source: source.into().into() }
    }

    /// Returns whether another process holds the store, so that a retry may succeed.
    pub const fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }

    /// Returns whether there is no room, so that a retry may succeed once there is.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// Returns whether the store was deleted or replaced while it was in use.
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// Returns the store's file or address.
    pub fn store(&self) -> &str {
        match self {
            Self::Locked { store, .. }
            | Self::Full { store, .. }
            | Self::Corrupt { store, .. }
            | Self::Incompatible { store, .. }
            | Self::Missing { store, .. }
            | Self::Unavailable { store, .. } => store,
        }
    }

    /// Returns the message without the store, for readers who should not see its location.
    pub fn reason(&self) -> String {
        let message = self.to_string();
        message.strip_prefix(&format!("{}: ", self.store())).unwrap_or(&message).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_source_and_can_be_shown_without_its_store() {
        let error = StoreError::unavailable("/data/alerts.db", "disk on fire");
        assert_eq!(error.to_string(), "/data/alerts.db: unavailable: disk on fire");
        assert_eq!(error.reason(), "unavailable: disk on fire");
        assert_eq!(error.source().unwrap().to_string(), "disk on fire");
        assert!(!error.is_locked());
    }
}
