use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHasher;
use tokio::sync::watch;

use crate::app::AppState;

/// Time between two checks of the files.
const INTERVAL: Duration = Duration::from_secs(2);

/// Reloads the configuration when the content of a file changes, and on SIGHUP.
///
/// Polls instead of using the system's notifications: polling works on every file system, and notices the symbolic links that
/// Kubernetes switches to update a mounted volume.
pub(crate) async fn reload_on_change(state: Arc<AppState>, mut stop: watch::Receiver<bool>) {
    let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
    let mut seen = fingerprint(state.settings().files()).await;
    loop {
        let hangup = async {
            match &mut hangups {
                Some(hangups) => hangups.recv().await,
                None => std::future::pending().await,
            }
        };
        let is_requested = tokio::select! {
            _ = hangup => true,
            () = tokio::time::sleep(INTERVAL) => false,
            _ = stop.wait_for(|stopping| *stopping) => return,
        };
        let now = fingerprint(state.settings().files()).await;
        if is_requested || now != seen {
            // If the reload names other files, the fingerprint differs again and a second reload follows: those files may have
            // changed while they were read.
            seen = now;
            match state.reload().await {
                Ok(()) => tracing::info!("Configuration reloaded"),
                Err(error) => tracing::error!("Config reload failed; keeping the previous configuration: {error}"),
            }
        }
    }
}

async fn fingerprint(files: Vec<PathBuf>) -> u64 {
    let read = move || {
        let mut hasher = FxHasher::default();
        for file in files {
            file.hash(&mut hasher);
            std::fs::read(&file).ok().hash(&mut hasher);
        }
        hasher.finish()
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}
