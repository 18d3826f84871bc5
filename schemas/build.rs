//! Lists `schemas/sources/*.toml` with their fixtures, and `schemas/inventory/*.toml`, so that adding one touches no
//! other file.

#![expect(clippy::disallowed_methods, reason = "the environment is how a build script is told anything")]

use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let root = Path::new(&root);
    let folder = root.join("sources");
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
    let providers = root.join("inventory");
    println!("cargo::rerun-if-changed={}", providers.display());
    let files = fs::read_dir(&providers)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let files: Vec<String> = files.collect::<io::Result<_>>()?;
    let polled = files.iter().filter_map(|file| file.strip_suffix(".toml").map(str::to_owned)).collect();
    let mut code = list("BUILT_IN", "Name and text of each built-in mapping", &folder, names, "toml");
    code.push_str(&list("FIXTURES", "Name and fixtures of each built-in mapping", &folder, fixtures, "fixtures.toml"));
    code.push_str(&list("PROVIDERS", "Name and text of each built-in inventory provider", &providers, polled, "toml"));
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
