//! The lists of tables in fjall's trees, checked before fjall relies on them.
//!
//! A tree is a folder: `current` names a version file and its checksum, the version file lists the
//! tables with theirs (lsm-tree 3, `src/version/`), each table is one file under `tables`. fjall
//! checks none of these checksums when it opens, and it deletes a keyspace that its own catalogue
//! (tree 0) does not name: so that tree is checked whole, and of the others what costs little.
//!
//! Nothing is changed here; damage is reported by its file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Buf;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

/// A file of fjall's that differs from what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?}: {what}")]
pub(in crate::journal) struct BadFile {
    pub(in crate::journal) path: PathBuf,
    pub(in crate::journal) what: String,
}

fn bad(path: &Path, what: impl std::fmt::Display) -> BadFile {
    BadFile { path: path.to_owned(), what: what.to_string() }
}

/// A table as its tree's version lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Table {
    pub(in crate::journal) path: PathBuf,
    pub(in crate::journal) checksum: u128,
}

/// The trees of a database, each with its tables.
///
/// # Errors
/// The first file that fjall can't have written.
pub(in crate::journal) fn trees(database: &Path) -> Result<Vec<(u64, Vec<Table>)>, BadFile> {
    let keyspaces = database.join("keyspaces");
    let entries = std::fs::read_dir(&keyspaces).map_err(|e| bad(&keyspaces, e))?;
    let mut trees = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| bad(&keyspaces, e))?.path();
        let id = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let id: u64 = id.ok_or_else(|| bad(&path, "is no keyspace of fjall's"))?;
        trees.push((id, tables(&path)?));
    }
    trees.sort_by_key(|(id, _)| *id);
    Ok(trees)
}

/// Checks what is cheap to check: every tree's lists, that the tables exist, and all of fjall's own
/// catalogue.
///
/// # Errors
/// The first file that is missing or damaged.
pub(in crate::journal) fn check(database: &Path) -> Result<(), BadFile> {
    for (id, tables) in trees(database)? {
        for table in tables {
            if id == 0 {
                check_table(&table)?;
            } else if !table.path.is_file() {
                return Err(bad(&table.path, "is missing"));
            }
        }
    }
    Ok(())
}

/// Checks a table's every byte.
///
/// # Errors
/// The table can't be read, or differs from what was written.
pub(in crate::journal) fn check_table(table: &Table) -> Result<(), BadFile> {
    let failed = |error| bad(&table.path, error);
    let mut file = BufReader::with_capacity(1 << 20, File::open(&table.path).map_err(failed)?);
    let mut hasher = Xxh3Default::new();
    loop {
        let bytes = file.fill_buf().map_err(failed)?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        let read = bytes.len();
        file.consume(read);
    }
    if hasher.digest128() == table.checksum {
        Ok(())
    } else {
        Err(bad(&table.path, "the table's checksum does not match"))
    }
}

fn tables(tree: &Path) -> Result<Vec<Table>, BadFile> {
    let current = tree.join("current");
    let bytes = std::fs::read(&current).map_err(|e| bad(&current, e))?;
    let mut rest = &bytes[..];
    if rest.len() != 25 {
        return Err(bad(&current, "has a wrong length"));
    }
    let (version, checksum, kind) = (rest.get_u64_le(), rest.get_u128_le(), rest.get_u8());
    if kind != 0 {
        return Err(bad(&current, "names an unknown kind of checksum"));
    }
    let path = tree.join(format!("v{version}"));
    let content = std::fs::read(&path).map_err(|e| bad(&path, e))?;
    if xxh3_128(&content) != checksum {
        return Err(bad(&path, format!("is not what {current:?} says: one of them is damaged")));
    }
    let archive = sfa::Reader::new(&path).map_err(|e| bad(&path, format!("{e:?}")))?;
    let section = archive.toc().section(b"tables").ok_or_else(|| bad(&path, "lists no tables"))?;
    let mut list = Vec::new();
    let mut reader = section.buf_reader(&path).map_err(|e| bad(&path, e))?;
    reader.read_to_end(&mut list).map_err(|e| bad(&path, e))?;
    let ids = table_list(&list).ok_or_else(|| bad(&path, "the list of tables is cut short"))?;
    let table =
        |(id, checksum)| Table { path: tree.join("tables").join(format!("{id}")), checksum };
    Ok(ids.into_iter().map(table).collect())
}

/// levels u8, each: runs u8, each: tables u32, each: id u64 · checksum kind u8 · checksum u128 ·
/// seqno u64
fn table_list(mut list: &[u8]) -> Option<Vec<(u64, u128)>> {
    let mut found = Vec::new();
    for _level in 0..list.try_get_u8().ok()? {
        for _run in 0..list.try_get_u8().ok()? {
            for _table in 0..list.try_get_u32_le().ok()? {
                let id = list.try_get_u64_le().ok()?;
                list.try_get_u8().ok()?;
                found.push((id, list.try_get_u128_le().ok()?));
                list.try_get_u64_le().ok()?;
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_database_passes_and_any_flipped_bit_of_its_lists_is_named() {
        let directory = tempfile::tempdir().unwrap();
        {
            let database = fjall::Database::builder(directory.path()).open().unwrap();
            let keyspace = database.keyspace("k", fjall::KeyspaceCreateOptions::default).unwrap();
            keyspace.insert("a", "1").unwrap();
            keyspace.rotate_memtable_and_wait().unwrap();
        }
        check(directory.path()).unwrap();
        let trees = trees(directory.path()).unwrap();
        assert_eq!(trees.len(), 2);
        let table = &trees[1].1[0];
        check_table(table).unwrap();

        let flipped = |path: &Path, check: &dyn Fn() -> Result<(), BadFile>| {
            let sound = std::fs::read(path).unwrap();
            for bit in (0..sound.len() * 8).step_by(7) {
                let mut bytes = sound.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(path, bytes).unwrap();
                assert!(check().is_err(), "{path:?} bit {bit}");
            }
            std::fs::write(path, sound).unwrap();
        };
        let tree = directory.path().join("keyspaces/1");
        flipped(&tree.join("current"), &|| check(directory.path()));
        flipped(&table.path, &|| check_table(table));
        let version = std::fs::read(tree.join("current")).unwrap()[0];
        flipped(&tree.join(format!("v{version}")), &|| check(directory.path()));
        std::fs::remove_file(&table.path).unwrap();
        assert!(check(directory.path()).unwrap_err().to_string().contains("is missing"));
    }
}
