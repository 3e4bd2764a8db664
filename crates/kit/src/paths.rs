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
/// Payload slots: `<id>/{a,b}/payload.wasm`, `<id>/{a,b}/chain/`, `<id>/state.json`.
pub const PAYLOADS: &str = "/data/iotwasm/payloads";
/// WASI directories: `<id>/<name>`.
pub const STORAGE: &str = "/data/iotwasm/storage";
/// This device's identity, one line, made at the first boot.
pub const DEVICE_ID: &str = "/data/iotwasm/device-id";

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
