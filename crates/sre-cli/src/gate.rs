use std::collections::BTreeMap;
use std::process::ExitCode;

use agent_sre::FailOn;
use anyhow::bail;
use serde::{Deserialize, Serialize};

use crate::arguments;
use crate::service_client::ServiceClient;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The URL of the service; without a scheme, `http://` is assumed.
    #[arg(long, env = "SRE_URL", default_value = "http://127.0.0.1:4318", value_name = "URL", value_parser = arguments::url)]
    url: String,
    /// A token with scope `read`, if the service requires one.
    #[arg(long, env = "SRE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Only the objectives of this agent.
    #[arg(long, value_name = "AGENT")]
    service: Option<String>,
    /// Only the objective of this name; may be repeated.
    #[arg(long, value_name = "NAME")]
    slo: Vec<String>,
    /// Only the objectives with this label; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Refuse the deploy if an objective has this status or a worse one. An exhausted one whose exhaustion action is
    /// `freeze_deployments` always refuses it.
    #[arg(long, value_parser = arguments::fail_on(), default_value_t, value_name = "STATUS")]
    fail_on: FailOn,
}

#[derive(Serialize)]
struct GateRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slos: Vec<String>,
    labels: BTreeMap<String, String>,
    fail_on: FailOn,
}

#[derive(Deserialize)]
struct GateResponse {
    allowed: bool,
    reasons: Vec<String>,
    checked: usize,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Exit code 0: the deploy is allowed; 1: it is not; 2: unknown, so do not deploy.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let labels = args.label.into_iter().collect();
    let question = GateRequest { service: args.service, slos: args.slo, labels, fail_on: args.fail_on };
    let answer: GateResponse = ServiceClient::new(&args.url, args.token)?.post("/v1/gate", &question)?;
    if answer.checked == 0 {
        // A mistyped name must not allow a deploy.
        bail!(
            "found no matching objective, expected one that /v1/slos lists; an agent is listed once it has sent an event"
        );
    }
    for reason in &answer.reasons {
        outln!("{reason}")?;
    }
    let checked = answer.checked;
    let objectives = if checked == 1 { "objective" } else { "objectives" };
    outln!("{}: {checked} {objectives} checked", if answer.allowed { "deploy allowed" } else { "deploy not allowed" })?;
    Ok(ExitCode::from(u8::from(!answer.allowed)))
}
