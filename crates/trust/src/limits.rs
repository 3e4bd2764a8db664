//! How much an answer may cost. Every limit is there because the sender of the bytes is not trusted yet.

/// Bounds on what the client reads and how far it searches.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest root.json, in bytes (TUF 5.3.3: W). Roots with dozens of RSA keys stay below 100 KiB.
    pub root_bytes: u64,
    /// Largest timestamp.json, in bytes (TUF 5.4.1: X).
    pub timestamp_bytes: u64,
    /// Largest snapshot.json, in bytes, whatever the timestamp promises (TUF 5.5.1: Y).
    pub snapshot_bytes: u64,
    /// Largest targets metadata, top-level or delegated, in bytes, whatever the snapshot promises (TUF 5.6.1: Z).
    pub targets_bytes: u64,
    /// Most root versions taken in one refresh (TUF 5.3.3: Y). The next refresh goes on from there.
    pub root_rotations: u32,
    /// Most delegated roles asked for one target or one pattern (TUF 5.6.7.1).
    pub delegated_roles: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            root_bytes: 512 * 1024,
            timestamp_bytes: 16 * 1024,
            snapshot_bytes: 2 * 1024 * 1024,
            targets_bytes: 5 * 1024 * 1024,
            root_rotations: 1024,
            delegated_roles: 128,
        }
    }
}
