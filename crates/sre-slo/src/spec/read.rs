use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sre_core::yaml::{ConfigError, Kind, Node, documents};

use super::error::DocumentErrors;
use super::resolve::{Locations, SourceLocation, resolve_located};
use super::{SloSpec, SpecError, SpecErrors, objective, openslo};
use crate::SliRegistry;

/// Reads objectives from YAML text, in this crate's format and in OpenSLO. `file` is its name in error messages.
///
/// # Errors
///
/// Returns every error, with line and field.
pub fn parse(text: &str, file: &str, registry: &SliRegistry) -> Result<Vec<SloSpec>, SpecErrors> {
    let mut loaded = Loaded::default();
    loaded.read(text, file, registry);
    loaded.resolve()
}

/// Reads objectives from files, and from the `.yaml` and `.yml` files in directories. They may inherit from each other.
///
/// # Errors
///
/// Returns every error of every file, with line and field: invalid content, unreadable paths, and paths without an objective
/// ([`SpecError::Empty`]).
pub fn load(paths: &[impl AsRef<Path>], registry: &SliRegistry) -> Result<Vec<SloSpec>, SpecErrors> {
    let mut loaded = Loaded::default();
    for path in paths {
        loaded.read_path(path.as_ref(), registry);
    }
    loaded.resolve()
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

/// What has been read so far, before inheritance.
#[derive(Default)]
struct Loaded {
    /// The objectives, also those with errors, from which others may inherit.
    specs: Vec<SloSpec>,
    locations: Locations,
    /// The names of objectives with errors.
    invalid: BTreeSet<String>,
    errors: Vec<SpecError>,
}

/// Returns the documents of a list of OpenSLO documents, as the official SDK reads it; any other document alone.
fn of_list(document: Node) -> Vec<Node> {
    match document.kind {
        Kind::List(items) if items.iter().all(|item| item.entry("apiVersion").is_some()) => items,
        _ => vec![document],
    }
}

impl Loaded {
    fn read_path(&mut self, path: &Path, registry: &SliRegistry) {
        let before = (self.specs.len(), self.errors.len());
        match files_of(path) {
            Ok(files) => files.iter().for_each(|file| self.read_file(file, registry)),
            Err(error) => self.errors.push(error),
        }
        if before == (self.specs.len(), self.errors.len()) {
            self.errors.push(SpecError::Empty { path: path.to_owned() });
        }
    }

    fn read_file(&mut self, file: &Path, registry: &SliRegistry) {
        match fs::read_to_string(file) {
            Ok(text) => self.read(&text, &file.display().to_string(), registry),
            Err(source) => self.errors.push(SpecError::Io { path: file.to_owned(), source }),
        }
    }

    fn read(&mut self, text: &str, file: &str, registry: &SliRegistry) {
        let documents: Vec<Node> = match documents(text, file) {
            Ok(documents) => documents.into_iter().flat_map(of_list).collect(),
            Err(error) => return self.errors.push(error.into()),
        };
        let (external, own): (Vec<&Node>, Vec<&Node>) =
            documents.iter().partition(|node| node.entry("apiVersion").is_some());
        for document in own {
            let parent_line = document.entry("inherits_from").map_or(document.line, |(key, _)| key.line);
            let location = SourceLocation { file: file.to_owned(), line: document.line, parent_line };
            let mut errors = DocumentErrors::default();
            if let Some(spec) = objective::slo(document, file, registry, &mut errors) {
                if !errors.is_empty() {
                    self.invalid.insert(spec.name.clone());
                }
                self.add(spec, location, &mut errors);
            }
            self.errors.extend(errors.into_sorted());
        }
        if let Some(first) = external.first() {
            let location = SourceLocation { file: file.to_owned(), line: first.line, parent_line: first.line };
            let values: Vec<(u64, Value)> = external.iter().map(|node| (node.line, node.to_value())).collect();
            let mut errors = DocumentErrors::default();
            for spec in openslo::import(&values, file, registry, &mut errors) {
                self.add(spec, location.clone(), &mut errors);
            }
            self.errors.extend(errors.into_sorted());
        }
    }

    fn add(&mut self, spec: SloSpec, location: SourceLocation, errors: &mut DocumentErrors) {
        if let Some(first) = self.locations.get(&spec.name) {
            let (name, at) = (&spec.name, format!("{}:{}", first.file, first.line));
            let message =
                format!("`name: {name}`: found a second objective with this name (the first is at {at}), expected one");
            errors.extend([ConfigError::document(&location.file, location.line, message)]);
            return;
        }
        self.locations.insert(spec.name.clone(), location);
        self.specs.push(spec);
    }

    fn resolve(mut self) -> Result<Vec<SloSpec>, SpecErrors> {
        let specs = resolve_located(&self.specs, &self.locations, &self.invalid, &mut self.errors);
        SpecErrors::check(self.errors, specs)
    }
}
