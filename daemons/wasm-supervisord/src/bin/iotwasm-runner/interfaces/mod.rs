//! What a guest can import, one file for each interface. A peripheral's interface gets a file beside `lifecycle`, reads
//! what it may do from the setup's capabilities, and is added to [`modules`] where the manifest asks for it; the static
//! check has then already made sure that the module imports nothing else.

pub(crate) mod lifecycle;

use std::sync::Arc;

use iotwasm_wasmedge::HostModule;
use wasm_supervisord::protocol::Setup;

use lifecycle::Life;

/// The host modules of a payload.
pub(crate) fn modules(life: &Arc<Life>, _setup: &Setup) -> Vec<HostModule> {
    vec![lifecycle::module(life)]
}
