use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_sre::private::lock;
use rustc_hash::FxHasher;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::app::AppState;
use crate::engine_set::EngineSet;
use crate::event_checks::EventChecks;
use crate::service_time::Clocks;
use crate::{Config, StartError};

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
            () = state.shared.reload_wanted.notified() => true,
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

impl AppState {
    /// Reloads the configuration.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        let outcome = self.try_reload().await;
        *lock(&self.shared.config_error) = outcome.as_ref().err().cloned();
        if outcome.is_ok() {
            *lock(&self.shared.config_loaded) = self.shared.now();
        }
        outcome
    }

    async fn try_reload(&self) -> Result<(), String> {
        let (current, shared) = (self.config.clone(), self.shared.clone());
        let loading = tokio::task::spawn_blocking(move || load(&current, &shared.clocks, &shared.checks));
        let (settings, acceptor, engines) = loading.await.unwrap_or_else(|error| Err(error.to_string()))?;
        self.pipeline.replace(engines).await.unwrap_or_else(|_| Err("the service is stopping".to_owned()))?;
        self.tls.send_replace(acceptor);
        self.change_settings(settings);
        Ok(())
    }
}

/// Loads a new configuration, and starts its engines.
fn load(
    current: &Config,
    clocks: &Clocks,
    checks: &Arc<EventChecks>,
) -> Result<(Config, Option<TlsAcceptor>, EngineSet), String> {
    let settings = match &current.file {
        Some(file) => {
            let changed = Config::load(file).map_err(|error| error.to_string())?;
            changed.with_overrides(current.overrides.clone())
        }
        None => current.clone(),
    };
    let settings = keep_fixed(settings, current);
    let start = || {
        settings.check_access()?;
        let acceptor = settings.acceptor()?;
        Ok::<_, StartError>((acceptor, settings.prepare(clocks)?.start(&current.data, checks.clone())?))
    };
    let (acceptor, engines) = start().map_err(|error| error.to_string())?;
    Ok((settings, acceptor, engines))
}

/// Keeps the settings that need a restart to change: address, data folder, trusted proxies, limits, and whether TLS is used.
fn keep_fixed(changed: Config, current: &Config) -> Config {
    let is_same_tls = changed.tls.is_some() == current.tls.is_some();
    if !is_same_tls
        || (changed.listen, &changed.data, &changed.trusted_proxies, changed.server_limits)
            != (current.listen, &current.data, &current.trusted_proxies, current.server_limits)
    {
        tracing::warn!("Changes of `listen`, `data`, `tls`, `trusted_proxies` or a limit take effect after a restart");
    }
    Config {
        listen: current.listen,
        data: current.data.clone(),
        trusted_proxies: current.trusted_proxies.clone(),
        server_limits: current.server_limits,
        tls: if is_same_tls { changed.tls } else { current.tls.clone() },
        ..changed
    }
}

#[cfg(test)]
mod tests {
    use agent_sre::SystemClock;

    use super::*;

    #[test]
    fn a_reload_without_tokens_for_a_public_address_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sre.yaml");
        let token = |scope| format!("  - {{name: a, scope: {scope}, sha256: {}}}\n", "0f".repeat(32));
        let guarded = format!("listen: 0.0.0.0:4318\ntokens:\n{}{}", token("ingest"), token("read"));
        std::fs::write(&file, &guarded).unwrap();
        let current = Config::load(&file).unwrap();
        let clocks = Clocks::new(Arc::new(SystemClock));
        let checks = Arc::new(EventChecks::new(clocks.engines.clone(), 1));
        let read = || load(&current, &clocks, &checks).map(|(settings, ..)| settings);
        std::fs::create_dir(&current.data).unwrap();
        assert_eq!(read().unwrap().tokens, current.tokens);
        for text in
            ["listen: 0.0.0.0:4318\n".to_owned(), guarded.replace("read", "ingest"), "listen: 127.0.0.1:1".to_owned()]
        {
            std::fs::write(&file, &text).unwrap();
            let error = read().expect_err("the address is public");
            assert!(error.contains("`tokens` are needed for both scopes"), "{text}: {error}");
        }
    }
}
