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
        let name = package.name.as_str();
        let Some(layer) = LAYERS.iter().find(|layer| (layer.matches)(name)) else { continue };
        for dependency in package.dependencies.iter().filter(|dependency| members.contains(&dependency.name)) {
            let on = dependency.name.as_str();
            let in_tests = dependency.kind == DependencyKind::Development && on == TESTKIT;
            if !in_tests && !layer.allowed.iter().any(|allowed| matches!(*allowed, "*") || *allowed == on) {
                forbidden.push(format!("{name} depends on {on}, expected nothing but {:?}", layer.allowed));
            }
        }
    }
    if !forbidden.is_empty() {
        bail!("{}", forbidden.join("\n"));
    }
    eprintln!("no forbidden dependency among {} crates", members.len());
    Ok(())
}
