//! Boots the reference image in QEMU and runs scenarios on it. Owns the virtual machine, its TPM, the web servers that
//! it sees and the order of steps; never looks into the daemons other than through what a device offers.

pub mod accel;
pub mod agent;
pub mod bench;
mod bench_firmware;
mod bench_io;
pub mod cli;
pub mod demo;
pub mod device;
pub mod error;
pub mod protocol;
pub mod qmp;
pub mod random;
pub mod repo;
pub mod row;
pub mod scenarios;
pub mod server;
pub mod steps;
pub mod uefi;
pub mod vm;
pub mod wait;
pub mod world;
