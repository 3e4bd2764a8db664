//! Where things live on the device. The one home of these paths for every daemon and tool.

/// TUF root metadata pinned on the verified root file system.
pub const PINNED_ROOT: &str = "/usr/share/iotwasm/root.json";
/// What the board has.
pub const BOARD: &str = "/usr/share/iotwasm/board.toml";
/// What each signing role may ever grant: `<role>.toml`.
pub const TIERS_D: &str = "/usr/share/iotwasm/tiers.d";
/// The image's build time, RFC 3339: no clock on the device may be earlier.
pub const BUILD_TIME: &str = "/usr/lib/iotwasm/build-time";
/// Defaults that the image ships.
pub const VENDOR_CONFIG: &str = "/usr/lib/iotwasm";
/// The OEM's settings, over the defaults.
pub const LOCAL_CONFIG: &str = "/etc/iotwasm";
/// Folder, below either configuration folder, with one file for each payload that the device runs.
pub const PAYLOADS_D: &str = "payloads.d";

/// The TUF client's store.
pub const TUF_STORE: &str = "/data/iotwasm/ota/metadata";
/// Downloads under way.
pub const DOWNLOADS: &str = "/data/iotwasm/ota/download";
/// Attempts with their outcomes.
pub const HISTORY: &str = "/data/iotwasm/ota/history.json";
/// What is under way with the firmware slots.
pub const FIRMWARE_STATE: &str = "/data/iotwasm/ota/firmware.json";
/// Payload slots: `<id>/{a,b}/payload.wasm`, `<id>/{a,b}/chain/`, `<id>/state.json`.
pub const PAYLOADS: &str = "/data/iotwasm/payloads";
/// WASI directories: `<id>/<name>`.
pub const STORAGE: &str = "/data/iotwasm/storage";
/// This device's identity, one line, made at the first boot.
pub const DEVICE_ID: &str = "/data/iotwasm/device-id";

/// Says which firmware slot was booted: `RAUC_SLOT=slot-a` or `slot-b`. Written by the initrd.
pub const BOOTED_SLOT: &str = "/run/iot/slot";
/// Is there if the slot that was booted is not the first of the boot order. Written by the initrd.
pub const TRIAL_BOOT: &str = "/run/iot/trial";
/// Is there if no entry of the bootloader named a slot: the boot order says nothing about what runs. Written by the initrd.
pub const UNORDERED_BOOT: &str = "/run/iot/unordered";
/// `IMAGE_VERSION` is the firmware's version.
pub const OS_RELEASE: &str = "/usr/lib/os-release";
/// RAUC's settings, and in them the `compatible` of this device.
pub const RAUC_CONFIG: &str = "/etc/rauc/system.conf";
/// Made by ota-updated, it has the system reboot in order.
pub const REBOOT: &str = "/run/iotwasm/ota/reboot";
/// Made by ota-updated, it says that this boot is no trial any more; one without it is ended by a reboot.
pub const KEPT: &str = "/run/iotwasm/ota/kept";
/// Made by ota-updated for itself: since when the restart into new firmware has been due in this boot.
pub const RESTART_DUE: &str = "/run/iotwasm/ota/restart-due";
/// What requires every unit that must be there before new firmware is kept.
pub const HEALTH_TARGET: &str = "boot-complete.target";
/// The system bus, where the environment names no other.
pub const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";
/// The kernel's block devices.
pub const BLOCK_DEVICES: &str = "/sys/class/block";
/// The kernel's power supplies.
pub const POWER_SUPPLIES: &str = "/sys/class/power_supply";

/// ota-updated's Varlink socket.
pub const OTA_SOCKET: &str = "/run/iotwasm/ota.sock";
/// wasm-supervisord's Varlink socket.
pub const SUPERVISOR_SOCKET: &str = "/run/iotwasm/supervisor.sock";
/// What tells capd that it was started before since the boot.
pub const CAPD_RUNTIME: &str = "/run/iotwasm-capd";
/// capd's Varlink socket.
pub const CAPABILITIES_SOCKET: &str = "/run/iotwasm/capabilities.sock";
/// Metrics in the textfile-collector convention: `<daemon>.prom`.
pub const METRICS: &str = "/run/iotwasm/metrics";
/// The sandboxed process that runs one payload.
pub const RUNNER: &str = "/usr/libexec/iotwasm/iotwasm-runner";
