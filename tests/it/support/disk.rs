//! A small file system of the test's own, where mounting is allowed.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted tmpfs; unmounted when dropped.
pub struct SmallDisk {
    pub at: PathBuf,
    _directory: TempDir,
}

impl SmallDisk {
    /// Mounts with these options; `None`, and a word about it, where that is not allowed.
    pub fn mount(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("disk");
        std::fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(&at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("passed over: a tmpfs can't be mounted here");
        }
        mounted.then_some(Self { at, _directory: directory })
    }

    /// Takes every byte that is left; the file that has them.
    pub fn fill(&self) -> PathBuf {
        let path = self.at.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for piece in [vec![7; 1 << 20], vec![7; 1]] {
            while std::io::Write::write_all(&mut file, &piece).is_ok() {}
        }
        path
    }

    /// Takes every inode that is left; the files that have them.
    pub fn fill_inodes(&self) -> Vec<PathBuf> {
        let paths = (0..).map(|n| self.at.join(format!("filler-{n}")));
        paths.take_while(|path: &PathBuf| create(path)).collect()
    }
}

fn create(path: &Path) -> bool {
    std::fs::File::create(path).is_ok()
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its broker may still be ending.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
