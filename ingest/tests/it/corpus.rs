//! The corpus of vendors' records beside the project: every record becomes an event unless it has no time or is no record,
//! fields agree with the results that lie beside the streams, but for the differences listed with their reasons in
//! `tests/corpus.toml`, and each record by itself is recognised as its source's. Skipped, and said so, where the corpus is
//! absent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ingest::{Detection, Limits, Normalized, Outcome, Sources, normalize, normalize_json};
use serde::Deserialize;

use crate::support::{context, file};

#[derive(Deserialize)]
struct Known {
    sources: BTreeMap<String, String>,
    lines: BTreeMap<String, String>,
    quarantined: BTreeMap<String, BTreeMap<String, usize>>,
    difference: Vec<Difference>,
    #[serde(default)]
    unrecognised: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Difference {
    stream: String,
    field: String,
    lines: Vec<usize>,
    reason: String,
}

impl Known {
    /// The source whose records a stream holds.
    fn source<'a>(&'a self, folder: &'a str, stream: &str) -> &'a str {
        let known = self.sources.get(stream).or_else(|| self.sources.get(folder)).map(String::as_str);
        known.unwrap_or_else(|| folder.strip_prefix("x_").unwrap_or(folder))
    }
}

fn known() -> Known {
    toml::from_str(include_str!("../corpus.toml")).expect("the list is TOML of this form")
}

fn sources() -> &'static Sources {
    crate::properties::sources()
}

/// A stream: its folder, its name within the corpus, and its file.
pub(crate) struct Stream {
    folder: String,
    pub(crate) name: String,
    path: PathBuf,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn streams() -> Option<Vec<Stream>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let corpus = std::env::var_os("MUSTER_CORPUS").map_or(beside, PathBuf::from);
    if !corpus.is_dir() {
        let _ = writeln!(std::io::stderr(), "skipped: no corpus at {}", corpus.display());
        return None;
    }
    let mut streams = Vec::new();
    let folders =
        std::fs::read_dir(&corpus).expect("the corpus is a folder").map(|entry| entry.expect("an entry").path());
    for folder in folders.filter(|path| path.is_dir()) {
        for path in std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.extension().is_none_or(|e| e != "jsonl" && e != "log") {
                continue;
            }
            let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
            let folder = text(folder.file_name().expect("a name"));
            let name = format!("{folder}/{}", text(path.file_stem().expect("a name")));
            let body = std::fs::read(&path).expect("a stream");
            streams.push(Stream { folder, name, path, body });
        }
    }
    streams.sort_by(|a, b| a.name.cmp(&b.name));
    Some(streams)
}

fn normalized(source: &str, body: &[u8]) -> Normalized {
    let mapping = sources().get(source).unwrap_or_else(|| panic!("there is no source `{source}`"));
    normalize(mapping, body, &context(&file()), &Limits::default())
}

#[test]
fn every_record_becomes_an_event_unless_it_is_known_why_not() {
    let (Some(streams), known) = (streams(), known()) else { return };
    let mut wrong = Vec::new();
    for Stream { folder, name, body, .. } in &streams {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for outcome in normalized(known.source(folder, name), body).outcomes {
            let reason = match outcome {
                Outcome::Mapped { .. } => continue,
                Outcome::Noise { .. } => "noise",
                Outcome::Quarantined { reason, .. } => reason.name(),
            };
            *counts.entry(reason.to_owned()).or_default() += 1;
        }
        let expected = known.quarantined.get(name).cloned().unwrap_or_default();
        if counts != expected {
            wrong.push(format!("{name}: expected {expected:?}, found {counts:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fields_agree_with_the_published_results_but_for_known_differences() {
    let (Some(streams), known) = (streams(), known()) else { return };
    let listed: BTreeSet<(&str, usize, &str)> = known
        .difference
        .iter()
        .inspect(|d| assert!(!d.reason.is_empty()))
        .flat_map(|d| d.lines.iter().map(|line| (d.stream.as_str(), *line, d.field.as_str())))
        .collect();
    let (mut found, mut systems) = (BTreeSet::new(), BTreeMap::<&str, [usize; 2]>::new());
    for Stream { folder, name, path, body } in &streams {
        let expected = path.with_extension("expected.json");
        if !expected.exists() {
            continue;
        }
        let mut lines = Vec::new();
        normalize_json(&normalized(known.source(folder, name), body), 0, &mut lines).expect("a vector cannot fail");
        let text = compare(&path.parent().expect("a folder").with_file_name("compare.py"), &expected, &lines);
        assert!(!text.contains("neither event nor quarantine row"), "{name}: {text}");
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["line", number, field, ..] = words[..] {
                let number = number.trim_end_matches(':').parse().expect("a line number");
                found.insert((name.as_str(), number, field.trim_end_matches(':').to_owned()));
            }
            if let ["all", fields, ..] = words[..] {
                let (agreed, compared) = fields.split_once('/').expect("agreed/compared");
                let sums = systems.entry(folder).or_default();
                sums[0] += agreed.parse::<usize>().expect("a number");
                sums[1] += compared.parse::<usize>().expect("a number");
            }
        }
    }
    let new: Vec<_> = found.iter().filter(|(s, l, f)| !listed.contains(&(s, *l, f.as_str()))).collect();
    let gone: Vec<_> = listed.iter().filter(|(s, l, f)| !found.contains(&(s, *l, (*f).to_owned()))).collect();
    assert!(new.is_empty() && gone.is_empty(), "not listed: {new:?}\nlisted and not found: {gone:?}");
    for (system, [agreed, compared]) in systems.iter().filter(|(_, sums)| sums[1] > 0) {
        let share = 100.0 * *agreed as f64 / *compared as f64;
        let _ = writeln!(std::io::stdout(), "{system:22} {agreed:5}/{compared:<5} {share:6.2} %");
    }
}

#[test]
fn each_record_alone_is_recognised_or_said_to_be_ambiguous() {
    let (Some(streams), known) = (streams(), known()) else { return };
    let (mut right, mut all, mut wrong) = (0, 0, Vec::new());
    for Stream { folder, name, body, .. } in &streams {
        let mut missed = 0;
        for (number, line) in body.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty())
        {
            let source = known.source(folder, name);
            let outcomes = normalized(source, line).outcomes;
            // What is no record of the source, or noise in its log, is nobody's.
            if !outcomes.iter().any(|o| matches!(o, Outcome::Mapped { .. })) {
                continue;
            }
            all += 1;
            let source = known.lines.get(&format!("{name}:{}", number + 1)).map_or(source, String::as_str);
            match sources().detect(line) {
                Detection::One(mapping) if mapping.name() == source => right += 1,
                Detection::One(mapping) => wrong.push(format!("{name}:{}: taken for {}", number + 1, mapping.name())),
                _ => missed += 1,
            }
        }
        if missed > known.unrecognised.get(name).copied().unwrap_or(0) {
            wrong.push(format!("{name}: {missed} records are not recognised, or several sources fit"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(right * 100 >= all * 99, "{right} of {all} records are recognised");
    let _ = writeln!(std::io::stdout(), "{right} of {all} records are recognised, none as another source's");
}

fn compare(script: &Path, expected: &Path, lines: &[u8]) -> String {
    let mut child = Command::new("python3")
        .arg(script)
        .arg(expected)
        .args(["--diff", "1000000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut to = child.stdin.take().expect("a pipe");
    let lines = lines.to_vec();
    let writer = std::thread::spawn(move || to.write_all(&lines));
    let output = child.wait_with_output().expect("the script ends");
    writer.join().expect("the thread ends").expect("the script reads");
    String::from_utf8(output.stdout).expect("text")
}
