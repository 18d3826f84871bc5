//! The deny list as an OPA bundle: a gzipped tar with the data and a policy that reads it.
//!
//! `data.muster_list` holds the targets by kind; `data.muster.allow` answers for an `input` of `agent`, `user`, … as `Asker` names
//! them. The policy knows what the list knows: other names of an agent are entries of their own. Written by hand, because of a
//! tar archive only three headers are needed.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

const POLICY: &str = include_str!("bundle.rego");
const BLOCK_BYTES: usize = 512;

/// The bundle for the list that `body` is, at revision `revision`.
pub(crate) fn bundle(body: &[u8], revision: &str) -> std::io::Result<Vec<u8>> {
    let list: Value = serde_json::from_slice(body)?;
    let manifest = json!({"revision": revision, "roots": ["muster", "muster_list"], "rego_version": 1}).to_string();
    let data = json!({"muster_list": data(&list)}).to_string();
    let files = [(".manifest", manifest.as_str()), ("data.json", &data), ("muster/policy.rego", POLICY)];
    let mut archive = Vec::new();
    for (name, text) in files {
        archive.extend_from_slice(&header(name, text.len()));
        archive.extend_from_slice(text.as_bytes());
        archive.resize(archive.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    // Two empty blocks end an archive.
    archive.resize(archive.len() + 2 * BLOCK_BYTES, 0);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&archive)?;
    gzip.finish()
}

/// Of each kind the ids that are denied, with the order; pairs as objects in objects.
fn data(list: &Value) -> Value {
    let mut kinds: Map<String, Value> = Map::new();
    for entry in list["entries"].as_array().into_iter().flatten() {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let order = entry["order_id"].clone();
        let second = entry["user"].as_str().or(entry["instance"].as_str());
        let aliases = entry["aliases"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        let first = if second.is_some() { text("agent") } else { text("id") };
        let kind = kinds.entry(text("kind")).or_insert_with(|| json!({}));
        for name in std::iter::once(first).chain(aliases) {
            match second {
                Some(second) => kind[name.as_str()][second] = order.clone(),
                None => kind[name.as_str()] = order.clone(),
            }
        }
    }
    json!({"denied": kinds, "protected": list["protected"].as_array().cloned().unwrap_or_default()})
}

/// A header after POSIX.1-1988 (ustar).
fn header(name: &str, size: usize) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_bundle_holds_manifest_data_and_policy() {
        let list = json!({"entries": [
            {"kind": "agent", "id": "billing", "order_id": "o1", "aliases": ["0oa1"]},
            {"kind": "agent_user", "id": "a u", "agent": "a", "user": "u", "order_id": "o2"},
        ], "protected": ["root"]});
        let zipped = bundle(list.to_string().as_bytes(), "7").expect("a bundle");
        let mut archive = Vec::new();
        flate2::read::GzDecoder::new(zipped.as_slice()).read_to_end(&mut archive).expect("is gzip");
        assert_eq!(archive.len() % BLOCK_BYTES, 0);
        let (mut at, mut files) = (0, Vec::new());
        while archive[at] != 0 {
            let text = |from: usize, to: usize| {
                String::from_utf8_lossy(&archive[at + from..at + to]).trim_end_matches('\0').to_owned()
            };
            let size = usize::from_str_radix(&text(124, 135), 8).expect("is octal");
            files.push((text(0, 100), text(BLOCK_BYTES, BLOCK_BYTES + size)));
            at += BLOCK_BYTES + size.next_multiple_of(BLOCK_BYTES);
        }
        assert_eq!(
            files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            [".manifest", "data.json", "muster/policy.rego"]
        );
        let data: Value = serde_json::from_str(&files[1].1).expect("is JSON");
        let denied = &data["muster_list"]["denied"];
        assert_eq!(denied["agent"], json!({"billing": "o1", "0oa1": "o1"}));
        assert_eq!(denied["agent_user"]["a"]["u"], "o2");
    }
}
