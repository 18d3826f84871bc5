//! Prints what records become: `normalize FILE [SOURCE|auto] [FOLDER OF MAPPINGS]`.

use std::io::Write;
use std::path::Path;

use ingest::{Carrier, Context, Limits, Sources, normalize, normalize_json};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let body = std::fs::read(&arguments[1])?;
    let sources = match Sources::load(arguments.get(3).map(Path::new)) {
        Ok(sources) => sources,
        Err(errors) => {
            for error in errors {
                writeln!(std::io::stderr(), "{error}")?;
            }
            std::process::exit(1);
        }
    };
    let named = arguments.get(2).filter(|name| *name != "auto").and_then(|name| sources.get(name));
    let mapping = named.or_else(|| sources.detect(&body).one()).expect("a source is named or recognised");
    let context = Context {
        tenant: "default",
        instance: "",
        door: "file",
        live: false,
        received_at: 1_767_225_600_000_000,
        carrier: &Carrier::File { name: arguments[1].clone(), offset: 0 },
        partitions: 64,
        secret_key: &[7; 32],
    };
    let normalized = normalize(mapping, &body, &context, &Limits::default());
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    normalize_json(&normalized, 0, &mut out)?;
    writeln!(std::io::stderr(), "{} {:?}", mapping.name(), normalized.ledger)
}
