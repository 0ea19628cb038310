//! `sre init` finds the framework, and writes files that the other commands accept.

use std::path::Path;
use std::process::{Command, Output};

fn sre(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sre")).args(arguments).current_dir(folder).output().unwrap()
}

fn init(folder: &Path) -> String {
    let output = sre(folder, &["init"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_written_is_valid_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    assert!(init(folder.path()).starts_with("slo.yaml: written\nsre.yaml: written\n"));
    for arguments in [&["config", "check"][..], &["slo", "validate", "slo.yaml"]] {
        let output = sre(folder.path(), arguments);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && printed.contains('2'),
            "{printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mine = "name: mine\ntarget: 99%\n";
    std::fs::write(folder.path().join("slo.yaml"), mine).unwrap();
    std::fs::remove_file(folder.path().join("sre.yaml")).unwrap();
    assert!(init(folder.path()).starts_with("slo.yaml: exists already, left as it is\nsre.yaml: written\n"));
    assert_eq!(std::fs::read_to_string(folder.path().join("slo.yaml")).unwrap(), mine);
}

#[test]
fn the_framework_of_a_project_is_found_in_its_files() {
    const NPM: &str = r#"{"name":"x","keywords":["langgraph"],"dependencies":{"ai":"^5.0.0","openai":"^5"}}"#;
    const PYPROJECT: &str = "[project]\nname = \"autogen-agentchat\"\ndescription = \"no semantic-kernel\"\n";
    for (file, text, found, line) in [
        (
            "uv.lock",
            "[[package]]\nname = \"langgraph\"\nversion = \"1.0.1\"\n",
            "LangGraph",
            "sre_taps.langgraph.tap()",
        ),
        ("poetry.lock", "[[package]]\nname = \"crewai\"\n", "CrewAI", "sre_taps.crewai.tap()"),
        ("requirements.txt", "Llama_Index>=0.14 # not crewai\n", "LlamaIndex", "sre_taps.llamaindex.tap()"),
        (
            "requirements-dev.txt",
            "semantic-kernel[mcp]==1.2\n",
            "Semantic Kernel",
            "sre_taps.semantic_kernel.tap(kernel)",
        ),
        (
            "Pipfile.lock",
            r#"{"default":{"openai-agents":{}}}"#,
            "the OpenAI Agents SDK",
            "sre_taps.openai_agents.tap()",
        ),
        (
            "pyproject.toml",
            "dependencies = [\"langchain>=1\", \"dify-client\"]\n",
            "Dify, with LangChain",
            "for line in sre_taps.dify.tap(lines):",
        ),
        (
            "pyproject.toml",
            "[tool.poetry.dependencies]\nautogen-agentchat = \"^0.7\"\n",
            "AutoGen",
            "sre_taps.autogen.tap(team)",
        ),
        ("requirements.txt", "langchain==1.0\nlangchain-core\n", "LangChain\n", "sre_taps.langchain.tap()"),
        ("requirements.txt", "pydantic-ai\n", "Pydantic AI", "OTEL_EXPORTER_OTLP_ENDPOINT="),
        ("package.json", NPM, "the Vercel AI SDK", "OTEL_EXPORTER_OTLP_ENDPOINT="),
        (
            "package-lock.json",
            r#"{"packages":{"":{},"node_modules/ai":{}}}"#,
            "the Vercel AI SDK",
            "OTEL_EXPORTER_OTLP_ENDPOINT=",
        ),
        (
            "pnpm-lock.yaml",
            "packages:\n  '@openai/agents@0.1.0':\n",
            "a framework in JavaScript",
            "OTEL_EXPORTER_OTLP_ENDPOINT=",
        ),
        ("pdm.lock", "[[package]]\nname = \"crewai\"\n", "CrewAI", "pip install ./crates/sre-cli"),
        ("pylock.toml", "[[packages]]\nname = \"crewai\"\n", "CrewAI", "sre_taps.crewai.tap()"),
        (
            "yarn.lock",
            "\"@openai/agents@npm:^0.1.0, @openai/agents@npm:^0.2.0\":\n",
            "a framework in JavaScript",
            "OTEL_EXPORTER_OTLP_ENDPOINT=",
        ),
        ("yarn.lock", "ai@^5.0.0, ai@^5.1.0:\n", "the Vercel AI SDK", "OTEL_EXPORTER_OTLP_ENDPOINT="),
        (
            "bun.lock",
            "{\n  \"packages\": {\n    \"ai\": [\"ai@5.0.0\", \"\", {}],\n",
            "the Vercel AI SDK",
            "OTEL_EXPORTER_OTLP_ENDPOINT=",
        ),
        ("pyproject.toml", PYPROJECT, "no framework found", "OTEL_EXPORTER_OTLP_ENDPOINT="),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(file), text).unwrap();
        let printed = init(folder.path());
        assert!(printed.contains(found) && printed.contains(line), "{file}: {text}\n{printed}");
    }
}

/// A lock file also names the packages that others depend on.
#[test]
fn what_people_write_counts_before_a_lock_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("uv.lock"), "name = \"langgraph\"\nname = \"langchain\"\n").unwrap();
    std::fs::write(folder.path().join("pyproject.toml"), "dependencies = [\n    \"langchain>=1\",\n]\n").unwrap();
    let printed = init(folder.path());
    assert!(printed.contains("pyproject.toml: the agent uses LangChain\n"), "{printed}");
}
