//! Alert routing and delivery, and the history of alerts in a SQLite file.
#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::sync::Arc;

#[doc(inline)]
pub use sre_alerts::*;

use crate::{Collect, RuntimeBuilder, SignalHandler};

/// Opens a [`PersistentAlertManager`] with its history in a SQLite file. Part of the [prelude](crate::prelude).
///
/// ```
/// use agent_sre::prelude::*;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("alerts.db");
/// let manager = PersistentAlertManager::open(path)?;
/// manager.add_channel(FileChannel::stdout("screen"), ChannelConfig::default())?;
/// manager.send(&Alert { agent_id: "support".into(), ..Alert::new("Budget spent", "5 % of tasks failed") });
/// let of_agent = AlertQuery { agent_id: Some("support".into()), ..AlertQuery::default() };
/// assert_eq!(manager.query_alerts(&of_agent)?[0].alert.title, "Budget spent");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "sqlite")]
pub trait OpenAlertHistory: Sized {
    /// Opens the file, which is created if missing, and starts a manager that stores every alert there before it delivers it.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be opened, is damaged or of a newer version, or if the delivery thread cannot be started.
    fn open(path: impl Into<PathBuf>) -> Result<Self, ManagerError> {
        Self::open_with(path, AlertOptions::default())
    }

    /// Like [`open`](Self::open), with options, such as the HTTP client that most channels need. The file replaces
    /// [`AlertOptions::store`].
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`open`](Self::open).
    fn open_with(path: impl Into<PathBuf>, options: AlertOptions) -> Result<Self, ManagerError>;
}

#[cfg(feature = "sqlite")]
impl OpenAlertHistory for PersistentAlertManager {
    fn open_with(path: impl Into<PathBuf>, options: AlertOptions) -> Result<Self, ManagerError> {
        Self::new(Arc::new(sre_store_sqlite::SqliteAlertStore::open(path)?), options)
    }
}

impl RuntimeBuilder {
    /// Sends alerts: an [`AlertManager`] or a [`PersistentAlertManager`] handles the signals of every engine (objectives, cost
    /// guards, circuit breakers), and its metrics are collected. Its handler is named `alerts`.
    ///
    /// ```
    /// # #[cfg(feature = "slo")] {
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use agent_sre::event::TaskFinished;
    /// use agent_sre::prelude::*;
    ///
    /// let alerts = Arc::new(AlertManager::new(AlertOptions::default()).unwrap());
    /// let screen = CallbackChannel::new("screen", |alert| println!("{}: {}", alert.severity, alert.title));
    /// alerts.add_channel(screen, ChannelConfig::default()).unwrap();
    /// let slo = Arc::new(Slo::new("answers", vec![Box::new(TaskSuccessRate::new(0.95).unwrap())]).unwrap());
    /// let runtime = Runtime::builder().engine(slo).alert_manager(alerts.clone()).build().unwrap();
    ///
    /// let now = Timestamp::from_secs(1_790_000_000);
    /// for _ in 0..20 {
    ///     runtime.record(AgentEvent::new(now, "support", TaskFinished::new(false)));
    /// }
    /// runtime.evaluate(now);
    /// runtime.shutdown();
    /// assert!(alerts.flush(Duration::from_secs(10)));
    /// assert!(alerts.stats().sent > 0);
    /// # }
    /// ```
    #[must_use]
    pub fn alert_manager<M: SignalHandler + Collect + 'static>(self, manager: Arc<M>) -> Self {
        self.handle("alerts", manager.clone()).collect(manager.clone()).provide(manager)
    }
}
