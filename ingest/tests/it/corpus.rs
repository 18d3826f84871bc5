//! The corpus of vendors' records beside the project: agreement with the published results, and nothing in quarantine
//! that the vendor could have written. Skipped, and said so, where the corpus is absent.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ingest::{Limits, Outcome, Sources, normalize, normalize_json};
use serde_json::Value;

use crate::support::{context, file};

/// Records of published rule tests that are fragments: the vendor's own time is missing or blotted out.
const FRAGMENTS: &[(&str, usize)] = &[("panther_cloudtrail", 9), ("panther_system", 3)];

fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let folder = std::env::var_os("MUSTER_CORPUS").map_or(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    let _ = writeln!(std::io::stderr(), "skipped: no corpus at {}", folder.display());
    None
}

#[test]
fn the_corpus_agrees() {
    let Some(corpus) = corpus() else { return };
    let sources = Sources::load(None).expect("the built-in mappings are right");
    let (mut all_agreed, mut all_compared) = (0, 0);
    for source in ["okta", "aws_cloudtrail", "envoy", "kong"] {
        let (mut agreed, mut compared) = (0, 0);
        for entry in std::fs::read_dir(corpus.join(source)).expect("the corpus has the source") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|e| e != "jsonl" && e != "log") {
                continue;
            }
            let body = std::fs::read(&path).expect("a stream");
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let mapping = sources.get(source).expect("the source is built in");
            assert_eq!(sources.detect(&body).one().map(|m| m.name()), Some(source), "{stem}");
            let found = normalize(mapping, &body, &context(&file()), &Limits::default());
            let kept = found.outcomes.iter().filter(|o| matches!(o, Outcome::Quarantined { .. })).count();
            let allowed = FRAGMENTS.iter().find(|(name, _)| *name == stem).map_or(0, |(_, count)| *count);
            assert!(kept <= allowed, "{stem}: {kept} records in quarantine, {allowed} are fragments");
            let mut lines = Vec::new();
            normalize_json(&found, 0, &mut lines).expect("a vector cannot fail");
            let expected = path.with_file_name(format!("{stem}.expected.json"));
            if expected.exists() {
                let result = compare(&corpus.join("compare.py"), &expected, &lines);
                assert_eq!(result["lost_lines"], Value::Array(Vec::new()), "{stem}");
                agreed += result["agreed"].as_u64().unwrap_or_default();
                compared += result["compared"].as_u64().unwrap_or_default();
            }
        }
        // What is missing here: OCSF's names of activities (`Logon`) instead of Okta's event types; an account or a
        // session's ARN for the principal, and a refused call as a success, in CloudTrail.
        assert!(agreed * 100 >= compared * 97, "{source}: {agreed} of {compared} fields agree");
        all_agreed += agreed;
        all_compared += compared;
    }
    assert!(all_agreed * 100 >= all_compared * 98, "{all_agreed} of {all_compared} fields agree");
}

fn compare(script: &Path, expected: &Path, lines: &[u8]) -> Value {
    let mut child = Command::new("python3")
        .arg(script)
        .arg(expected)
        .arg("--json")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    child.stdin.take().expect("a pipe").write_all(lines).expect("the script reads");
    let output = child.wait_with_output().expect("the script ends");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}
