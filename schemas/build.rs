//! Lists `schemas/sources/*.toml` with their fixtures, so that adding a source touches no other file.

#![expect(clippy::disallowed_methods, reason = "the environment is how a build script is told anything")]

use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("sources");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names = Vec::new();
    let mut fixtures = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        match (file.strip_suffix(".fixtures.toml"), file.strip_suffix(".toml")) {
            (Some(name), _) => fixtures.push(name.to_owned()),
            (None, Some(name)) => names.push(name.to_owned()),
            (None, None) => {}
        }
    }
    let mut code = list("BUILT_IN", "Name and text of each built-in mapping", &folder, names, "toml");
    code.push_str(&list("FIXTURES", "Name and fixtures of each built-in mapping", &folder, fixtures, "fixtures.toml"));
    fs::write(Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("sources.rs"), code)
}

fn list(constant: &str, doc: &str, folder: &Path, mut names: Vec<String>, extension: &str) -> String {
    names.sort();
    let mut code = format!("/// {doc}, by name.\npub static {constant}: &[(&str, &str)] = &[\n");
    for name in &names {
        let path = folder.join(format!("{name}.{extension}"));
        code.push_str(&format!("    ({name:?}, include_str!({:?})),\n", path.display().to_string()));
    }
    code.push_str("];\n");
    code
}
