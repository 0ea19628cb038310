use std::collections::BTreeMap;

use sre_core::{Timestamp, Usd};

use crate::price::{ModelPrice, PriceBook};

/// The date of the list, `# as of DATE`, and dollars per million tokens: `provider,model,input,cached_input,cache_write,output`.
/// Written by `cargo xtask prices` from LiteLLM's price map (MIT licence).
const PRICES: &str = include_str!("public_prices.csv");

impl PriceBook {
    /// When the providers' public list prices of [`public`](Self::public) were collected, as stated in the list.
    pub const PUBLIC_AS_OF: &str = as_of(PRICES);

    /// Returns the public list prices of the main providers, for all times. A model is found by its name with and without the
    /// provider in front.
    ///
    /// ```
    /// use sre_core::Timestamp;
    /// use sre_cost::{PriceBook, Tokens};
    /// let prices = PriceBook::public();
    /// let price = prices.price(Some("openai"), "gpt-4o-mini", Timestamp::default()).unwrap();
    /// assert_eq!(price.cost(Tokens::new(1_000, 500)).unwrap().to_string(), "0.00045");
    /// ```
    pub fn public() -> Self {
        let mut book = Self::default();
        let mut bare: BTreeMap<&str, Vec<ModelPrice>> = BTreeMap::new();
        for (model, price) in PRICES.lines().skip(2).filter_map(row) {
            if let Some((_, name)) = model.rsplit_once('/') {
                bare.entry(name).or_default().push(price.clone());
            }
            book.add(model, Timestamp::default(), price);
        }
        // A name that several providers charge differently for is ambiguous without its provider.
        for (name, prices) in bare {
            let is_clear = prices.windows(2).all(|pair| pair[0] == pair[1]);
            if is_clear && book.price(None, name, Timestamp::default()).is_none() {
                book.add(name, Timestamp::default(), prices[0].clone());
            }
        }
        book
    }
}

/// Returns the date in the first line of a list, after `# as of `.
const fn as_of(list: &str) -> &str {
    let (before, rest) = list.split_at(8);
    assert!(matches!(before.as_bytes(), b"# as of "), "expected `# as of DATE` in the first line");
    let mut length = 0;
    while rest.as_bytes()[length] != b'\n' {
        length += 1;
    }
    rest.split_at(length).0
}

fn row(line: &str) -> Option<(&str, ModelPrice)> {
    let mut fields = line.split(',').skip(1);
    let model = fields.next()?;
    let mut price = || fields.next().and_then(|price| price.parse::<Usd>().ok());
    let (input, cached_input, cache_write, output) = (price(), price(), price(), price());
    Some((model, ModelPrice { input, cached_input, cache_write, output, ..ModelPrice::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_price() {
        for line in PRICES.lines().skip(2) {
            let (model, price) = row(line).unwrap_or_else(|| panic!("{line}"));
            assert!(!model.is_empty() && price.input.or(price.output).is_some(), "{line}");
            assert_eq!(line.split(',').count(), 6, "{line}");
        }
    }

    #[test]
    fn the_list_has_the_date_in_its_first_line() {
        assert_eq!(PRICES.lines().next(), Some(&*format!("# as of {}", PriceBook::PUBLIC_AS_OF)));
        assert!(PRICES.lines().nth(1).is_some_and(|header| header.starts_with("provider,model,input")));
    }

    #[test]
    fn models_are_found_as_telemetry_names_them() {
        let book = PriceBook::public();
        let input =
            |provider, model| book.price(provider, model, Timestamp::default())?.input.map(|usd| usd.to_string());
        for (provider, model, expected) in [
            (None, "gpt-4o-mini", "0.15"),
            (Some("openai"), "gpt-4o-mini", "0.15"),
            (None, "gemini-2.5-pro", "1.25"),
            (Some("google"), "gemini/gemini-2.5-pro", "1.25"),
            (Some("anthropic"), "claude-sonnet-4-5", "3"),
        ] {
            assert_eq!(input(provider, model).as_deref(), Some(expected), "{provider:?} {model}");
        }
        assert_eq!(input(None, "my-own-model"), None);
        let claude = book.price(Some("anthropic"), "claude-sonnet-4-5", Timestamp::default()).unwrap();
        assert_eq!(claude.cache_write.map(|usd| usd.to_string()).as_deref(), Some("3.75"));
    }
}
