//! What a runner is told and what its cell holds, computed from the manifest and the settings. Pure.

use iotwasm_payload::{Manifest, interfaces::INTERFACES, manifest::EntryStyle};

use crate::{
    cgroup::Bounds,
    config,
    protocol::{Directory, Setup},
    storage::Folder,
};

/// Private memory beyond the cell's bound that the process may map: thread stacks that are mostly never touched. The
/// cell is the wall; this only keeps absurd requests from being granted.
const DATA_BEYOND: u64 = 64 * 1024 * 1024;
/// What the engine keeps for each byte of a module, generously.
const MODULE_FACTOR: u64 = 16;
/// Open descriptors of every runner: three standard ones, the control socket, the module, the session, and the guest's
/// files.
const OPEN_FILES: u64 = 64;

/// The walls of a payload's cell.
pub(super) fn bounds(settings: &config::Runner, manifest: &Manifest, length: u64) -> Bounds {
    let pages = u64::from(manifest.limits.memory_pages) * 64 * 1024;
    let overhead = u64::from(settings.overhead_mib) * 1024 * 1024;
    Bounds {
        memory_bytes: pages + overhead + length * MODULE_FACTOR,
        tasks: settings.tasks,
        cpu_percent: settings.cpu_percent,
    }
}

/// All that the runner is told of its payload.
pub(super) fn setup(manifest: &Manifest, folders: &[Folder], bounds: &Bounds) -> Setup {
    let limits = &manifest.limits;
    Setup {
        payload: manifest.id.to_string(),
        command: manifest.entry.style == EntryStyle::Command,
        wasi: manifest.has_wasi(),
        memory_pages: limits.memory_pages,
        fuel: limits.fuel,
        wake_up_ms: limits.wake_up_ms,
        self_test_ms: limits.self_test_ms,
        data_bytes: bounds.memory_bytes + DATA_BEYOND,
        // One limit for the whole process: that of the roomiest folder, and at least what the session's activity file
        // holds: a byte for each sensor.
        file_bytes: folders
            .iter()
            .filter_map(|folder| folder.quota)
            .chain([manifest.capabilities.sensors.len() as u64])
            .max()
            .unwrap_or(0),
        environment: manifest.wasi.as_ref().map(|wasi| wasi.environment.clone()).unwrap_or_default(),
        directories: folders
            .iter()
            .map(|folder| Directory {
                guest: folder.guest.clone(),
                host: folder.host.display().to_string(),
                writable: folder.quota.is_some(),
            })
            .collect(),
        session: !manifest.capabilities.is_empty(),
        interfaces: INTERFACES.iter().filter(|i| i.needs.met_by(manifest)).map(|i| i.module.to_owned()).collect(),
        open_files: OPEN_FILES + granted_files(manifest),
    }
}

/// Descriptors that come over the session: one for each line, one for each value of a sensor.
fn granted_files(manifest: &Manifest) -> u64 {
    let capabilities = &manifest.capabilities;
    let channels = capabilities.sensors.values().map(|sensor| sensor.capabilities.len() + sensor.attributes.len());
    (capabilities.gpio.len() + channels.sum::<usize>()) as u64
}
