//! All mappings: the built-in ones and a user's folder, which may replace a built-in by using its name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Mapping, MappingError, nearest, version_of};
use crate::normalize::recognises;
use crate::split::{Piece, split};

/// Mappings by name.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    by_name: BTreeMap<String, Arc<Mapping>>,
}

/// Where the files of the built-in mappings lie.
pub(crate) const BUILT_IN: &str = "schemas/sources/";
/// A longer file is no mapping.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// So many files of a folder are looked at.
const FILES_MAX: usize = 1000;

/// So many records of a sample are looked at.
const SAMPLE_RECORDS_MAX: usize = 20;

impl Sources {
    /// The built-in mappings, and those of `user_folder` (every `*.toml` there is one).
    pub fn load(user_folder: Option<&Path>) -> Result<Sources, Vec<MappingError>> {
        let (sources, errors) = Sources::load_good(user_folder, &Sources::default());
        if errors.is_empty() { Ok(sources) } else { Err(errors) }
    }

    /// All mappings that are right, and what is wrong with the others. Where a file is broken, its mapping in `before`
    /// stays; where it did not change, the mapping is the very one of `before`.
    pub fn load_good(user_folder: Option<&Path>, before: &Sources) -> (Sources, Vec<MappingError>) {
        let mut sources = Sources::default();
        let mut errors = Vec::new();
        for (name, text) in schemas::sources::BUILT_IN {
            sources.add(name, &format!("{BUILT_IN}{name}.toml"), text, before, &mut errors);
        }
        if let Some(folder) = user_folder {
            sources.add_folder(folder, before, &mut errors);
        }
        (sources, errors)
    }

    fn add_folder(&mut self, folder: &Path, before: &Sources, errors: &mut Vec<MappingError>) {
        let file_error =
            |path: &Path, error: std::io::Error| MappingError::of_file(&path.display().to_string(), error.to_string());
        let paths = match mapping_files(folder) {
            Ok(paths) => paths,
            Err(error) => {
                let own = before.by_name.iter().filter(|(_, mapping)| !mapping.is_built_in());
                self.by_name.extend(own.map(|(name, mapping)| (name.clone(), mapping.clone())));
                return errors.push(file_error(folder, error));
            }
        };
        for path in paths {
            let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            match read(&path) {
                Ok(text) => self.add(&name, &path.display().to_string(), &text, before, errors),
                Err(error) => {
                    self.keep(&name, before);
                    errors.push(file_error(&path, error));
                }
            }
        }
    }

    fn add(&mut self, name: &str, file: &str, text: &str, before: &Sources, errors: &mut Vec<MappingError>) {
        let version = version_of(text);
        if before.get(name).is_some_and(|known| known.file() == file && known.version() == version) {
            return self.keep(name, before);
        }
        match Mapping::parse(name, file, text) {
            Ok(mapping) => {
                self.by_name.insert(name.to_owned(), Arc::new(mapping));
            }
            Err(found) => {
                self.keep(name, before);
                errors.extend(found);
            }
        }
    }

    fn keep(&mut self, name: &str, before: &Sources) {
        if let Some(mapping) = before.get(name) {
            self.by_name.insert(name.to_owned(), mapping.clone());
        }
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Mapping>> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Mapping>> {
        self.by_name.values()
    }

    /// Whether both hold the very same mappings.
    pub(crate) fn same(&self, other: &Sources) -> bool {
        let pairs = self.by_name.iter().zip(&other.by_name);
        self.by_name.len() == other.by_name.len() && { pairs }.all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
    }

    /// The names of all sources.
    pub fn names(&self) -> Vec<&str> {
        self.by_name.keys().map(String::as_str).collect()
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

/// The mapping files of a folder, by name.
pub(crate) fn mapping_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") && !path.to_string_lossy().ends_with(".fixtures.toml") {
            paths.push(path);
        }
    }
    if paths.len() > FILES_MAX {
        return Err(io::Error::other(format!(
            "the folder has {} mapping files, the limit is {FILES_MAX}",
            paths.len()
        )));
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> io::Result<String> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("the file has {bytes} bytes, the limit is {FILE_BYTES_MAX}")));
    }
    std::fs::read_to_string(path)
}
