//! The cell of a runner: a control group that bounds what its process may take, and ends all of it at once.
//!
//! The service unit delegates a subtree (Delegate=yes, DelegateSubgroup=supervisor): this daemon sits in
//! `…/wasm-supervisord.service/supervisor` and makes the runners' groups beside it. There is no mode without: a device
//! whose kernel or unit lacks delegation must be told, not silently run without the wall that [`crate::sandbox`] needs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the unified hierarchy is mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// What each cell starts with, so that what an earlier supervisor left behind is known as ours.
const PREFIX: &str = "payload-";
/// Controllers that the cells need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// What a cell allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most memory of every kind, in bytes. Swap is not allowed.
    pub memory_bytes: u64,
    /// Most processes and threads.
    pub tasks: u32,
    /// Share of one processor, in percent.
    pub cpu_percent: u32,
}

/// What could not be done with which file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No unified hierarchy, or the process is not in it.
    #[error("this process is in no cgroup v2; boot with the unified hierarchy (systemd.unified_cgroup_hierarchy=1)")]
    NotUnified,
    /// The unit does not delegate.
    #[error("{} is not delegated; the unit needs Delegate=yes and DelegateSubgroup=supervisor", path.display())]
    NotDelegated {
        /// The service's group.
        path: PathBuf,
    },
    /// The kernel or systemd keeps a controller back.
    #[error("the cgroup controller {controller} is not available to {}", path.display())]
    NoController {
        /// Which.
        controller: &'static str,
        /// The service's group.
        path: PathBuf,
    },
    /// A file or folder of the hierarchy.
    #[error("could not {what} {}", path.display())]
    File {
        /// The operation.
        what: &'static str,
        /// On which.
        path: PathBuf,
        /// The cause.
        #[source]
        err: io::Error,
    },
}

/// Whose want of memory made the kernel end a process of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starved {
    /// The cell reached its own bound.
    ByItself,
    /// The bound of a group above, or the device's memory.
    ByOthers,
}

/// Makes cells.
///
/// Each name is used once at a time. A cell that is dropped without [`Cell::remove`] stays behind until the next start.
pub trait Cells {
    /// A new, empty cell.
    ///
    /// # Errors
    /// It could not be made or bounded; nothing is left behind.
    fn make(&self, name: &str, bounds: &Bounds) -> Result<Box<dyn Cell>, Error>;
}

/// A runner's cell.
pub trait Cell {
    /// Put a process into it. Its later children are in it too.
    ///
    /// # Errors
    /// The process is not in the cell and must be ended.
    fn admit(&self, pid: u32) -> Result<(), Error>;

    /// End every process in it at once, without a chance to resist.
    ///
    /// # Errors
    /// Processes may be left.
    fn kill(&self) -> Result<(), Error>;

    /// Whether the kernel ended a process of it for want of memory, and whose.
    fn starved(&self) -> Option<Starved>;

    /// Remove it. Fails while a process is left in it.
    ///
    /// # Errors
    /// It is still there.
    fn remove(&self) -> Result<(), Error>;
}

/// Cells in the subtree that systemd delegated.
#[derive(Debug)]
pub struct Delegated {
    service: PathBuf,
}

impl Delegated {
    /// Find our own subtree, enable the controllers, and clear away what an earlier supervisor left.
    ///
    /// # Errors
    /// Says what the unit or the kernel lacks.
    pub fn open() -> Result<Self, Error> {
        let path = Path::new("/proc/self/cgroup");
        let own = fs::read_to_string(path).map_err(|err| Error::File { what: "read", path: path.into(), err })?;
        Self::at(Path::new(MOUNT), &own)
    }

    fn at(mount: &Path, own: &str) -> Result<Self, Error> {
        let own = own_group(own).ok_or(Error::NotUnified)?;
        let group = mount.join(own.trim_start_matches('/'));
        // The root group cannot be ours, and above our own group lies what systemd gave us.
        let service = match group.parent() {
            Some(service) if service != mount && group != mount => service.to_owned(),
            _ => return Err(Error::NotDelegated { path: group }),
        };
        let offered = fs::read_to_string(service.join("cgroup.controllers")).map_err(|err| Error::File {
            what: "read",
            path: service.join("cgroup.controllers"),
            err,
        })?;
        if let Some(controller) = CONTROLLERS.into_iter().find(|name| !offered.split_whitespace().any(|c| c == *name)) {
            return Err(Error::NoController { controller, path: service });
        }
        let wanted = CONTROLLERS.map(|name| format!("+{name}")).join(" ");
        match put(&service, "cgroup.subtree_control", &wanted) {
            Ok(()) => {}
            // Not ours to write, or processes sit in the service's group itself.
            Err(Error::File { err, .. })
                if matches!(err.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ResourceBusy) =>
            {
                return Err(Error::NotDelegated { path: service });
            }
            Err(err) => return Err(err),
        }
        let cells = Self { service };
        cells.clear();
        Ok(cells)
    }

    /// End and remove the cells of a supervisor that was killed.
    fn clear(&self) {
        let Ok(entries) = fs::read_dir(&self.service) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
            let cell = Group { path: entry.path() };
            if let Err(err) = cell.kill().and_then(|()| cell.remove()) {
                // Names are numbered anew from one: a cell of the same name would fail the start, and say why.
                iotwasm_kit::warn!("could not clear an old cell: {}", iotwasm_kit::report::chain(&err));
            }
        }
    }
}

/// The path in the unified hierarchy, from /proc/self/cgroup.
fn own_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| path.starts_with('/') && !path.contains(".."))
}

impl Cells for Delegated {
    fn make(&self, name: &str, bounds: &Bounds) -> Result<Box<dyn Cell>, Error> {
        let cell = Group { path: self.service.join(format!("{PREFIX}{name}")) };
        match fs::create_dir(&cell.path) {
            Ok(()) => {}
            Err(err) => return Err(Error::File { what: "make", path: cell.path, err }),
        }
        if let Err(err) = cell.bound(bounds) {
            // It is empty, so it goes; if it did not, the next start clears it.
            let _ = cell.remove();
            return Err(err);
        }
        Ok(Box::new(cell))
    }
}

#[derive(Debug)]
struct Group {
    path: PathBuf,
}

impl Group {
    fn bound(&self, bounds: &Bounds) -> Result<(), Error> {
        put(&self.path, "memory.max", &bounds.memory_bytes.to_string())?;
        match put(&self.path, "memory.swap.max", "0") {
            // A kernel without swap has no such file, and nothing to forbid.
            Err(Error::File { err, .. }) if err.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        put(&self.path, "memory.oom.group", "1")?;
        put(&self.path, "pids.max", &bounds.tasks.to_string())?;
        put(&self.path, "cpu.max", &cpu_max(bounds.cpu_percent))
    }
}

/// Quota and period, in microseconds.
fn cpu_max(percent: u32) -> String {
    format!("{} 100000", u64::from(percent.max(1)) * 1000)
}

impl Cell for Group {
    fn admit(&self, pid: u32) -> Result<(), Error> {
        put(&self.path, "cgroup.procs", &pid.to_string())
    }

    fn kill(&self) -> Result<(), Error> {
        put(&self.path, "cgroup.kill", "1")
    }

    fn starved(&self) -> Option<Starved> {
        // A file that cannot be read says nothing; the end is then told as what the wait status says.
        fs::read_to_string(self.path.join("memory.events.local")).ok().and_then(|text| starved(&text))
    }

    fn remove(&self) -> Result<(), Error> {
        match fs::remove_dir(&self.path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(Error::File { what: "remove", path: self.path.clone(), err })
            }
            _ => Ok(()),
        }
    }
}

/// `oom_kill` counts the processes that were ended, whoever ran out; `oom` how often this very group reached its bound
/// with nothing left to reclaim.
fn starved(events: &str) -> Option<Starved> {
    let count = |name: &str| {
        let mut fields = events.lines().filter_map(|line| line.split_once(' '));
        fields.find(|(field, _)| *field == name).and_then(|(_, value)| value.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    match (count("oom_kill"), count("oom")) {
        (0, _) => None,
        (_, 0) => Some(Starved::ByOthers),
        _ => Some(Starved::ByItself),
    }
}

fn put(group: &Path, file: &str, value: &str) -> Result<(), Error> {
    let path = group.join(file);
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|err| Error::File { what: "write", path, err })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "0::/system.slice/wasm-supervisord.service/supervisor\n";

    /// Files as in the hierarchy; a real one is used in the reference image.
    fn service(controllers: &str) -> (tempfile::TempDir, PathBuf) {
        let mount = tempfile::tempdir().unwrap();
        let service = mount.path().join("system.slice/wasm-supervisord.service");
        fs::create_dir_all(service.join("supervisor")).unwrap();
        fs::write(service.join("cgroup.controllers"), controllers).unwrap();
        fs::write(service.join("cgroup.subtree_control"), "").unwrap();
        (mount, service)
    }

    #[test]
    fn finds_its_service_and_enables_the_controllers() {
        let (mount, service) = service("cpuset cpu io memory pids\n");
        let cells = Delegated::at(mount.path(), &format!("12:cpu:/x\n{OWN}")).unwrap();
        assert_eq!(cells.service, service);
        assert_eq!(fs::read_to_string(service.join("cgroup.subtree_control")).unwrap(), "+cpu +memory +pids");
    }

    #[test]
    fn a_missing_controller_is_named() {
        let (mount, _) = service("cpu pids\n");
        let err = Delegated::at(mount.path(), OWN).unwrap_err();
        assert!(matches!(err, Error::NoController { controller: "memory", .. }), "{err}");
    }

    #[test]
    fn a_host_without_the_unified_hierarchy_or_without_a_service_is_refused() {
        let (mount, _) = service("cpu memory pids\n");
        assert!(matches!(Delegated::at(mount.path(), "3:cpu:/x\n"), Err(Error::NotUnified)));
        assert!(matches!(Delegated::at(mount.path(), "0::/\n"), Err(Error::NotDelegated { .. })));
        assert!(matches!(Delegated::at(mount.path(), "0::/../x\n"), Err(Error::NotUnified)));
    }

    #[test]
    fn kernel_texts_are_read_and_written() {
        assert_eq!(starved("low 0\noom 4\noom_kill 3\noom_group_kill 1\n"), Some(Starved::ByItself));
        assert_eq!(starved("low 0\noom 0\noom_kill 1\noom_group_kill 0\n"), Some(Starved::ByOthers));
        assert_eq!(starved("oom 2\noom_kill 0\n"), None);
        assert_eq!(starved("low 0\n"), None);
        assert_eq!(cpu_max(150), "150000 100000");
    }
}
