//! All versions of the GenAI conventions give the same events.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{failed, finished, model_calls, read, span};

#[test]
fn old_and_new_names_of_the_gen_ai_conventions() {
    let old = json!({
        "gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "gpt-4",
        "gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 3,
    });
    let new = json!({
        "gen_ai.operation.name": "generate_content", "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "asked", "gen_ai.response.model": "answered",
        "gen_ai.usage.input_tokens": 70, "gen_ai.usage.output_tokens": 30, "gen_ai.usage.cache_read.input_tokens": 50,
        "gen_ai.usage.cache_creation.input_tokens": 15,
    });
    let root =
        span(1, 0, "root", 0, 900, json!({"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "flow"}));
    let events = read(&[root, span(2, 1, "old", 1, 2, old), span(3, 1, "new", 3, 4, new)]);
    let calls: Vec<_> = model_calls(&events)
        .into_iter()
        .filter_map(|call| {
            let of_cache = (call.cached_input_tokens, call.cache_write_input_tokens);
            let tokens = (call.input_tokens, of_cache, call.output_tokens);
            Some((call.model.as_deref()?, call.provider.as_deref()?, tokens))
        })
        .collect();
    assert_eq!(calls, [("gpt-4", "openai", (7, (0, 0), 3)), ("answered", "gcp.gemini", (70, (50, 15), 30))]);
    assert_eq!(finished(&events), [("flow", true, false)]);
}

/// What version 0.1.0 of the conventions' own repository renamed, and what versions before had renamed.
#[test]
fn each_attribute_is_read_by_all_its_names() {
    for (operation, names, value) in [
        ("chat", &["gen_ai.provider.name", "gen_ai.system"][..], json!("openai")),
        ("chat", &["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"], json!(70)),
        ("chat", &["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"], json!(30)),
        ("chat", &["gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"], json!(50)),
        (
            "chat",
            &[
                "gen_ai.usage.cache_write.input_tokens",
                "gen_ai.usage.cache_creation.input_tokens",
                "gen_ai.usage.cache_creation_input_tokens",
            ],
            json!(15),
        ),
        ("invoke_workflow", &["gen_ai.agent.name", "gen_ai.workflow.name"], json!("flow")),
    ] {
        let root = span(1, 0, "root", 0, 900, json!({"gen_ai.operation.name": "invoke_agent"}));
        let of = |attributes: Value| read(&[root.clone(), span(2, 1, "part", 1, 2, attributes)]);
        let named = |name: &str| of(json!({"gen_ai.operation.name": operation, name: value}));
        let without = of(json!({"gen_ai.operation.name": operation}));
        for name in names {
            assert_ne!(named(name), without, "{name} is read");
            assert_eq!(named(name), named(names[0]), "{name}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Generation {
    /// 1.26 of the general repository.
    First,
    /// 1.41 of the general repository.
    Second,
    /// 0.1.0 of the conventions' own repository.
    Third,
}

#[derive(Clone, Debug)]
struct Part {
    operation: &'static str,
    parent: prop::sample::Index,
    failed: bool,
    number: u32,
}

impl Part {
    fn attributes(&self, generation: Generation) -> Value {
        let mut attributes = json!({"gen_ai.operation.name": self.operation});
        let mut add = |names: [Option<&str>; 3], value: Value| {
            if let Some(name) = names[generation as usize] {
                attributes[name] = value;
            }
        };
        let (number, text) = (json!(self.number), json!(format!("n{}", self.number)));
        let (provider, system) = (Some("gen_ai.provider.name"), Some("gen_ai.system"));
        let (read, write) =
            (Some("gen_ai.usage.cache_read.input_tokens"), Some("gen_ai.usage.cache_write.input_tokens"));
        let (input, output) = (Some("gen_ai.usage.input_tokens"), Some("gen_ai.usage.output_tokens"));
        let creation = Some("gen_ai.usage.cache_creation.input_tokens");
        match self.operation {
            "chat" => {
                add([system, provider, provider], text);
                add([Some("gen_ai.usage.prompt_tokens"), input, input], number.clone());
                add([Some("gen_ai.usage.completion_tokens"), output, output], number.clone());
                add([Some("gen_ai.usage.cache_read_input_tokens"), read, read], number.clone());
                add([Some("gen_ai.usage.cache_creation_input_tokens"), creation, write], number);
            }
            "execute_tool" => add([Some("gen_ai.tool.name"); 3], text),
            "invoke_workflow" => add([Some("gen_ai.workflow.name"), Some("gen_ai.workflow.name"), AGENT], text),
            "invoke_agent" => {
                add([AGENT; 3], text.clone());
                add([Some("gen_ai.agent.id"), Some("gen_ai.agent.id"), None], text.clone());
                add([None, Some("gen_ai.agent.version"), None], text.clone());
                add([system, provider, None], text);
                add([None, read, None], number.clone());
                add([None, creation, None], number.clone());
                add([None, input, input], number);
            }
            _ => {}
        }
        attributes
    }
}

const AGENT: Option<&str> = Some("gen_ai.agent.name");

fn part() -> impl Strategy<Value = Part> {
    let operation = prop::sample::select(vec!["chat", "execute_tool", "invoke_workflow", "invoke_agent", "embeddings"]);
    (operation, any::<prop::sample::Index>(), any::<bool>(), 0..1_000_u32)
        .prop_map(|(operation, parent, failed, number)| Part { operation, parent, failed, number })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_generations_of_a_trace_give_the_same_events(parts in prop::collection::vec(part(), 1..12)) {
        let of = |generation: Generation| {
            let spans: Vec<Value> = parts.iter().enumerate().map(|(index, part)| {
                let (id, at) = (index as u32 + 1, index as u64);
                let parent = if index == 0 { 0 } else { part.parent.index(index) as u32 + 1 };
                let span = span(id, parent, part.operation, at, 900 - at, part.attributes(generation));
                if part.failed { failed(span) } else { span }
            }).collect();
            read(&spans)
        };
        let newest = of(Generation::Third);
        prop_assert!(!newest.is_empty());
        prop_assert_eq!(&of(Generation::First), &newest);
        prop_assert_eq!(&of(Generation::Second), &newest);
    }
}
