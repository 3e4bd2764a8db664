//! wasm-supervisord: runs each payload in a sandboxed process of its own and watches its health.
//!
//! Pure core: [`machine`], [`protocol`], [`ending`], [`bucket`], [`ledger`]. Edges: [`verify`] (what may run),
//! [`capabilities`] (what it may reach), [`process`], [`cgroup`] and [`sandbox`] (how it runs), [`storage`], [`meter`]
//! and [`journal`] (what it leaves behind).
//! [`run`] is one run of a payload, [`keeper`] one payload, [`supervisor`] all of them, [`service`] what others may ask.
//! The runner is a program of its own (`iotwasm-runner`): this one never loads a WebAssembly engine.

pub mod bucket;
pub mod capabilities;
pub mod cgroup;
pub mod config;
pub mod daemon;
pub mod ending;
pub mod journal;
pub mod keeper;
pub mod ledger;
pub mod machine;
pub mod meter;
pub mod notices;
pub mod process;
pub mod protocol;
pub mod run;
pub mod sandbox;
pub mod service;
pub mod spawner;
pub mod storage;
pub mod supervisor;
pub mod verify;

pub use daemon::main;
