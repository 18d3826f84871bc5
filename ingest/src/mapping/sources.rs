//! All mappings: the built-in ones and a user's folder, which may replace a built-in by using its name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Mapping, MappingError, nearest};
use crate::normalize::recognises;
use crate::split::{Piece, split};

/// Mappings by name.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    by_name: BTreeMap<String, Arc<Mapping>>,
}

/// So many records of a sample are looked at.
const SAMPLE_RECORDS_MAX: usize = 20;

impl Sources {
    /// The built-in mappings, and those of `user_folder` (every `*.toml` there is one).
    pub fn load(user_folder: Option<&Path>) -> Result<Sources, Vec<MappingError>> {
        let mut sources = Sources::default();
        let mut errors = Vec::new();
        for (name, text) in schemas::sources::BUILT_IN {
            sources.add(name, &format!("schemas/sources/{name}.toml"), text, &mut errors);
        }
        if let Some(folder) = user_folder {
            sources.add_folder(folder, &mut errors);
        }
        if errors.is_empty() { Ok(sources) } else { Err(errors) }
    }

    fn add_folder(&mut self, folder: &Path, errors: &mut Vec<MappingError>) {
        let file_error = |path: &Path, error: std::io::Error| MappingError {
            file: path.display().to_string(),
            line: 0,
            key: String::new(),
            message: error.to_string(),
        };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return errors.push(file_error(folder, error)),
        };
        let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
        paths
            .retain(|p| p.extension().is_some_and(|e| e == "toml") && !p.to_string_lossy().ends_with(".fixtures.toml"));
        paths.sort();
        for path in paths {
            let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            match std::fs::read_to_string(&path) {
                Ok(text) => self.add(&name, &path.display().to_string(), &text, errors),
                Err(error) => errors.push(file_error(&path, error)),
            }
        }
    }

    fn add(&mut self, name: &str, file: &str, text: &str, errors: &mut Vec<MappingError>) {
        match Mapping::parse(name, file, text) {
            Ok(mapping) => {
                self.by_name.insert(name.to_owned(), Arc::new(mapping));
            }
            Err(found) => errors.extend(found),
        }
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Mapping>> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Mapping>> {
        self.by_name.values()
    }

    /// The known name nearest to a mistyped one, as an addition to a message; empty where none is near.
    pub fn nearest(&self, name: &str) -> String {
        nearest(name, self.by_name.keys().map(String::as_str))
    }

    /// The mapping that recognises most records of a sample; among equals the one that asks for most.
    pub fn detect(&self, sample: &[u8]) -> Option<&Arc<Mapping>> {
        let mut best: Option<((usize, usize), &Arc<Mapping>)> = None;
        for mapping in self.iter() {
            let Piece { records, .. } = split(sample, mapping.array_keys());
            let records = records.iter().take(SAMPLE_RECORDS_MAX);
            let score = records
                .filter_map(|r| recognises(mapping, &sample[r.start..r.end]))
                .fold((0, 0), |sum, asked| (sum.0 + 1, sum.1 + asked));
            if score.0 > 0 && best.as_ref().is_none_or(|(found, _)| score > *found) {
                best = Some((score, mapping));
            }
        }
        best.map(|(_, mapping)| mapping)
    }
}
