//! Chromium, driven by WebDriver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use sre_testkit::outside;

/// A browser and its driver process, which is killed on drop.
pub(crate) struct Browser {
    pub(crate) client: Client,
    driver: Child,
}

impl Browser {
    pub(crate) async fn open(test: &str) -> Option<Self> {
        Self::open_with(test, &[]).await
    }

    pub(crate) async fn open_with(test: &str, more: &[&str]) -> Option<Self> {
        outside::program("chromium", test)?;
        let mut driver = outside::program("chromedriver", test)?
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines
            .filter_map(|line| {
                line.split_once("successfully on port ").map(|(_, rest)| rest.trim_end_matches('.').to_owned())
            })
            .next()
            .expect("a driver that prints its port");
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,1000",
        ];
        let arguments = [&arguments, more].concat();
        let wanted = json!({"goog:chromeOptions": {"args": arguments}});
        let wanted = wanted.as_object().unwrap().clone();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a browser");
        Some(Self { client, driver })
    }

    pub(crate) async fn script(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Evaluates a script until it returns `wanted`.
    pub(crate) async fn until(&self, script: &str, wanted: impl Into<Value>) {
        let (begun, wanted) = (Instant::now(), wanted.into());
        loop {
            let found = self.script(&format!("return {script}")).await;
            if found == wanted {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{script}: found {found}, expected {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn close(self) {
        self.client.clone().close().await.unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Returns the violations that axe-core finds, or `None` if it is not installed (`cargo xtask test --install`).
pub(crate) async fn violations(browser: &Browser, test: &str) -> Option<Value> {
    let path = format!("{}/target/taps/node/node_modules/axe-core/axe.min.js", super::ROOT);
    let Ok(axe) = std::fs::read_to_string(&path) else {
        outside::skip(&format!("{test}: no axe-core"));
        return None;
    };
    browser.script(&axe).await;
    let run = "const done = arguments[arguments.length - 1]; axe.run(document, {resultTypes: ['violations']}).then(found => \
               done(found.violations.map(({id, nodes}) => [id, nodes.map(node => node.html)])))";
    Some(browser.client.execute_async(run, Vec::new()).await.unwrap())
}
