use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use async_trait::async_trait;
use sre_core::{AlertChannel, ChannelError, DeliveryReceipt, HttpClient, Notification};

/// A file that gets a line of JSON an alert, or the standard output, which gets a line of text: for the first hour.
#[derive(Debug)]
pub struct FileChannel {
    name: String,
    target: Target,
}

#[derive(Debug)]
enum Target {
    File(PathBuf),
    Stdout,
}

impl FileChannel {
    /// A channel that appends to a file, which is made where there is none.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), target: Target::File(path.into()) }
    }

    /// A channel that prints.
    pub fn stdout(name: impl Into<String>) -> Self {
        Self { name: name.into(), target: Target::Stdout }
    }
}

#[async_trait]
impl AlertChannel for FileChannel {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(
        &self,
        notification: Notification<'_>,
        _http: &dyn HttpClient,
    ) -> Result<DeliveryReceipt, ChannelError> {
        let alert = notification.alert;
        let written = match &self.target {
            Target::File(path) => {
                let line = serde_json::to_string(alert).map_err(|error| ChannelError::Local(error.to_string()))?;
                let file = OpenOptions::new().create(true).append(true).open(path);
                // One write a line: those of several processes do not mix.
                file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
                    .map_err(|error| format!("{}: {error}", path.display()))
            }
            Target::Stdout => {
                let message = alert.message.replace('\n', "\n    ");
                let mut stdout = std::io::stdout().lock();
                writeln!(stdout, "[{}] {}: {message}", alert.severity, alert.title).map_err(|error| error.to_string())
            }
        };
        written.map(|()| DeliveryReceipt::default()).map_err(ChannelError::Local)
    }
}
