use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use sre_core::{Timestamp, Usd};

/// The price of a model's tokens, in dollars per million.
///
/// ```
/// use sre_cost::{ModelPrice, Tokens};
/// let price = ModelPrice::new("0.15".parse().unwrap(), "0.60".parse().unwrap());
/// assert_eq!(price.cost(Tokens::new(1_000, 500)).unwrap().to_string(), "0.00045");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelPrice {
    /// The price of input tokens; `None` if unknown.
    pub input: Option<Usd>,
    /// The price of input tokens from the provider's cache; if `None`, that of other input tokens.
    pub cached_input: Option<Usd>,
    /// The price of input tokens that are written to the provider's cache; if `None`, that of other input tokens.
    pub cache_write: Option<Usd>,
    /// The price of output tokens; `None` if unknown.
    pub output: Option<Usd>,
    /// The prices of calls with more input tokens than the key.
    pub above: BTreeMap<u64, ModelPrice>,
}

/// The number of tokens of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tokens {
    /// Input tokens, cached ones included.
    pub input: u64,
    /// Input tokens from the provider's cache.
    pub cached_input: u64,
    /// Input tokens that are written to the provider's cache.
    pub cache_write: u64,
    /// Output tokens.
    pub output: u64,
}

/// The prices of models over time.
///
/// ```
/// use sre_core::Timestamp;
/// use sre_cost::{PriceBook, Tokens};
/// let map = r#"{"gpt-5-mini": {"input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06}}"#;
/// let book = PriceBook::from_litellm(map, "prices.json").unwrap();
/// let price = book.price(Some("openai"), "gpt-5-mini", Timestamp::default()).unwrap();
/// assert_eq!(price.cost(Tokens::new(3, 1)).unwrap().nanos(), 2_750);
/// ```
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    /// By model, oldest first.
    models: FxHashMap<String, Vec<(Timestamp, ModelPrice)>>,
}

const MILLION: i128 = 1_000_000;

impl Tokens {
    /// Creates the token counts of a call without cached input.
    pub fn new(input: u64, output: u64) -> Self {
        Self { input, output, ..Self::default() }
    }
}

impl ModelPrice {
    /// Creates a price of input and output tokens, in dollars per million.
    pub fn new(input: Usd, output: Usd) -> Self {
        Self { input: Some(input), output: Some(output), ..Self::default() }
    }

    /// Returns the cost of a call, rounded once, half to even; `None` if it has tokens without a known price, or the cost is
    /// out of range.
    pub fn cost(&self, tokens: Tokens) -> Option<Usd> {
        let price = self.above.range(..tokens.input).next_back().map_or(self, |(_, price)| price);
        let cached = tokens.cached_input.min(tokens.input);
        let written = tokens.cache_write.min(tokens.input - cached);
        let of = |count: u64, price: Option<Usd>| match (count, price) {
            (0, _) => Some(0),
            (count, Some(price)) => i128::from(count).checked_mul(i128::from(price.nanos())),
            (_, None) => None,
        };
        let sum = of(tokens.input - cached - written, price.input)?
            .checked_add(of(cached, price.cached_input.or(price.input))?)?
            .checked_add(of(written, price.cache_write.or(price.input))?)?
            .checked_add(of(tokens.output, price.output)?)?;
        i64::try_from(round_half_to_even(sum, MILLION)).ok().map(Usd::from_nanos)
    }
}

/// Returns `sum / by`, for a non-negative sum.
fn round_half_to_even(sum: i128, by: i128) -> i128 {
    let (whole, rest) = (sum / by, sum % by);
    match (2 * rest).cmp(&by) {
        std::cmp::Ordering::Greater => whole + 1,
        std::cmp::Ordering::Equal => whole + whole % 2,
        std::cmp::Ordering::Less => whole,
    }
}

impl PriceBook {
    /// Adds the price of a model from a time on. Replaces a price from the same time.
    pub fn add(&mut self, model: impl Into<String>, from: Timestamp, price: ModelPrice) {
        let prices = self.models.entry(model.into()).or_default();
        prices.retain(|(known, _)| *known != from);
        prices.push((from, price));
        prices.sort_by_key(|(from, _)| *from);
    }

    /// Returns the price of a model at a time: of `provider/model` if there is one, else of `model`, else of what follows the
    /// last slash in `model`.
    pub fn price(&self, provider: Option<&str>, model: &str, at: Timestamp) -> Option<&ModelPrice> {
        let of = |name: &str| {
            let prices = self.models.get(name)?;
            let since = prices.partition_point(|(from, _)| *from <= at);
            since.checked_sub(1).map(|newest| &prices[newest].1)
        };
        let qualified = provider.filter(|provider| !provider.is_empty()).map(|provider| format!("{provider}/{model}"));
        qualified
            .and_then(|name| of(&name))
            .or_else(|| of(model))
            .or_else(|| model.rsplit_once('/').and_then(|(_, bare)| of(bare)))
    }

    /// Returns the number of models with a price.
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// Returns whether no model has a price.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// Adds all prices of another book, which take precedence.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        for (model, prices) in other.models {
            for (from, price) in prices {
                self.add(model.as_str(), from, price);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn the_price_of_the_day_and_the_provider_counts() {
        let mut book = PriceBook::default();
        let day = |day: i64| Timestamp::from_secs(1_790_000_000 + day * 86_400);
        book.add("gpt", day(0), ModelPrice::new(usd("2"), usd("8")));
        book.add("gpt", day(10), ModelPrice::new(usd("1"), usd("4")));
        book.add("azure/gpt", day(0), ModelPrice::new(usd("3"), usd("9")));
        let input = |provider, model, at| book.price(provider, model, at).and_then(|price| price.input);
        assert_eq!(input(None, "gpt", day(9)), Some(usd("2")));
        assert_eq!(input(None, "gpt", day(10)), Some(usd("1")));
        assert_eq!(input(None, "gpt", day(-1)), None);
        assert_eq!(input(Some("azure"), "gpt", day(1)), Some(usd("3")));
        assert_eq!(input(Some("openai"), "gpt", day(1)), Some(usd("2")));
        assert_eq!(input(None, "openai/gpt", day(1)), Some(usd("2")));
        assert_eq!(input(None, "gpt-4", day(1)), None, "nothing is guessed");
    }

    #[test]
    fn a_kind_of_token_without_a_price_is_not_free() {
        let price = ModelPrice { input: Some(usd("1")), ..ModelPrice::default() };
        assert_eq!(price.cost(Tokens { input: 5, ..Tokens::default() }), Some(Usd::from_nanos(5_000)));
        assert_eq!(price.cost(Tokens { output: 1, ..Tokens::default() }), None);
        assert_eq!(
            ModelPrice::new(usd("9000000000"), usd("0")).cost(Tokens { input: u64::MAX, ..Tokens::default() }),
            None
        );
    }

    #[test]
    fn long_calls_and_cached_tokens_have_prices_of_their_own() {
        let above = BTreeMap::from([(200_000, ModelPrice::new(usd("4"), usd("16")))]);
        let price = ModelPrice { cached_input: Some(usd("0.5")), above, ..ModelPrice::new(usd("2"), usd("8")) };
        let cost = |input, cached_input| price.cost(Tokens { input, cached_input, ..Tokens::default() }).unwrap();
        assert_eq!(cost(200_000, 0), usd("0.4"));
        assert_eq!(cost(200_001, 0), usd("0.800004"));
        assert_eq!(cost(1_000_000 / 10, 50_000), usd("0.125"));
    }

    #[test]
    fn tokens_that_are_written_to_the_cache_have_a_price_of_their_own() {
        let price = ModelPrice {
            cached_input: Some(usd("0.3")),
            cache_write: Some(usd("3.75")),
            ..ModelPrice::new(usd("3"), usd("15"))
        };
        let cost = |cached_input, cache_write| {
            price.cost(Tokens { input: 100_000, cached_input, cache_write, output: 0 }).unwrap()
        };
        assert_eq!(cost(0, 0), usd("0.3"));
        assert_eq!(cost(0, 80_000), usd("0.36"));
        assert_eq!(cost(50_000, 40_000), usd("0.195"));
        assert_eq!(cost(90_000, 40_000), usd("0.0645"), "no more than all input tokens");
        let unknown = ModelPrice { cache_write: None, ..price.clone() };
        assert_eq!(unknown.cost(Tokens { input: 10, cache_write: 10, ..Tokens::default() }), Some(usd("0.00003")));
    }

    proptest! {
        /// A call is rounded once: the exact sum in nano-dollars and a millionth, by long division in floats of no rounding.
        #[test]
        fn a_call_is_rounded_once_half_to_even(input in 0u64..2_000_000, cached in 0u64..2_000_000, output in 0u64..2_000_000, prices in prop::array::uniform3(0i64..100_000_000_000)) {
            let [a, b, c] = prices.map(Usd::from_nanos);
            let price = ModelPrice { cached_input: Some(b), ..ModelPrice::new(a, c) };
            let found = price.cost(Tokens { input, cached_input: cached, output, ..Tokens::default() }).unwrap();
            let cached = cached.min(input);
            let exact = i128::from(input - cached) * i128::from(prices[0]) + i128::from(cached) * i128::from(prices[1]) + i128::from(output) * i128::from(prices[2]);
            let off = exact - i128::from(found.nanos()) * 1_000_000;
            prop_assert!(off.abs() <= 500_000);
            prop_assert!(off.abs() < 500_000 || found.nanos() % 2 == 0);
        }
    }
}
