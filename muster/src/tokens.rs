//! Named bearer tokens: who may call, for which tenant, with which verbs.
//!
//! A token is `muster_<name>_<64 hex digits>`. Only the SHA-256 of the secret part is kept, in `tokens.json` of the data
//! folder (mode 0600); the token itself is shown once, when it is made. 256 random bits need no slow hash. Comparison is
//! in constant time over every token of the file, so that timing tells neither name nor digest.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use schemas::{Holder, Principal, Verb};
use serde::{Deserialize, Serialize};

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

/// The tokens of one installation, shared by all connections. A change of the file counts at once, whoever made it.
#[derive(Clone)]
pub(crate) struct Tokens {
    path: PathBuf,
    read: Arc<RwLock<Read>>,
}

/// What was read, and which version of the file it was.
#[derive(Default)]
struct Read {
    list: Vec<Token>,
    version: Option<Version>,
}

/// Every change replaces the file, and gives it another inode: times of change are too coarse to tell two apart.
type Version = (u64, SystemTime);

impl Tokens {
    /// Reads `tokens.json`; a folder without one has no tokens yet.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let tokens = Tokens { path: folder.join("tokens.json"), read: Arc::default() };
        tokens.refresh()?;
        Ok(tokens)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    pub(crate) fn list(&self) -> Vec<Token> {
        self.locked().list.clone()
    }

    /// Reads the file again where it has changed.
    fn refresh(&self) -> Result<()> {
        let version = std::fs::metadata(&self.path).and_then(|file| Ok((file.ino(), file.modified()?))).ok();
        if self.locked().version == version {
            return Ok(());
        }
        let list = match std::fs::read(&self.path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("{} is not valid", self.path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        };
        *self.read.write().expect("no code panics while it holds the token list") = Read { list, version };
        Ok(())
    }

    fn locked(&self) -> std::sync::RwLockReadGuard<'_, Read> {
        self.read.read().expect("no code panics while it holds the token list")
    }

    /// Changes the file, one process at a time.
    fn change(&self, change: impl FnOnce(&mut Vec<Token>) -> Result<()>) -> Result<()> {
        let path = self.path.with_extension("lock");
        let lock = std::fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        self.refresh()?;
        let mut list = self.list();
        change(&mut list)?;
        write_private(&self.path, &serde_json::to_vec_pretty(&list)?)?;
        self.refresh()
    }

    /// Makes a token and returns it: the only time it is seen whole.
    pub(crate) fn create(&self, token_name: &str, tenant: &str, holder: Holder, verbs: Vec<Verb>) -> Result<String> {
        for text in [token_name, tenant] {
            name(text).map_err(anyhow::Error::msg)?;
        }
        ensure!(!verbs.is_empty(), "a token needs at least one verb");
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let (name, tenant) = (token_name.to_owned(), tenant.to_owned());
        let token = Token { name, tenant, holder, verbs, sha256: sha256(&secret) };
        self.change(|list| {
            ensure!(list.len() < TOKENS_MAX, "there are {TOKENS_MAX} tokens already");
            ensure!(list.iter().all(|t| t.name != token.name), "a token named `{}` exists already", token.name);
            list.push(token);
            Ok(())
        })?;
        Ok(format!("muster_{token_name}_{secret}"))
    }

    /// Removes a token; it stops working at once.
    pub(crate) fn revoke(&self, name: &str) -> Result<()> {
        self.change(|list| {
            let before = list.len();
            list.retain(|t| t.name != name);
            ensure!(list.len() < before, "there is no token named `{name}`");
            Ok(())
        })
    }

    /// The holder of `token`, if it is one of ours.
    pub(crate) fn authenticate(&self, token: &str) -> Option<Principal> {
        let (_, secret) = token.strip_prefix("muster_")?.rsplit_once('_')?;
        let digest = sha256(secret);
        if let Err(error) = self.refresh() {
            // Whom the file would refuse must not get in by its being unreadable.
            tracing::error!("no token is accepted: {error:#}");
            return None;
        }
        let mut found = None;
        for candidate in &self.locked().list {
            if verify_slices_are_equal(candidate.sha256.as_bytes(), digest.as_bytes()).is_ok() {
                found = Some(candidate.principal());
            }
        }
        found
    }
}

impl Token {
    fn principal(&self) -> Principal {
        let Token { name, tenant, holder, verbs, .. } = self;
        Principal { name: name.clone(), tenant: tenant.clone(), holder: *holder, verbs: verbs.clone() }
    }
}

/// A name of a token or tenant: 1 to 64 letters, digits, `-` and `.`.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    match plain && (1..=NAME_BYTES_MAX).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}`: a name has 1 to {NAME_BYTES_MAX} letters, digits, `-` and `.`")),
    }
}

fn sha256(secret: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, secret.as_bytes()).as_ref())
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
