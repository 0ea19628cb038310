//! Real servers of backends, on loopback, if `cargo xtask test --install` has installed them.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use sre_core::HttpClient;
use sre_http::{Client, Options};

use crate::outside;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Returns the folder with the programs of a server; lists `test` as skipped if Python there cannot import `module`.
pub fn programs(server: &str, module: &str, test: &str) -> Option<PathBuf> {
    let folder = Path::new(ROOT).join(format!("target/servers/{server}/bin"));
    outside::interpreter_with(&folder.join("python"), &["-c", &format!("import {module}")], test).map(|_| folder)
}

/// Returns a port that is free.
///
/// # Panics
/// Panics if there is none.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Runs a script of `tests/servers` with the Python of a server. Returns the JSON that it prints.
///
/// # Panics
/// Panics if the script fails.
pub fn read(programs: &Path, script: &str, arguments: &[&str]) -> Value {
    let script = Path::new(ROOT).join("tests/servers").join(script);
    let output = Command::new(programs.join("python")).arg(script).args(arguments).output().expect("Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A server and its workers, which end when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server in a folder, and waits until it answers at `url`.
    ///
    /// # Panics
    /// Panics if it does not answer within three minutes.
    pub async fn start(mut command: Command, folder: &Path, url: &str) -> Self {
        let log = folder.join("log");
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        command.current_dir(folder).process_group(0).stdin(Stdio::null());
        command.stdout(file.try_clone().expect("a log")).stderr(file);
        let mut server = Self { child: command.spawn().expect("a server"), log };
        let http = Client::new(Options::default()).expect("a client");
        let begun = Instant::now();
        loop {
            let request = http::Request::get(url).body(Bytes::new()).expect("a URL");
            if http.send(request).await.is_ok_and(|answer| answer.status().is_success()) {
                return server;
            }
            let is_running = matches!(server.child.try_wait(), Ok(None));
            assert!(is_running && begun.elapsed() < Duration::from_secs(180), "not ready: {}", server.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns what the server has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
