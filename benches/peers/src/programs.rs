//! The servers' programs: where they are, and of what version.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    Redis,
    Nats,
    Nginx,
    Mosquitto,
    Weir,
}

pub const ALL: [Program; 5] =
    [Program::Redis, Program::Nats, Program::Nginx, Program::Mosquitto, Program::Weir];

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Nats => "nats-server",
            Self::Nginx => "nginx",
            Self::Mosquitto => "mosquitto",
            Self::Weir => "weir",
        }
    }

    /// Where it is: weir at `WEIR_BIN`, the others on the path or where the system keeps servers.
    pub fn path(self) -> Option<PathBuf> {
        if self == Self::Weir {
            let path = PathBuf::from(env::var_os("WEIR_BIN")?);
            return path.is_file().then_some(path);
        }
        if self == Self::Nginx && nchan_module().is_none() {
            return None;
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        env::split_paths(&path)
            .chain(system)
            .map(|directory| directory.join(self.name()))
            .find(|path| path.is_file())
    }

    /// What it says of its version.
    pub fn version(self) -> Result<String> {
        let path = self.path().with_context(|| format!("no {}", self.name()))?;
        let argument = match self {
            Self::Nginx => "-v",
            Self::Mosquitto => "-h",
            _ => "--version",
        };
        let output = Command::new(&path).arg(argument).output()?;
        let said = [output.stdout, output.stderr].concat();
        let line = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
        if self != Self::Nginx {
            return Ok(line);
        }
        // The module does not tell; Debian's packages do.
        let module = Command::new("dpkg-query")
            .args(["-W", "-f", "${Version}", "libnginx-mod-nchan"])
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        Ok(match module {
            Ok(version) if !version.is_empty() => format!("{line}, nchan {version}"),
            _ => line,
        })
    }
}

/// nginx's module nchan: at `NCHAN_MODULE`, or where distributions keep modules.
pub fn nchan_module() -> Option<PathBuf> {
    if let Some(path) = env::var_os("NCHAN_MODULE") {
        return Some(PathBuf::from(path));
    }
    ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules"]
        .map(|directory| Path::new(directory).join("ngx_nchan_module.so"))
        .into_iter()
        .find(|path| path.is_file())
}

pub fn as_root() -> bool {
    rustix::process::geteuid().is_root()
}
