use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHasher;
use tokio::sync::watch;

use crate::app::AppState;

const EVERY: Duration = Duration::from_secs(2);

/// Reads the files that the settings name again when what stands in one of them has changed, or on SIGHUP.
///
/// The files are looked at every two seconds instead of asking the system to tell: that also sees links that are turned to
/// another folder, as Kubernetes does it, and works on every file system.
pub(crate) async fn reload_on_change(context: Arc<AppState>, mut stop: watch::Receiver<bool>) {
    let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
    let mut seen = fingerprint(context.settings().files()).await;
    loop {
        let asked = async {
            match &mut hangups {
                Some(hangups) => hangups.recv().await,
                None => std::future::pending().await,
            }
        };
        let is_asked = tokio::select! {
            _ = asked => true,
            () = tokio::time::sleep(EVERY) => false,
            _ = stop.wait_for(|stopping| *stopping) => return,
        };
        let now = fingerprint(context.settings().files()).await;
        if is_asked || now != seen {
            // Where other files are named after that, it is done once more: they may have changed while they were read.
            seen = now;
            match context.reload().await {
                Ok(()) => tracing::info!("read the files again"),
                Err(error) => tracing::error!("the files cannot be used, those from before are: {error}"),
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
