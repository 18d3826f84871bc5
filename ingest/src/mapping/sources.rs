//! All mappings: the built-in ones and a user's folder, which may replace a built-in by using its name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Mapping, MappingError, nearest, version_of};
use crate::normalize::{Likeness, recognises};
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
/// So many sources are named as having come close.
const CLOSE_MAX: usize = 3;

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

    /// Whose records a sample holds: the mapping that recognises most of them; among equals the one that asks for most.
    pub fn detect(&self, sample: &[u8]) -> Detection<'_> {
        let mut found: Vec<((usize, usize), &Arc<Mapping>)> = Vec::new();
        let mut close: Vec<(Likeness, &Arc<Mapping>)> = Vec::new();
        for mapping in self.iter() {
            let Piece { records, .. } = split(sample, mapping.array_keys());
            let likenesses: Vec<Likeness> =
                records.iter().take(SAMPLE_RECORDS_MAX).map(|r| recognises(mapping, &sample[r.start..r.end])).collect();
            let own = likenesses.iter().filter(|l| l.is_own).fold((0, 0), |sum, l| (sum.0 + 1, sum.1 + l.asked));
            if own.0 > 0 {
                found.push((own, mapping));
            }
            close.extend(likenesses.into_iter().max().filter(|l| l.met > 0).map(|l| (l, mapping)));
        }
        let best = found.iter().map(|(score, _)| *score).max();
        found.retain(|(score, _)| Some(*score) == best);
        match found[..] {
            [(_, mapping)] => Detection::One(mapping),
            [] => {
                close.sort_by_key(|(l, _)| (l.asked - l.met, usize::MAX - l.met));
                close.truncate(CLOSE_MAX);
                Detection::None(close.into_iter().map(|(l, m)| (m, l.met, l.asked)).collect())
            }
            _ => Detection::Ambiguous(found.into_iter().map(|(_, mapping)| mapping).collect()),
        }
    }
}

/// Whose records a sample holds.
#[derive(Clone, Debug)]
pub enum Detection<'a> {
    One(&'a Arc<Mapping>),
    /// Several mappings fit equally well.
    Ambiguous(Vec<&'a Arc<Mapping>>),
    /// None fits; those that came close, with how many of how many conditions held.
    None(Vec<(&'a Arc<Mapping>, usize, usize)>),
}

impl<'a> Detection<'a> {
    pub fn one(&self) -> Option<&'a Arc<Mapping>> {
        match self {
            Detection::One(mapping) => Some(mapping),
            _ => None,
        }
    }
}

/// Why no source was found, for the one who sent the records.
impl std::fmt::Display for Detection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Detection::One(mapping) => write!(f, "these are records of `{}`", mapping.name()),
            Detection::Ambiguous(fitting) => {
                let names: Vec<String> = fitting.iter().map(|m| format!("`{}`", m.name())).collect();
                write!(f, "the records fit {} equally well; name the source", names.join(" and "))
            }
            Detection::None(close) if close.is_empty() => f.write_str("no source recognises these records; name one"),
            Detection::None(close) => {
                let near: Vec<String> =
                    close.iter().map(|(m, met, of)| format!("`{}` ({met} of {of} telling fields)", m.name())).collect();
                write!(f, "no source recognises these records; closest: {}; name one", near.join(", "))
            }
        }
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
