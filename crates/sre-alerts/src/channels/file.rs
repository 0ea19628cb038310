use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use async_trait::async_trait;
use sre_core::{AlertChannel, ChannelError, DeliveryReceipt, HttpClient, Notification};

/// Appends a line of JSON per alert to a file, or prints a line of text per alert to standard output.
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
    /// Creates a channel that appends to a file, which is created if missing.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), target: Target::File(path.into()) }
    }

    /// Creates a channel that prints.
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
                // A single write per line, so that the lines of several processes do not mix.
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
