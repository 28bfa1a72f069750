//! The result of plain fjall on a damaged directory, for comparison.
//!
//! It is opened in a process of its own, this example's, since it may panic or hang: that counts
//! as refused.

use std::path::Path;
use std::process::Command;

use fjall::{Database, KeyspaceCreateOptions};

/// The result of opening a directory and reading all of `blocks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Harmless,
    Refused,
    Silent,
}

/// Opens the store in this process, prints its keys and the checksums of their values.
pub fn print(data: &Path) -> anyhow::Result<()> {
    let database = Database::builder(data.join("journal")).open()?;
    let blocks = database.keyspace("blocks", KeyspaceCreateOptions::default)?;
    for guard in blocks.iter() {
        let (key, value) = guard.into_inner()?;
        println!("{:02x?} {:08x}", &key[..], crc32c::crc32c(&value));
    }
    Ok(())
}

/// The same in a process of its own; `None` if it failed.
pub fn contents(data: &Path) -> anyhow::Result<Option<String>> {
    let own = std::env::current_exe()?;
    let output =
        Command::new("timeout").arg("20").arg(own).arg("--plain-fjall").arg(data).output()?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Compares the content of a damaged copy with that of the undamaged directory.
pub fn judge(data: &Path, undamaged: &str) -> anyhow::Result<Outcome> {
    Ok(match contents(data)? {
        None => Outcome::Refused,
        Some(found) if found == undamaged => Outcome::Harmless,
        Some(_) => Outcome::Silent,
    })
}
