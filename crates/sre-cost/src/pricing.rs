use std::collections::BTreeMap;
use std::sync::Mutex;

use sre_core::private::lock;
use sre_core::{AgentEvent, Event, EventStage, Usd};

use crate::price::{PriceBook, Tokens};

/// Adds a cost to each model call in a stream of events that has none, and compares the cost of the others with the price
/// book.
///
/// ```
/// use sre_core::AgentEvent;
/// use sre_cost::{PriceBook, Pricing};
/// let map = r#"{"gpt-5": {"input_cost_per_token": 1e-06, "output_cost_per_token": 1e-05}}"#;
/// let pricing = Pricing::new(PriceBook::from_litellm(map, "prices.json").unwrap());
/// let line = br#"{"event":"llm_call","time":1,"agent":"a","model":"gpt-5","input_tokens":100,"output_tokens":10}"#;
/// let mut event = AgentEvent::from_json(line).unwrap();
/// pricing.price(&mut event);
/// assert_eq!(event.event.cost_usd().unwrap().to_string(), "0.0002");
/// ```
#[derive(Debug, Default)]
pub struct Pricing {
    book: PriceBook,
    tolerance: f64,
    report: Mutex<PricingReport>,
}

/// Counts of priced calls since the start.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PricingReport {
    /// Calls that got their cost from the price book.
    pub priced: u64,
    /// Calls without a cost whose model has no price, by model. Their cost is unknown, not 0. After 1,000 models, further
    /// ones are counted together as `…`.
    pub unknown_models: BTreeMap<String, u64>,
    /// Calls whose own cost agrees with the price book, within the tolerance.
    pub matched: u64,
    /// Calls whose own cost differs by more than the tolerance. Their own cost is kept.
    pub mismatched: u64,
    /// The sum of those differences: positive if the calls' own costs are higher.
    pub difference: Usd,
}

const MAX_MODELS: usize = 1_000;
const OTHERS: &str = "…";

impl Pricing {
    /// Creates a stage that uses these prices, with a tolerance of 1 %.
    pub fn new(book: PriceBook) -> Self {
        Self { book, tolerance: 0.01, report: Mutex::default() }
    }

    /// Sets how much a call's own cost may differ from the price book to count as matched, as a share of the price.
    #[must_use]
    pub fn with_tolerance(mut self, share: f64) -> Self {
        self.tolerance = share;
        self
    }

    /// Sets the cost of a model call that has none, if its model has a price.
    pub fn price(&self, event: &mut AgentEvent) {
        let at = event.time;
        let Event::LlmCall(call) = &mut event.event else { return };
        let name = call.model.as_deref().unwrap_or_default();
        let tokens = Tokens {
            input: call.input_tokens,
            cached_input: call.cached_input_tokens,
            cache_write: call.cache_write_input_tokens,
            output: call.output_tokens,
        };
        let price = self.book.price(call.provider.as_deref(), name, at).and_then(|price| price.cost(tokens));
        let mut report = lock(&self.report);
        match (call.cost_usd, price) {
            (None, Some(price)) => {
                call.cost_usd = Some(price);
                report.priced += 1;
            }
            (Some(own), Some(price)) => {
                let difference = own.nanos().saturating_sub(price.nanos());
                if difference.unsigned_abs() as f64 > price.nanos() as f64 * self.tolerance {
                    report.mismatched += 1;
                    report.difference += Usd::from_nanos(difference);
                } else {
                    report.matched += 1;
                }
            }
            (None, None) if tokens != Tokens::default() => {
                let is_tracked = report.unknown_models.len() < MAX_MODELS || report.unknown_models.contains_key(name);
                *report.unknown_models.entry(if is_tracked { name } else { OTHERS }.to_owned()).or_default() += 1;
            }
            _ => {}
        }
    }

    /// Returns the counts so far.
    pub fn report(&self) -> PricingReport {
        lock(&self.report).clone()
    }
}

impl EventStage for Pricing {
    fn apply(&self, event: &mut AgentEvent) -> bool {
        self.price(event);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelPrice;

    fn call(model: &str, tokens: u64, cost: &str) -> AgentEvent {
        let json = format!(
            r#"{{"event":"llm_call","time":1,"agent":"a","model":"{model}","input_tokens":{tokens},"cost_usd":{cost}}}"#
        );
        AgentEvent::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_calls_own_cost_is_kept_and_compared() {
        let mut book = PriceBook::default();
        let price = ModelPrice::new("1".parse().unwrap(), "1".parse().unwrap());
        book.add("known", sre_core::Timestamp::default(), price);
        let pricing = Pricing::new(book);
        for (model, tokens, cost, expected) in [
            ("known", 1_000, "null", Some("0.001")),
            ("known", 1_000, "0.00101", Some("0.00101")),
            ("known", 1_000, "0.0011", Some("0.0011")),
            ("unknown", 1_000, "null", None),
            ("unknown", 1_000, "0.5", Some("0.5")),
            ("unknown", 0, "null", None),
        ] {
            let mut event = call(model, tokens, cost);
            pricing.price(&mut event);
            assert_eq!(event.event.cost_usd(), expected.map(|cost| cost.parse().unwrap()), "{model} {cost}");
        }
        let report = pricing.report();
        assert_eq!((report.priced, report.mismatched, report.difference.nanos()), (1, 1, 100_000));
        assert_eq!(report.unknown_models, BTreeMap::from([("unknown".to_owned(), 1)]));
        for number in 0..2_000 {
            pricing.price(&mut call(&number.to_string(), 1, "null"));
        }
        let report = pricing.report();
        assert_eq!(report.unknown_models.len(), MAX_MODELS + 1);
        assert_eq!(report.unknown_models.values().sum::<u64>(), 2_001);
    }
}
