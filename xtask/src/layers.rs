use anyhow::bail;
use cargo_metadata::{DependencyKind, MetadataCommand};

/// The layer of a crate, which may depend only on the layers in `allowed`. See `docs/architecture.md`.
struct Layer {
    matches: fn(&str) -> bool,
    allowed: &'static [&'static str],
}

const CORE: &str = "sre-core";
const TESTKIT: &str = "sre-testkit";
const HTTP: &str = "sre-http";
const OTLP: &str = "sre-otlp";
const SQLITE: &str = "sre-store-sqlite";

const LAYERS: [Layer; 5] = [
    Layer { matches: |name| name == CORE, allowed: &[] },
    Layer {
        matches: |name| matches!(name, "agent-sre" | "sre-server" | "sre-cli" | "sre-tests" | "xtask"),
        allowed: &["*"],
    },
    // The exporters' suite drives each of them through the outbox, with a spool in a file.
    Layer { matches: |name| name == TESTKIT, allowed: &[CORE, HTTP, SQLITE] },
    // Several backends take spans over OTLP.
    Layer { matches: |name| name.starts_with("sre-exporter-"), allowed: &[CORE, OTLP] },
    // Engines, adapters, stores and the HTTP client.
    Layer { matches: |_| true, allowed: &[CORE] },
];

pub(crate) fn check() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec()?;
    let members: Vec<String> = metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let mut forbidden = Vec::new();
    for package in metadata.workspace_packages() {
        let of_workspace = package.dependencies.iter().filter(|dependency| members.contains(&dependency.name));
        forbidden.extend(of_workspace.filter_map(|dependency| {
            forbidden_edge(&package.name, &dependency.name, dependency.kind == DependencyKind::Development)
        }));
    }
    if !forbidden.is_empty() {
        bail!("{}", forbidden.join("\n"));
    }
    eprintln!("no forbidden dependency among {} crates", members.len());
    Ok(())
}

/// Returns the error of a dependency between two crates of the workspace, if its layer does not allow it.
fn forbidden_edge(name: &str, on: &str, is_for_tests: bool) -> Option<String> {
    let layer = LAYERS.iter().find(|layer| (layer.matches)(name))?;
    let is_allowed = layer.allowed.iter().any(|allowed| matches!(*allowed, "*") || *allowed == on);
    let is_allowed = is_allowed || (is_for_tests && on == TESTKIT);
    (!is_allowed).then(|| format!("{name} depends on {on}, expected nothing but {:?}", layer.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_a_layer_does_not_allow_is_found() {
        for (name, on, is_for_tests) in [
            ("sre-core", "sre-slo", false),
            ("sre-core", "sre-testkit", false),
            ("sre-slo", "sre-alerts", false),
            ("sre-slo", "sre-alerts", true),
            ("sre-cost", "sre-testkit", false),
            ("sre-store-sqlite", "sre-http", false),
            ("sre-exporter-otlp", "sre-http", false),
            ("sre-exporter-otlp", "sre-exporter-langfuse", false),
            ("sre-slo", "sre-otlp", false),
            ("sre-testkit", "agent-sre", false),
            ("sre-new-engine", "agent-sre", false),
        ] {
            let error = forbidden_edge(name, on, is_for_tests);
            assert!(error.is_some_and(|error| error.starts_with(&format!("{name} depends on {on}, expected"))));
        }
        for (name, on, is_for_tests) in [
            ("sre-slo", "sre-core", false),
            ("sre-slo", "sre-testkit", true),
            ("sre-exporter-otlp", "sre-otlp", false),
            ("sre-testkit", "sre-http", false),
            ("agent-sre", "sre-slo", false),
            ("sre-server", "agent-sre", false),
        ] {
            assert_eq!(forbidden_edge(name, on, is_for_tests), None);
        }
    }
}
