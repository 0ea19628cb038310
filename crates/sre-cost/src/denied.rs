use std::time::Duration;

use sre_core::{CostScope, Usd};

/// Why an amount may not be spent or reserved.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// The amount is out of range.
    #[error("`{field}`: found {found}, expected dollars, from 0 to a billion")]
    InvalidAmount {
        /// Name of the argument.
        field: &'static str,
        /// The amount.
        found: Usd,
    },
    /// The cost of the task would exceed the limit per task.
    #[error("task limit exceeded: the task would cost ${would_cost}{}, the limit is ${limit}", on(.model))]
    Task {
        /// The model, if the limit is one for tasks on that model.
        model: Option<String>,
        /// What the task would cost in total.
        would_cost: Usd,
        /// The limit per task.
        limit: Usd,
    },
    /// A budget has too little left.
    #[error("{scope}: budget exceeded: ${amount} requested, ${left} of ${limit} left")]
    Budget {
        /// Whose budget.
        scope: CostScope,
        /// What is neither spent nor reserved.
        left: Usd,
        /// The budget's limit.
        limit: Usd,
        /// The requested amount.
        amount: Usd,
    },
    /// The guard tracks `max_agents` agents, and this is not one of them: there is no account to reserve in.
    #[error("agent {agent}: agent limit reached: raise `max_agents`")]
    AgentLimit {
        /// The agent.
        agent: String,
    },
    /// The agent is throttled.
    #[error("{scope}: throttled: retry in {retry_after:.1?}")]
    Throttled {
        /// The agent, or the agent on a model.
        scope: CostScope,
        /// How long to wait.
        retry_after: Duration,
    },
    /// The agent reached `kill_at` of its daily limit, and is blocked until the next day or a reset.
    #[error("{scope}: blocked: daily budget nearly spent; wait for the next day or reset it")]
    Killed {
        /// The agent, or the agent on a model.
        scope: CostScope,
    },
}

fn on(model: &Option<String>) -> String {
    model.as_ref().map_or_else(String::new, |model| format!(" on {model}"))
}
