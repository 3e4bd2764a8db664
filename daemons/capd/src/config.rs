//! Settings: `capd.toml`. Every one has a default that works.

use iotwasm_kit::access::Access;
use serde::Deserialize;

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who may call. `observe`: everything but OpenSession, by default everyone who can open the socket. `control`:
    /// OpenSession, by default iotwasm-wasm (and root, always).
    pub access: Access,
}

impl Default for Config {
    fn default() -> Self {
        Self { access: Access { control: vec!["iotwasm-wasm".to_owned()], ..Access::default() } }
    }
}
