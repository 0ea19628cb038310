use sre_core::Usd;

/// An amount that an agent spends, or asks to spend. Later versions may have more fields: end with
/// `..Spend::new(agent, amount)`.
///
/// ```
/// use sre_cost::{CostGuard, Spend};
/// let spend = Spend { task: Some("t-1"), model: Some("gpt-5"), ..Spend::new("planner", "0.25".parse().unwrap()) };
/// CostGuard::new().charge(&spend).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spend<'a> {
    /// The agent.
    pub agent: &'a str,
    /// The task.
    pub task: Option<&'a str>,
    /// The agent's team. An agent stays in the last team that was named.
    pub team: Option<&'a str>,
    /// The model.
    pub model: Option<&'a str>,
    /// The amount.
    pub amount: Usd,
    /// Parts of the amount by what they pay for, such as a model or a tool.
    pub breakdown: &'a [(&'a str, Usd)],
}

impl<'a> Spend<'a> {
    /// Creates an amount without task, team, model and breakdown.
    pub fn new(agent: &'a str, amount: Usd) -> Self {
        Self { agent, amount, ..Self::default() }
    }
}

impl<'a> From<(&'a str, Usd)> for Spend<'a> {
    fn from((agent, amount): (&'a str, Usd)) -> Self {
        Self::new(agent, amount)
    }
}
