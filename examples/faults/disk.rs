//! Disks of the harness's own: an ext4 in an image file, whose power can be cut, and a tmpfs.
//!
//! The power is cut with the ioctl `FS_IOC_SHUTDOWN`: from that moment nothing reaches the image,
//! and after unmounting and mounting again it has the content that a machine would find after a
//! loss of power. A mount is removed when its owner is dropped.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

/// Takes the directory of the mount, the flag, the WAL's directory or nothing, and a seed; waits for
/// a line, writes back some of the WAL's last pages where asked to, and cuts.
const CUT: &str = r#"
import ctypes, fcntl, glob, os, random, struct, sys
mount, flag, wal, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
directory = os.open(mount, os.O_RDONLY)
sync_file_range = ctypes.CDLL("libc.so.6", use_errno=True).sync_file_range
print("ready", flush=True)
sys.stdin.readline()
if wal:
    random.seed(seed)
    newest = max(glob.glob(wal + "/*.jnl"), key=lambda p: int(os.path.basename(p)[:-4]))
    log = os.open(newest, os.O_RDONLY)
    end = os.lseek(log, 0, os.SEEK_HOLE)
    pages = range(max(0, end // 4096 - 256), end // 4096 + 1)
    share = random.random()
    for page in pages:
        if random.random() < share:
            sync_file_range(log, ctypes.c_long(4096 * page), ctypes.c_long(4096), 7)
FS_IOC_SHUTDOWN = 0x8004587D
fcntl.ioctl(directory, FS_IOC_SHUTDOWN, struct.pack("I", flag))
"#;

/// Metadata that waits is written before the power goes, so that written-back pages are found.
const LOG_FLUSH: u32 = 1;
/// Nothing at all is written any more.
const NO_LOG_FLUSH: u32 = 2;

/// The kind of power cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// All that is not synced is gone.
    Clean,
    /// Some unsynced pages of the WAL are on the disk, others are not.
    Torn { seed: u64 },
}

/// A mounted file system.
pub struct Mount {
    pub at: PathBuf,
    /// The image, if there is one.
    image: Option<PathBuf>,
}

impl Mount {
    /// A new ext4 of N bytes in `scratch`.
    pub fn ext4(scratch: &Path, bytes: u64) -> anyhow::Result<Self> {
        let image = scratch.join("disk.image");
        std::fs::File::create(&image)?.set_len(bytes)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let mount = Self { at: scratch.join("disk"), image: Some(image) };
        std::fs::create_dir_all(&mount.at)?;
        mount.mount()?;
        Ok(mount)
    }

    /// A new tmpfs of N bytes in `scratch`.
    pub fn tmpfs(scratch: &Path, bytes: u64) -> anyhow::Result<Self> {
        let mount = Self { at: scratch.join("disk"), image: None };
        std::fs::create_dir_all(&mount.at)?;
        let size = format!("size={bytes}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&mount.at))?;
        Ok(mount)
    }

    fn mount(&self) -> anyhow::Result<()> {
        let image = self.image.as_ref().context("a disk with an image")?;
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&self.at))
    }

    /// Unmounted and mounted again: what is found now is what the disk has.
    pub fn remount(&self) -> anyhow::Result<()> {
        run(Command::new("umount").arg(&self.at))?;
        self.mount()
    }

    /// Everything written so far is on the disk.
    pub fn flush(&self) -> anyhow::Result<()> {
        run(Command::new("sync").arg("-f").arg(&self.at))
    }

    /// How full it is, in percent.
    pub fn used_percent(&self) -> anyhow::Result<u64> {
        let output = Command::new("df").arg("--output=pcent").arg(&self.at).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().nth(1).context("df says how full it is")?;
        Ok(line.trim().trim_end_matches('%').parse()?)
    }

    /// Prepares to cut the power at once on command.
    pub fn switch(&self, cut: Cut) -> anyhow::Result<Switch> {
        let (flag, wal, seed) = match cut {
            Cut::Clean => (NO_LOG_FLUSH, PathBuf::new(), 0),
            Cut::Torn { seed } => (LOG_FLUSH, self.at.join("data/journal"), seed),
        };
        let mut process = Command::new("python3")
            .args(["-c", CUT])
            .arg(&self.at)
            .arg(flag.to_string())
            .arg(wal)
            .arg(seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("python3 cuts the power")?;
        let mut ready = String::new();
        let stdout = process.stdout.take().context("its output is a pipe")?;
        BufReader::new(stdout).read_line(&mut ready)?;
        ensure!(ready == "ready\n", "the switch is not ready: {ready:?}");
        Ok(Switch { process })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount_below(&self.at);
    }
}

/// Cuts the power of one disk, once.
pub struct Switch {
    process: Child,
}

impl Switch {
    /// Cuts the power; returns when that began.
    pub fn cut(mut self) -> anyhow::Result<Instant> {
        let at = Instant::now();
        self.process.stdin.take().context("its input is a pipe")?.write_all(b"\n")?;
        let ended = self.process.wait()?;
        ensure!(ended.success(), "the power was not cut: {ended}");
        Ok(at)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // It may have ended after its work.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Why the harness can't have disks of its own here, if so.
pub fn unavailable(scratch: &Path) -> Option<String> {
    let tried = Mount::ext4(scratch, 8 << 20).and_then(|disk| disk.remount());
    let why = tried.err().map(|error| format!("no loop mount here: {error:#}"));
    why.or_else(|| {
        let python = Command::new("python3").arg("--version").output();
        python.err().map(|error| format!("no python3: {error}"))
    })
}

/// Unmounts whatever is mounted at or below a directory, the last one first.
pub fn unmount_below(root: &Path) {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    // The form of a space in a path there.
    let points = points.map(|point| point.replace("\\040", " "));
    let below: Vec<_> = points.filter(|point| Path::new(point).starts_with(root)).collect();
    for point in below.into_iter().rev() {
        if let Err(error) = run(Command::new("umount").arg(&point))
            .or_else(|_| run(Command::new("umount").arg("-l").arg(&point)))
        {
            eprintln!("{point} stays mounted: {error:#}");
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
