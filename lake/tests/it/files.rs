//! The real and the simulated file system keep the same contract; the simulated one forgets what was not synced.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lake::clock::Clock;
use lake::files::sim::{Fault, SimFiles};
use lake::files::store::FileStore;
use lake::files::{Disk, File, Files};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

fn both(check: impl Fn(&dyn Files)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    check(&Disk::rooted(folder.path()));
    check(&SimFiles::new());
}

fn write(files: &dyn Files, path: &str, bytes: &[u8]) -> Box<dyn File> {
    let mut file = files.create(Path::new(path)).expect("creates");
    file.append(bytes).expect("appends");
    file
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    result.err().expect("fails").kind()
}

#[test]
fn files_are_created_once_appended_cut_and_read() {
    both(|files| {
        files.create_dir_all(Path::new("a/b")).expect("creates the folder");
        files.create_dir_all(Path::new("a/b")).expect("is content where it exists");
        let path = Path::new("a/b/x");
        drop(write(files, "a/b/x", b"hello"));
        assert_eq!(kind(files.create(path)), ErrorKind::AlreadyExists);
        assert_eq!(kind(files.open(Path::new("a/b/y"))), ErrorKind::NotFound);
        assert_eq!(kind(files.create(Path::new("none/y"))), ErrorKind::NotFound);
        let mut file = files.open(path).expect("opens");
        file.truncate(2).expect("cuts");
        file.append(b"y").expect("appends at the end");
        file.sync().expect("syncs");
        assert_eq!(files.read(path, 0..3).expect("reads"), b"hey");
        assert_eq!(files.read(path, 1..2).expect("reads"), b"e");
        assert_eq!(kind(files.read(path, 0..4)), ErrorKind::UnexpectedEof);
        assert_eq!(files.len(path).expect("has a length"), 3);
    });
}

#[test]
fn folders_list_their_files_sorted() {
    both(|files| {
        assert_eq!(files.list(Path::new("none")).expect("lists"), Vec::<PathBuf>::new());
        assert_eq!(files.list_recursive(Path::new("none")).expect("lists"), Vec::new());
        files.create_dir_all(Path::new("a/b")).expect("creates the folder");
        drop((write(files, "a/2", b"22"), write(files, "a/1", b"1"), write(files, "a/b/3", b"333")));
        assert_eq!(files.list(Path::new("a")).expect("lists"), [PathBuf::from("1"), PathBuf::from("2")]);
        let all = [("a/1".into(), 1), ("a/2".into(), 2), ("a/b/3".into(), 3)];
        assert_eq!(files.list_recursive(Path::new("a")).expect("lists"), all);
        files.rename(Path::new("a/1"), Path::new("a/2")).expect("replaces");
        files.remove(Path::new("a/b/3")).expect("removes");
        files.sync_dir(Path::new("a")).expect("syncs");
        assert_eq!(files.list_recursive(Path::new("a")).expect("lists"), [("a/2".into(), 1)]);
    });
}

#[test]
fn power_cuts_take_what_was_not_synced() {
    let files = SimFiles::new();
    files.create_dir_all(Path::new("a")).expect("creates the folder");
    let mut kept = write(&files, "a/kept", b"synced");
    kept.sync().expect("syncs");
    kept.append(b" and not").expect("appends");
    files.sync_dir(Path::new("a")).expect("syncs");
    write(&files, "a/lost", b"bytes").sync().expect("syncs");
    files.remove(Path::new("a/kept")).expect("removes");
    let found = files.after_cut(None);
    assert_eq!(found.list_recursive(Path::new("a")).expect("lists"), [("a/kept".into(), 6)]);
    let variants: std::collections::BTreeSet<_> =
        (0..64).map(|seed| files.after_cut(Some(seed)).list_recursive(Path::new("a")).expect("lists")).collect();
    assert!(variants.len() > 5, "seeds give different remains: {variants:?}");
    assert!(variants.iter().flatten().all(|(path, len)| path != Path::new("a/kept") || *len >= 6));
}

#[test]
fn calls_fail_on_request() {
    let files = SimFiles::new();
    files.fail_at(1, Fault::NoSpace);
    files.cut_at(3);
    let mut file = files.create(Path::new("x")).expect("call 0 works");
    assert_eq!(kind(file.append(b"abcd")), ErrorKind::StorageFull);
    assert_eq!(files.read(Path::new("x"), 0..2).expect("half of it is there"), b"ab");
    file.sync().expect("call 2 works");
    assert!(file.append(b"e").is_err() && file.sync().is_err() && files.len(Path::new("x")).is_err());
    assert_eq!(files.calls(), 4);
}

/// Power goes at every call of a put, a put over it and a put where nothing may be: an object is whole or not there, and
/// there once the put has returned.
#[tokio::test]
async fn a_put_is_whole_at_any_moment_and_durable_when_it_returns() {
    let puts: [(&str, &str, PutMode); 3] = [
        ("a/x", "first", PutMode::Overwrite),
        ("a/x", "second", PutMode::Overwrite),
        ("a/b/y", "only", PutMode::Create),
    ];
    let store = |files: &SimFiles| FileStore::new(Arc::new(files.clone()), PathBuf::from("root"), Clock::manual(0));
    let run = async |files: &SimFiles| {
        let (store, mut done) = (store(files), 0);
        for (path, bytes, mode) in puts.clone() {
            let put = store.put_opts(&path.into(), bytes.into(), PutOptions::from(mode)).await;
            done += usize::from(put.is_ok());
        }
        done
    };
    let whole = SimFiles::new();
    assert_eq!(run(&whole).await, puts.len());
    for cut in 0..=whole.calls() {
        let files = SimFiles::new();
        files.cut_at(cut);
        let done = run(&files).await;
        for seed in [None, Some(cut), Some(cut + 100)] {
            let store = store(&files.after_cut(seed));
            let mut found = [None, None];
            for (path, found) in ["a/x", "a/b/y"].into_iter().zip(&mut found) {
                if let Ok(object) = store.get(&path.into()).await {
                    *found = Some(object.bytes().await.expect("reads"));
                }
            }
            let [x, y] = found.each_ref().map(|bytes| bytes.as_deref());
            let expected: [Option<&[u8]>; 4] = [None, Some(b"first"), Some(b"second"), Some(b"second")];
            assert!(x == expected[done] || x == expected[(done + 1).min(2)], "cut at {cut}: {x:?} after {done} puts");
            assert!(y == Some(b"only") || y.is_none() && done < 3, "cut at {cut}: {y:?} after {done} puts");
        }
    }
    store(&whole).delete(&"a/b/y".into()).await.expect("deletes");
    assert!(store(&whole.after_cut(None)).get(&"a/b/y".into()).await.is_err(), "what is deleted stays so");
    let again = store(&whole).put_opts(&"a/x".into(), "third".into(), PutOptions::from(PutMode::Create)).await;
    assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })));
}
