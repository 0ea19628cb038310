use sre_core::Usd;

/// What somebody spends, or wants to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spend<'a> {
    /// Who.
    pub agent: &'a str,
    /// On which task.
    pub task: Option<&'a str>,
    /// Of which team; an agent stays with the last one that was named.
    pub team: Option<&'a str>,
    /// On which model.
    pub model: Option<&'a str>,
    /// How much.
    pub amount: Usd,
    /// What for, in parts.
    pub breakdown: &'a [(&'a str, Usd)],
}

impl<'a> From<(&'a str, Usd)> for Spend<'a> {
    fn from((agent, amount): (&'a str, Usd)) -> Self {
        Self { agent, amount, ..Self::default() }
    }
}
