//! The shape of the workspace: which crate may import which, and what the pure crates must not touch.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders and what each may import, as ARCHITECTURE.md says.
const EDGES: &[(&str, &[&str])] = &[
    ("schemas", &[]),
    ("lake", &["schemas"]),
    ("ingest", &["schemas", "lake"]),
    ("detect", &["schemas"]),
    ("respond", &["schemas", "lake"]),
    ("query", &["schemas", "lake"]),
    ("benches", &["schemas", "detect"]),
    ("muster", &["schemas", "lake", "ingest", "detect", "respond", "query", "benches"]),
];

/// What a pure crate's code must not name: IO, clocks, async, threads that outlive a call, the environment, chance.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::process",
    "thread::sleep",
    "thread::spawn",
    "SystemTime",
    "Instant::now",
    "Utc::now",
    "tokio",
    "async fn",
    ".await",
    "getrandom",
    "fastrand",
    "println!",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above").to_owned()
}

fn dependencies(krate: &str, section: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("each crate has a manifest");
    let manifest: toml::Table = text.parse().expect("a manifest is TOML");
    let table = manifest.get(section).and_then(toml::Value::as_table);
    table.into_iter().flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn crates_import_only_downwards() {
    let all: Vec<&str> = EDGES.iter().map(|(krate, _)| *krate).collect();
    for (krate, allowed) in EDGES {
        for dependency in dependencies(krate, "dependencies") {
            let inner = all.contains(&dependency.as_str());
            assert!(!inner || allowed.contains(&dependency.as_str()), "{krate} must not import {dependency}");
        }
    }
}

#[test]
fn every_folder_with_a_manifest_is_in_the_table() {
    for entry in fs::read_dir(root()).expect("the root is readable") {
        let path = entry.expect("an entry").path();
        if path.join("Cargo.toml").exists() {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(EDGES.iter().any(|(krate, _)| *krate == name), "{name} is not in the table of edges");
        }
    }
}

#[test]
fn schemas_and_detect_are_pure() {
    for krate in ["schemas", "detect"] {
        for dependency in dependencies(krate, "dependencies") {
            assert!(!["tokio", "reqwest", "object_store", "getrandom", "fastrand"].contains(&dependency.as_str()));
        }
        for path in sources(&root().join(krate).join("src")) {
            let text = fs::read_to_string(&path).expect("a source file is text");
            let code = text.split("#[cfg(test)]").next().unwrap_or("");
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for word in IMPURE {
                    assert!(!line.contains(word), "{}: `{word}` in pure code: {line}", path.display());
                }
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (krate, _) in EDGES {
        for path in sources(&root().join(krate)) {
            let text = fs::read_to_string(&path).expect("a source file is text");
            assert!(text.starts_with("//!"), "{} does not begin with what it is for", path.display());
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}
