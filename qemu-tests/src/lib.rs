//! Boots the reference image in QEMU and runs scenarios on it. Owns the virtual machine, its TPM, the web servers that
//! it sees and the order of steps; never looks into the daemons other than through what a device offers.

pub mod protocol;
