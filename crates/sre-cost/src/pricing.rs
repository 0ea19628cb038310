use std::collections::BTreeMap;
use std::sync::Mutex;

use sre_core::{AgentEvent, Event, Usd, lock};

use crate::{PriceBook, Tokens};

/// Prices the calls in a stream of events: those without a cost of their own get the book's, and those with one are
/// compared with it.
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
    found: Mutex<PricingReport>,
}

/// What came of pricing, since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PricingReport {
    /// Calls that got their cost from the book.
    pub priced: u64,
    /// Calls without a cost of a model that has no price, by model: they count as nothing, and are not free. More than a
    /// thousand models are counted together, under `…`.
    pub unknown_models: BTreeMap<String, u64>,
    /// Calls whose own cost is the book's, within the tolerance.
    pub matched: u64,
    /// Calls whose own cost differs from the book's by more than the tolerance. Their own counts.
    pub mismatched: u64,
    /// What those differ by, added up: above 0 where the calls say that they cost more.
    pub difference: Usd,
}

const MAX_MODELS: usize = 1_000;
const OTHERS: &str = "…";

impl Pricing {
    /// By these prices; a call's own cost may differ from them by 1 %.
    pub fn new(book: PriceBook) -> Self {
        Self { book, tolerance: 0.01, found: Mutex::default() }
    }

    /// By how much a call's own cost may differ from its price before that is reported, as a share of the price.
    #[must_use]
    pub fn with_tolerance(mut self, share: f64) -> Self {
        self.tolerance = share;
        self
    }

    /// Gives a call its cost, if it has none and its model has a price.
    pub fn price(&self, event: &mut AgentEvent) {
        let at = event.time;
        let Event::LlmCall(call) = &mut event.event else { return };
        let name = call.model.as_deref().unwrap_or_default();
        let tokens =
            Tokens { input: call.input_tokens, cached_input: call.cached_input_tokens, output: call.output_tokens };
        let price = self.book.price(call.provider.as_deref(), name, at).and_then(|price| price.cost(tokens));
        let mut found = lock(&self.found);
        match (call.cost_usd, price) {
            (None, Some(price)) => {
                call.cost_usd = Some(price);
                found.priced += 1;
            }
            (Some(own), Some(price)) => {
                let off = own.nanos().saturating_sub(price.nanos());
                if off.unsigned_abs() as f64 > price.nanos() as f64 * self.tolerance {
                    found.mismatched += 1;
                    found.difference += Usd::from_nanos(off);
                } else {
                    found.matched += 1;
                }
            }
            (None, None) if tokens != Tokens::default() => {
                let has_room = found.unknown_models.len() < MAX_MODELS || found.unknown_models.contains_key(name);
                *found.unknown_models.entry(if has_room { name } else { OTHERS }.to_owned()).or_default() += 1;
            }
            _ => {}
        }
    }

    /// What came of it so far.
    pub fn report(&self) -> PricingReport {
        lock(&self.found).clone()
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
    fn a_calls_own_cost_counts_and_is_reconciled() {
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
