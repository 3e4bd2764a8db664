//! What the tests of guests share.

use iotwasm_wasmedge::{Engine, HostModule, Instance, Limits, Wasi};

/// Enough for anything that ends, little enough that what does not end stops soon.
pub(crate) const FUEL: u64 = 5_000_000;
/// An instance of a module in text form.
pub(crate) fn instance(fuel: u64, wat: &str, hosts: Vec<HostModule>, wasi: Option<&Wasi>) -> Instance {
    let wasm = wat::parse_str(wat).unwrap();
    let engine = Engine::new(Limits { fuel, memory_pages: 16 }).unwrap();
    engine.load(&wasm).unwrap().instantiate(hosts, wasi).unwrap()
}
