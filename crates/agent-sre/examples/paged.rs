//! An agent begins to fail, and then recovers: one alert, and its resolution. `cargo run -p agent-sre --example paged`
//!
//! `docs/alerts.md` shows how to send alerts to Slack and PagerDuty instead of the screen.

use std::sync::Arc;
use std::time::Duration;

use agent_sre::alerts::{AlertManager, AlertOptions, ChannelConfig, FileChannel};
use agent_sre::event::TaskFinished;
use agent_sre::slo::{SliRegistry, SloEngine, parse};
use agent_sre::{AgentEvent, Runtime, Timestamp};

const OBJECTIVE: &str = "
name: answers
indicators:
  - type: task_success_rate
    target: 0.95
error_budget_policy: {expected_events: 10000}
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = SliRegistry::default();
    let engine = SloEngine::new(parse(OBJECTIVE, "answers.yaml", &registry)?, registry)?;
    let alerts = Arc::new(AlertManager::new(AlertOptions::default())?);
    alerts.add_channel(FileChannel::stdout("screen"), ChannelConfig::default())?;
    let runtime = Runtime::builder().engine(Arc::new(engine)).alert_manager(alerts.clone()).build()?;

    let mut now = Timestamp::from_secs(1_790_000_000);
    for minute in 0..240 {
        for task in 0..5 {
            let failing = (60..90).contains(&minute) && task != 0;
            runtime.record(AgentEvent::new(now, "support", TaskFinished::new(!failing)));
        }
        runtime.evaluate(now);
        now = now.saturating_add(Duration::from_secs(60));
    }
    runtime.shutdown();
    alerts.flush(Duration::from_secs(10));
    println!("{:?}", alerts.stats());
    Ok(())
}
