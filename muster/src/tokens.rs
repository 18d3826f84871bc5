//! Named bearer tokens: who may call, for which tenant, with which verbs.
//!
//! A token is `muster_<name>_<64 hex digits>`. Only the SHA-256 of the secret part is kept, in `tokens.json` of the data
//! folder (mode 0600); the token itself is shown once, when it is made. 256 random bits need no slow hash. Comparison is
//! in constant time over every token of the file, so that timing tells neither name nor digest.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use anyhow::{Context, Result, bail, ensure};
use schemas::{Holder, Principal, Verb};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const TOKENS_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 64;

/// One token as the file keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) tenant: String,
    pub(crate) holder: Holder,
    pub(crate) verbs: Vec<Verb>,
    /// SHA-256 of the secret, in hex.
    sha256: String,
}

/// The tokens of one installation, shared by all connections.
#[derive(Clone)]
pub(crate) struct Tokens {
    path: PathBuf,
    list: Arc<RwLock<Vec<Token>>>,
}

impl Tokens {
    /// Reads `tokens.json`; a folder without one has no tokens yet.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("tokens.json");
        let list = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is not valid", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Tokens { path, list: Arc::new(RwLock::new(list)) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    pub(crate) fn list(&self) -> Vec<Token> {
        self.read().clone()
    }

    /// Makes a token and returns it: the only time it is seen whole.
    pub(crate) fn create(&self, name: &str, tenant: &str, holder: Holder, verbs: Vec<Verb>) -> Result<String> {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        for text in [name, tenant] {
            ensure!(!text.is_empty() && text.len() <= NAME_BYTES_MAX, "a name has 1 to {NAME_BYTES_MAX} characters");
            ensure!(plain(text), "`{text}`: a name has letters, digits, `-` and `.` only");
        }
        ensure!(!verbs.is_empty(), "a token needs at least one verb");
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let token = Token { name: name.to_owned(), tenant: tenant.to_owned(), holder, verbs, sha256: sha256(&secret) };

        let mut list = self.list.write().expect("no code panics while it holds the token list");
        ensure!(list.len() < TOKENS_MAX, "there are {TOKENS_MAX} tokens already");
        if list.iter().any(|t| t.name == name) {
            bail!("a token named `{name}` exists already");
        }
        list.push(token);
        self.save(&list)?;
        Ok(format!("muster_{name}_{secret}"))
    }

    /// Removes a token; it stops working at once.
    pub(crate) fn revoke(&self, name: &str) -> Result<()> {
        let mut list = self.list.write().expect("no code panics while it holds the token list");
        let before = list.len();
        list.retain(|t| t.name != name);
        ensure!(list.len() < before, "there is no token named `{name}`");
        self.save(&list)
    }

    /// The holder of `token`, if it is one of ours.
    pub(crate) fn authenticate(&self, token: &str) -> Option<Principal> {
        let (_, secret) = token.strip_prefix("muster_")?.rsplit_once('_')?;
        let digest = sha256(secret);
        let mut found = None;
        for candidate in self.read().iter() {
            if bool::from(candidate.sha256.as_bytes().ct_eq(digest.as_bytes())) {
                found = Some(candidate.principal());
            }
        }
        found
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Token>> {
        self.list.read().expect("no code panics while it holds the token list")
    }

    fn save(&self, list: &[Token]) -> Result<()> {
        write_private(&self.path, &serde_json::to_vec_pretty(list)?)
    }
}

impl Token {
    fn principal(&self) -> Principal {
        let Token { name, tenant, holder, verbs, .. } = self.clone();
        Principal { name, tenant, holder, verbs }
    }
}

fn sha256(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces a file whole, readable by its owner only, durable when it returns.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_works_until_it_is_revoked_and_its_secret_is_not_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tokens = Tokens::open(folder.path()).expect("opens");
        let token = tokens.create("collector", "acme", Holder::Machine, vec![Verb::Ingest]).expect("makes");
        let again = Tokens::open(folder.path()).expect("opens again");
        let principal = again.authenticate(&token).expect("known");
        assert_eq!((principal.name.as_str(), principal.tenant.as_str()), ("collector", "acme"));
        assert!(principal.may(Verb::Ingest) && !principal.may(Verb::Query));
        let secret = token.rsplit('_').next().expect("has a secret part");
        let file = std::fs::read_to_string(folder.path().join("tokens.json")).expect("reads");
        assert!(!file.contains(secret), "the secret must not be stored");
        assert!(again.authenticate("muster_collector_00").is_none() && again.authenticate("").is_none());
        again.revoke("collector").expect("revokes");
        assert!(again.authenticate(&token).is_none());
    }

    #[test]
    fn names_are_unique_and_plain() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tokens = Tokens::open(folder.path()).expect("opens");
        tokens.create("a", "t", Holder::Person, vec![Verb::Query]).expect("makes");
        assert!(tokens.create("a", "t", Holder::Person, vec![Verb::Query]).is_err());
        assert!(tokens.create("a_b", "t", Holder::Person, vec![Verb::Query]).is_err());
        assert!(tokens.create("b", "", Holder::Person, vec![Verb::Query]).is_err());
        assert!(tokens.create("c", "t", Holder::Person, vec![]).is_err());
    }
}
