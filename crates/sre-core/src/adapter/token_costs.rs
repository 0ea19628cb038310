use crate::Usd;

/// What tokens cost, the same for every model.
///
/// ```
/// use sre_core::adapter::TokenCosts;
/// let cost = TokenCosts::default().of(2_000, 100);
/// assert_eq!(cost.to_string(), "0.0075");
/// ```
///
/// Exhaustive: these are the two parameters of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCosts {
    /// The cost of 1,000 input tokens.
    pub per_1k_input: Usd,
    /// The cost of 1,000 output tokens.
    pub per_1k_output: Usd,
}

impl Default for TokenCosts {
    /// Returns $0.003 and $0.015.
    fn default() -> Self {
        Self { per_1k_input: Usd::from_nanos(3_000_000), per_1k_output: Usd::from_nanos(15_000_000) }
    }
}

impl TokenCosts {
    /// Returns what a call cost, rounded down to a billionth of a dollar.
    pub fn of(&self, input_tokens: u64, output_tokens: u64) -> Usd {
        let nanos = |tokens: u64, per_1k: Usd| i128::from(tokens) * i128::from(per_1k.nanos()) / 1_000;
        let total = nanos(input_tokens, self.per_1k_input) + nanos(output_tokens, self.per_1k_output);
        Usd::from_nanos(i64::try_from(total).unwrap_or(i64::MAX))
    }
}
