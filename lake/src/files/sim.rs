//! A file system in memory for crash tests: it knows what was synced, fails on request, and loses power on request.
//!
//! ```text
//! files.cut_at(17)             calls 0..17 work, the 17th and all later ones fail: power is lost
//! files.after_cut(None)        what is there when power returns: nothing that was not synced
//! files.after_cut(Some(seed))  the same, but some of what was not synced happened to survive, torn or as garbage
//! files.fail_at(17, fault)     the 17th call alone fails; a failed append leaves half of its bytes
//! ```
//! Calls are counted that change something: create, append, sync, truncate, rename, remove, create_dir_all, sync_dir.
//! Folders are durable once made, as [`Files::create_dir_all`] promises; a rename survives whole or not at all, as
//! journalling file systems have it. Clones share one file system; [`SimFiles::after_cut`] makes another.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, Files};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NoSpace,
    Io,
    Permission,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "simulated: no space left"),
            Fault::Io => io::Error::other("simulated: input/output error"),
            Fault::Permission => io::Error::new(io::ErrorKind::PermissionDenied, "simulated: permission denied"),
        }
    }
}

/// The simulated file system.
#[derive(Clone, Debug, Default)]
pub struct SimFiles {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    nodes: Vec<Node>,
    /// Entries as a running process sees them, and as they are on the platter.
    entries: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    /// What leads from `durable` to `entries`, in order.
    pending: Vec<Change>,
    folders: BTreeSet<PathBuf>,
    calls: u64,
    cut: Option<u64>,
    faults: BTreeMap<u64, Fault>,
    room: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    written: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Create(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Change::Create(path, node) => {
                entries.insert(path.clone(), *node);
            }
            Change::Remove(path) => {
                entries.remove(path);
            }
            Change::Rename(from, to, node) => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
        }
    }

    fn touches(&self, folder: &Path) -> bool {
        match self {
            Change::Create(path, _) | Change::Remove(path) => path.parent() == Some(folder),
            Change::Rename(from, to, _) => from.parent() == Some(folder) || to.parent() == Some(folder),
        }
    }
}

/// What becomes of a call that changes something.
enum Fate {
    Works,
    Fails(io::Error),
    /// Power goes during the call: its effect may be on its way to the platter, nobody hears of it.
    Cut,
}

fn power_lost() -> io::Error {
    io::Error::other("simulated: power lost")
}

impl State {
    fn powered(&self) -> io::Result<()> {
        match self.cut {
            Some(cut) if self.calls > cut => Err(power_lost()),
            _ => Ok(()),
        }
    }

    /// Counts a changing call and says what becomes of it.
    fn call(&mut self) -> io::Result<Fate> {
        self.powered()?;
        let call = self.calls;
        self.calls += 1;
        if self.cut == Some(call) {
            return Ok(Fate::Cut);
        }
        Ok(self.faults.remove(&call).map_or(Fate::Works, |fault| Fate::Fails(fault.error())))
    }

    /// Changes directory entries, unless the call fails.
    fn change(&mut self, change: Change) -> io::Result<()> {
        let fate = self.call()?;
        if let Fate::Fails(error) = fate {
            return Err(error);
        }
        change.apply(&mut self.entries);
        self.pending.push(change);
        if let Fate::Cut = fate { Err(power_lost()) } else { Ok(()) }
    }

    /// A call without effect unless it works.
    fn works(&mut self) -> io::Result<()> {
        match self.call()? {
            Fate::Works => Ok(()),
            Fate::Fails(error) => Err(error),
            Fate::Cut => Err(power_lost()),
        }
    }

    fn has_room(&self, wanted: u64) -> bool {
        let taken = || self.entries.values().map(|&node| self.nodes[node].written.len() as u64).sum::<u64>();
        self.room.is_none_or(|room| taken() + wanted <= room)
    }

    fn node(&self, path: &Path) -> io::Result<usize> {
        self.entries.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl SimFiles {
    pub fn new() -> Self {
        SimFiles::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changing calls so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Makes changing call number `call` (from 0, since the file system was made) fail, once.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.lock().faults.insert(call, fault);
    }

    /// The files together take at most so many bytes: an append beyond fails for want of room. None: as many as there are.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.lock().room = bytes;
    }

    /// Takes back the failures that have not come yet.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Power goes during changing call number `call`: it and every later call fail, reads too.
    pub fn cut_at(&self, call: u64) {
        self.lock().cut = Some(call);
    }

    /// The file system as found when power returns. Without a seed nothing survives that was not synced; with one, some
    /// of the unsynced entries do, and of the unsynced bytes of each file a prefix, sometimes followed by garbage.
    pub fn after_cut(&self, seed: Option<u64>) -> SimFiles {
        let state = self.lock();
        let mut random = seed.map(fastrand::Rng::with_seed);
        let mut entries = state.durable.clone();
        if let Some(random) = &mut random {
            state.pending.iter().filter(|_| random.bool()).for_each(|change| change.apply(&mut entries));
        }
        let found = |node: &Node| {
            let bytes = match &mut random {
                Some(random) => node.survivor(random),
                None => node.synced.clone(),
            };
            Node { written: bytes.clone(), synced: bytes }
        };
        let nodes = state.nodes.iter().map(found).collect();
        let folders = state.folders.clone();
        let state = State { nodes, durable: entries.clone(), entries, folders, ..State::default() };
        SimFiles { state: Arc::new(Mutex::new(state)) }
    }

    /// Flips one bit of a file, on the platter too: what a failing disk does.
    pub fn flip_bit(&self, path: &Path, byte: u64) -> io::Result<()> {
        let mut state = self.lock();
        let node = state.node(path)?;
        let Node { written, synced } = &mut state.nodes[node];
        *written.get_mut(byte as usize).ok_or(io::ErrorKind::UnexpectedEof)? ^= 1;
        synced.get_mut(byte as usize).into_iter().for_each(|byte| *byte ^= 1);
        Ok(())
    }
}

impl Node {
    /// The bytes that a cut may leave: synced ones always, of the others a prefix, and behind it perhaps garbage.
    fn survivor(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let shared = self.synced.iter().zip(&self.written).take_while(|(a, b)| a == b).count();
        if shared < self.synced.len() && random.bool() {
            return self.synced.clone();
        }
        let kept = random.usize(shared..=self.written.len());
        let mut bytes = self.written[..kept].to_vec();
        let lost = self.written.len() - kept;
        if lost > 0 && random.bool() {
            // The length reached the platter before the bytes did.
            let length = random.usize(1..=lost);
            let zeros = random.bool();
            bytes.extend((0..length).map(|_| if zeros { 0 } else { random.u8(..) }));
            if random.bool() {
                bytes.extend_from_slice(&self.written[kept + length..]);
            }
        }
        bytes
    }
}

#[derive(Debug)]
struct SimFile {
    files: SimFiles,
    node: usize,
}

impl File for SimFile {
    fn append_parts(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let bytes = parts.concat();
        let mut state = self.files.lock();
        let fate = match state.call()? {
            Fate::Works if !state.has_room(bytes.len() as u64) => Fate::Fails(Fault::NoSpace.error()),
            fate => fate,
        };
        let written = &mut state.nodes[self.node].written;
        match fate {
            Fate::Works => written.extend_from_slice(&bytes),
            Fate::Fails(error) => {
                written.extend_from_slice(&bytes[..bytes.len() / 2]);
                return Err(error);
            }
            Fate::Cut => {
                written.extend_from_slice(&bytes);
                return Err(power_lost());
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.files.lock();
        state.works()?;
        let Node { written, synced } = &mut state.nodes[self.node];
        // Appending is the common case: a copy of the whole file at every sync would make long tests quadratic.
        if written.len() < synced.len() || written[..synced.len()] != synced[..] {
            synced.clear();
        }
        synced.extend_from_slice(&written[synced.len()..]);
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.files.lock();
        let fate = state.call()?;
        if let Fate::Fails(error) = fate {
            return Err(error);
        }
        state.nodes[self.node].written.truncate(len as usize);
        if let Fate::Cut = fate { Err(power_lost()) } else { Ok(()) }
    }
}

impl Files for SimFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        if state.entries.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if path.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !state.folders.contains(folder)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let node = state.nodes.len();
        state.nodes.push(Node::default());
        state.change(Change::Create(path.to_owned(), node))?;
        Ok(Box::new(SimFile { files: self.clone(), node }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let state = self.lock();
        state.powered()?;
        Ok(Box::new(SimFile { files: self.clone(), node: state.node(path)? }))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.lock();
        state.powered()?;
        Ok(state.nodes[state.node(path)?].written.len() as u64)
    }

    fn read_into(&self, path: &Path, range: Range<u64>, mut room: Vec<u8>) -> io::Result<Vec<u8>> {
        let state = self.lock();
        state.powered()?;
        let bytes = &state.nodes[state.node(path)?].written;
        let bytes = bytes.get(range.start as usize..range.end as usize);
        room.clear();
        room.extend_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(room)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.lock();
        state.powered()?;
        let here = state.entries.keys().filter(|path| path.parent() == Some(folder));
        Ok(here.filter_map(|path| path.file_name()).map(PathBuf::from).collect())
    }

    fn list_recursive(&self, folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        let state = self.lock();
        state.powered()?;
        let below = state.entries.iter().filter(|(path, _)| path.starts_with(folder));
        Ok(below.map(|(path, &node)| (path.clone(), state.nodes[node].written.len() as u64)).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let node = state.node(from)?;
        state.change(Change::Rename(from.to_owned(), to.to_owned(), node))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let node = state.node(from)?;
        if state.node(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.change(Change::Rename(from.to_owned(), to.to_owned(), node))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.node(path)?;
        state.change(Change::Remove(path.to_owned()))
    }

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.works()?;
        state.folders.extend(folder.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.works()?;
        let State { pending, durable, .. } = &mut *state;
        pending.retain(|change| {
            let touched = change.touches(folder);
            if touched {
                change.apply(durable);
            }
            !touched
        });
        Ok(())
    }
}
