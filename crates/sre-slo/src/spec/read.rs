use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sre_core::yaml::{ConfigError, Kind, Node, documents};

use super::resolve::{Locations, SourceLocation, resolve_located};
use super::{SloSpec, SpecError, objective, openslo};
use crate::SliRegistry;

/// Reads objectives from YAML text, in this crate's format and in OpenSLO. `file` is its name in error messages.
///
/// # Errors
///
/// Returns an error with the line and field that is invalid.
pub fn parse(text: &str, file: &str, registry: &SliRegistry) -> Result<Vec<SloSpec>, SpecError> {
    let mut loaded = Loaded::default();
    loaded.read(text, file, registry)?;
    resolve_located(&loaded.specs, &loaded.locations)
}

/// Reads objectives from files, and from the `.yaml` and `.yml` files in directories. They may inherit from each other.
///
/// # Errors
///
/// Returns an error if a file cannot be read or is invalid.
pub fn load(paths: &[impl AsRef<Path>], registry: &SliRegistry) -> Result<Vec<SloSpec>, SpecError> {
    let mut loaded = Loaded::default();
    for path in paths {
        for file in files_of(path.as_ref())? {
            let text = fs::read_to_string(&file).map_err(|source| SpecError::Io { path: file.clone(), source })?;
            loaded.read(&text, &file.display().to_string(), registry)?;
        }
    }
    resolve_located(&loaded.specs, &loaded.locations)
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, SpecError> {
    let io = |source| SpecError::Io { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(io)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// The objectives read so far, before inheritance, and their locations.
#[derive(Default)]
struct Loaded {
    specs: Vec<SloSpec>,
    locations: Locations,
}

/// Returns the documents of a list of OpenSLO documents, as the official SDK reads it; any other document alone.
fn of_list(document: Node) -> Vec<Node> {
    match document.kind {
        Kind::List(items) if items.iter().all(|item| item.entry("apiVersion").is_some()) => items,
        _ => vec![document],
    }
}

impl Loaded {
    fn read(&mut self, text: &str, file: &str, registry: &SliRegistry) -> Result<(), SpecError> {
        let documents: Vec<Node> = documents(text, file)?.into_iter().flat_map(of_list).collect();
        let (external, own): (Vec<&Node>, Vec<&Node>) =
            documents.iter().partition(|node| node.entry("apiVersion").is_some());
        for document in own {
            let parent_line = document.entry("inherits_from").map_or(document.line, |(key, _)| key.line);
            let location = SourceLocation { file: file.to_owned(), line: document.line, parent_line };
            self.add(objective::slo(document, file, registry)?, location)?;
        }
        if let Some(first) = external.first() {
            let location = SourceLocation { file: file.to_owned(), line: first.line, parent_line: first.line };
            let values: Vec<(u64, Value)> = external.iter().map(|node| (node.line, node.to_value())).collect();
            for spec in openslo::import(&values, file, registry)? {
                self.add(spec, location.clone())?;
            }
        }
        Ok(())
    }

    fn add(&mut self, spec: SloSpec, location: SourceLocation) -> Result<(), SpecError> {
        let (file, line) = (location.file.clone(), location.line);
        if let Some(first) = self.locations.insert(spec.name.clone(), location) {
            let (name, at) = (&spec.name, format!("{}:{}", first.file, first.line));
            let message =
                format!("`name: {name}`: found a second objective with this name (the first is at {at}), expected one");
            return Err(ConfigError::Document { file, line, message }.into());
        }
        self.specs.push(spec);
        Ok(())
    }
}
