use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value};

/// Providers whose models' prices are built in.
const PROVIDERS: [&str; 14] = [
    "anthropic",
    "azure",
    "bedrock",
    "bedrock_converse",
    "cohere_chat",
    "deepseek",
    "gemini",
    "groq",
    "mistral",
    "moonshot",
    "openai",
    "perplexity",
    "xai",
    "zai",
];
const FIELDS: [&str; 4] =
    ["input_cost_per_token", "cache_read_input_token_cost", "cache_creation_input_token_cost", "output_cost_per_token"];

/// Writes the built-in price list from LiteLLM's price map, `model_prices_and_context_window.json`. Its date is the day on which the
/// map was last modified.
pub(crate) fn run(map: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(map).with_context(|| map.display().to_string())?;
    let models: Map<String, Value> = serde_json::from_str(&text).with_context(|| map.display().to_string())?;
    let mut rows: Vec<String> = models.iter().filter_map(|(model, entry)| row(model, entry)).collect();
    let modified = jiff::Timestamp::try_from(std::fs::metadata(map)?.modified()?)?;
    let day = modified.to_zoned(jiff::tz::TimeZone::UTC).date();
    rows.sort_by(|a, b| a.split(',').nth(1).cmp(&b.split(',').nth(1)));
    let list = format!("# as of {day}\nprovider,model,input,cached_input,cache_write,output\n{}\n", rows.join("\n"));
    std::fs::write("crates/sre-cost/src/public_prices.csv", list)?;
    println!("{} models, as of {day}", rows.len());
    Ok(())
}

fn row(model: &str, entry: &Value) -> Option<String> {
    let provider = entry["litellm_provider"].as_str().filter(|provider| PROVIDERS.contains(provider))?;
    let prices = FIELDS.map(|field| entry[field].as_f64());
    if prices[0].or(prices[3]).is_none() || prices.iter().flatten().sum::<f64>() <= 0.0 || model.contains(',') {
        return None;
    }
    let per_million = prices.map(|price| price.map_or_else(String::new, |price| decimal(price * 1e6)));
    Some(format!("{provider},{model},{}", per_million.join(",")))
}

/// Formats dollars to the nano-dollar.
fn decimal(dollars: f64) -> String {
    format!("{dollars:.9}").trim_end_matches('0').trim_end_matches('.').to_owned()
}
