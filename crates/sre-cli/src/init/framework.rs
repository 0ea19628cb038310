use std::path::Path;

use serde_json::Value;

/// A framework, and how its packages are named.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Framework {
    pub(super) name: &'static str,
    /// Packages, in lower case with hyphens. Those of npm begin with `npm:`.
    packages: &'static [&'static str],
    /// The module of its tap, and the line that calls it; `None` if it has OpenTelemetry instrumentation only.
    pub(super) tap: Option<(&'static str, &'static str)>,
}

const fn tapped(
    name: &'static str,
    packages: &'static [&'static str],
    module: &'static str,
    line: &'static str,
) -> Framework {
    Framework { name, packages, tap: Some((module, line)) }
}

const fn instrumented(name: &'static str, packages: &'static [&'static str]) -> Framework {
    Framework { name, packages, tap: None }
}

/// The frameworks that are recognised. If a file names several, the first is used: LangChain is a part of many others.
static FRAMEWORKS: [Framework; 18] = [
    tapped("LangGraph", &["langgraph"], "langgraph", "sre_taps.langgraph.tap()"),
    tapped("CrewAI", &["crewai"], "crewai", "sre_taps.crewai.tap()"),
    tapped("LlamaIndex", &["llama-index", "llama-index-core"], "llamaindex", "sre_taps.llamaindex.tap()"),
    tapped("AutoGen", &["autogen-agentchat"], "autogen", "sre_taps.autogen.tap(team)  # before its first run"),
    tapped("the OpenAI Agents SDK", &["openai-agents"], "openai_agents", "sre_taps.openai_agents.tap()"),
    tapped(
        "Semantic Kernel",
        &["semantic-kernel"],
        "semantic_kernel",
        "sre_taps.semantic_kernel.tap(kernel)  # once it has its services, before its first run",
    ),
    tapped(
        "Dify",
        &["dify-client"],
        "dify",
        "for line in sre_taps.dify.tap(lines): ...  # instead of `for line in lines`",
    ),
    instrumented("Pydantic AI", &["pydantic-ai", "pydantic-ai-slim"]),
    instrumented("smolagents", &["smolagents"]),
    instrumented("Google ADK", &["google-adk"]),
    instrumented("Strands Agents", &["strands-agents"]),
    instrumented("Agno", &["agno"]),
    instrumented("Haystack", &["haystack-ai"]),
    instrumented("Microsoft Agent Framework", &["agent-framework", "agent-framework-core"]),
    instrumented("the Claude Agent SDK", &["claude-agent-sdk", "npm:@anthropic-ai/claude-agent-sdk"]),
    tapped("LangChain", &["langchain", "langchain-core"], "langchain", "sre_taps.langchain.tap()"),
    instrumented("the Vercel AI SDK", &["npm:ai"]),
    instrumented(
        "a framework in JavaScript",
        &["npm:@openai/agents", "npm:@langchain/langgraph", "npm:@langchain/core"],
    ),
];

/// The files that name the packages of a project: those that people write first, because a lock file also names the packages
/// that others depend on.
const FILES: [&str; 13] = [
    "pyproject.toml",
    "Pipfile",
    "package.json",
    "requirements*.txt",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "pylock.toml",
    "Pipfile.lock",
    "package-lock.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
];

/// Returns the frameworks of the first file in a folder that names one, and the name of the file.
pub(super) fn find(folder: &Path) -> std::io::Result<Option<(String, Vec<&'static Framework>)>> {
    let entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
    let mut names = entries.collect::<std::io::Result<Vec<String>>>()?;
    names.sort();
    for pattern in FILES {
        for name in names.iter().filter(|name| matches(name, pattern)) {
            let text = String::from_utf8_lossy(&std::fs::read(folder.join(name))?).into_owned();
            let packages = packages(name, &text);
            let is_named =
                |framework: &&Framework| framework.packages.iter().any(|named| packages.contains(&(*named).to_owned()));
            let found: Vec<_> = FRAMEWORKS.iter().filter(is_named).collect();
            if !found.is_empty() {
                return Ok(Some((name.clone(), found)));
            }
        }
    }
    Ok(None)
}

/// Returns whether a file has a name; `*` is a wildcard.
fn matches(file: &str, name: &str) -> bool {
    match name.split_once('*') {
        Some((start, end)) => file.starts_with(start) && file.ends_with(end),
        None => file == name,
    }
}

/// Returns the packages that a file names. Of a file in Python's formats these are all words in it, apart from comments and
/// descriptions, since the names of frameworks are no other words.
fn packages(file: &str, text: &str) -> Vec<String> {
    match file {
        "package.json" | "package-lock.json" => {
            let manifest: Value = serde_json::from_str(text).unwrap_or_default();
            let dependencies = ["dependencies", "devDependencies", "packages"].map(|field| manifest[field].as_object());
            let names = dependencies.into_iter().flatten().flat_map(|packages| packages.keys());
            names.map(|name| format!("npm:{}", name.rsplit("node_modules/").next().unwrap_or(name))).collect()
        }
        "pnpm-lock.yaml" | "yarn.lock" | "bun.lock" => {
            text.lines().filter_map(locked).map(|name| format!("npm:{name}")).collect()
        }
        _ => text.lines().filter(|line| !is_description(file, line)).flat_map(words).collect(),
    }
}

/// Returns the package of a line such as `'@openai/agents@0.1.0':`, `ai@^5.0.0, ai@^5.1.0:` or `"ai": ["ai@5.0.0", …]`.
fn locked(line: &str) -> Option<&str> {
    let versions = line.split_once(": [").map_or(line, |(_, versions)| versions);
    let first = versions.split(',').next()?;
    first.trim().trim_matches(['\'', '"', ':']).rsplit_once('@').map(|(name, _)| name)
}

fn is_description(file: &str, line: &str) -> bool {
    const FIELDS: [&str; 3] = ["name", "description", "keywords"];
    file == "pyproject.toml" && FIELDS.iter().any(|field| line.starts_with(field))
}

/// Returns the words of a line that may be packages, as the index of packages spells them.
fn words(line: &str) -> impl Iterator<Item = String> {
    let code = line.split('#').next().unwrap_or_default();
    let is_part = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    code.split(move |character| !is_part(character)).map(|word| word.to_lowercase().replace(['_', '.'], "-"))
}
