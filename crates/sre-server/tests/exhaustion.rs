//! What a running service does once an error budget is exhausted.

mod common;

use common::{Service, config, finished};
use serde_json::{Value, json};
use sre_server::Config;

#[tokio::test]
async fn an_exhausted_objective_throttles_its_agent() {
    let folder = tempfile::tempdir().unwrap();
    let slos = "name: answers\nindicators: [{type: task_success_rate, target: 0.9}]\n\
                error_budget_policy: {exhaustion_action: throttle}\n";
    std::fs::write(folder.path().join("slo.yaml"), slos).unwrap();
    let config = Config { slos: vec![folder.path().join("slo.yaml")], ..config(folder.path()) };
    let service = Service::start(config).await;
    let lines = |agent, success| (0..40).map(|task| finished(agent, task, success)).collect::<String>();
    service.events(&(lines("failing", false) + &lines("well", true))).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let call = |agent| {
        let call =
            json!({"event": "llm_call", "time": now, "agent": agent, "model": "m", "cost_usd": "0.1", "success": true});
        format!("{call}\n")
    };
    service.events(&(call("failing") + &call("well"))).await;
    let status = |costs: &Value, agent: &str| {
        let budgets = costs["budgets"].as_array().unwrap();
        budgets.iter().find(|budget| budget["name"] == agent).map(|budget| budget["status"].clone())
    };
    let costs = service.until("/v1/costs", |costs| status(costs, "failing") == Some(json!("throttled"))).await;
    assert_eq!(status(&costs, "well"), Some(json!("ok")));
    service.server.stop().await;
}
