//! A folder of mappings that changes under a running ingest: good files take effect whole, broken ones change nothing.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ingest::{Admission, Carrier, Config, Ingest, Sources};
use lake::clock::Clock;
use lake::files::disk::Disk;
use lake::log::{Log, LogConfig};

use crate::support::{KEY, RECEIVED_AT};

const MAPPING: &str = "[columns]\ntime = \"at\"\naction = \"did\"\n";

fn ingest(folder: &Path) -> Ingest {
    let clock = Clock::manual(RECEIVED_AT);
    let log = folder.join("log");
    let (log, _) = Log::open(Arc::new(Disk::default()), log, &LogConfig::default(), clock.clone(), &[]).expect("a log");
    let own = folder.join("sources");
    let config = Config { sources_folder: Some(own.clone()), ..Config::default() };
    Ingest::new(log, Sources::load(Some(&own)).expect("the mappings are right"), clock, KEY, &config)
}

async fn agent(ingest: &Ingest, source: &str, n: usize) -> Result<i64, String> {
    let admission = Admission {
        tenant: "acme".into(),
        door: "http",
        live: true,
        instance: String::new(),
        carrier: Carrier::Request { token: "t".into() },
    };
    let body = format!(r#"{{"at":1767225600,"did":"x","n":{n}}}"#);
    let receipt = ingest.admit(source, admission, body.into()).await.map_err(|error| error.to_string())?;
    Ok(receipt.events)
}

#[tokio::test]
async fn good_files_take_effect_whole_and_broken_ones_leave_the_old_in_force() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("sources");
    fs::create_dir(&own).expect("is made");
    let write = |name: &str, text: &str| fs::write(own.join(name), text).expect("is written");
    write("mine.toml", MAPPING);
    let ingest = ingest(folder.path());
    let version = |name: &str| ingest.sources().get(name).map(|mapping| mapping.version().to_owned());
    let first = version("mine").expect("is in force");
    assert!(ingest.reload().is_none(), "nothing changed");

    // A broken file beside a new good one.
    write("mine.toml", "[columns]\ntime = \"at\"\naction = \"did\"\nagent_idd = \"who\"\n");
    write("other.toml", MAPPING);
    let after = ingest.reload().expect("something changed");
    let [problem] = &after.broken[..] else { panic!("{:?}", after.broken) };
    assert!(
        problem.file.ends_with("mine.toml") && problem.line == 4 && problem.key == "columns.agent_idd",
        "{problem}"
    );
    assert_eq!(version("mine"), Some(first.clone()), "the old one stays");
    assert_eq!(agent(&ingest, "mine", 1).await, Ok(1));
    assert_eq!(agent(&ingest, "other", 2).await, Ok(1), "the good one is in force");
    assert!(ingest.reload().is_none(), "told once");

    // Made right again, and one that replaces a built-in.
    write("mine.toml", &format!("{MAPPING}agent_id = \"who\"\n"));
    write("okta.toml", MAPPING);
    let after = ingest.reload().expect("something changed");
    assert!(after.broken.is_empty() && after.changes == 2);
    assert_ne!(version("mine"), Some(first));
    assert!(!ingest.sources().get("okta").expect("is there").is_built_in());

    // Taken away: the built-in is back, the other gone.
    fs::remove_file(own.join("okta.toml")).expect("goes");
    fs::remove_file(own.join("other.toml")).expect("goes");
    ingest.reload().expect("something changed");
    assert!(ingest.sources().get("okta").expect("is there").is_built_in());
    assert!(agent(&ingest, "other", 3).await.is_err_and(|error| error.contains("there is no source `other`")));

    // The folder itself goes away, as a mount does: what was in force stays, and it is told.
    fs::rename(&own, folder.path().join("elsewhere")).expect("moves");
    let after = ingest.reload().expect("something changed");
    assert_eq!(after.broken.len(), 1);
    assert!(version("mine").is_some());
}

#[tokio::test]
async fn a_large_file_is_refused_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("sources");
    fs::create_dir(&own).expect("is made");
    fs::write(own.join("mine.toml"), MAPPING).expect("is written");
    let ingest = ingest(folder.path());
    fs::write(own.join("huge.toml"), "#".repeat(2 << 20)).expect("is written");
    let after = ingest.reload().expect("something changed");
    assert!(after.broken[0].message.contains("the limit is"), "{}", after.broken[0]);
    assert_eq!(agent(&ingest, "mine", 1).await, Ok(1));
}
