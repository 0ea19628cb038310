use std::time::Duration;

use sre_core::{CostScope, Usd};

/// Why a cost is not allowed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It is no amount that can be spent.
    #[error("`{field}`: found {found}, expected dollars, from 0 to a billion")]
    Invalid {
        /// Which argument.
        field: &'static str,
        /// What it was.
        found: Usd,
    },
    /// The task would cost more than a task may.
    #[error("the task would cost ${would_cost}{}, and a task may cost ${limit}", on(.model))]
    Task {
        /// On which model, where it is that whose limit it is.
        model: Option<String>,
        /// What it would come to.
        would_cost: Usd,
        /// What it may.
        limit: Usd,
    },
    /// A budget has too little left.
    #[error("{scope} has ${left} left of ${limit}, and this costs ${amount}")]
    Budget {
        /// Whose.
        scope: CostScope,
        /// What is left.
        left: Usd,
        /// What may be spent.
        limit: Usd,
        /// What was asked for.
        amount: Usd,
    },
    /// There are too many agents: this one has no books to reserve in.
    #[error("agent {agent} finds no room: too many agents have books already")]
    NoRoom {
        /// Which.
        agent: String,
    },
    /// The agent is slowed down.
    #[error("{scope} is slowed down: try again in {retry_after:.1?}")]
    Throttled {
        /// Which, or which on a model.
        scope: CostScope,
        /// How long to wait.
        retry_after: Duration,
    },
    /// The agent has spent too much of its budget, and is refused until the next day or somebody's order.
    #[error("{scope} is refused: it has spent too much of its budget")]
    Killed {
        /// Which, or which on a model.
        scope: CostScope,
    },
}

fn on(model: &Option<String>) -> String {
    model.as_ref().map_or_else(String::new, |model| format!(" on {model}"))
}
