//! PCR 4: the programs that the firmware started on the way to the kernel.
//!
//! The path that is predicted, and the only one: a firmware that follows the TCG PC Client Platform Firmware Profile as
//! EDK II does (SecurityPkg's Tcg2Dxe and DxeTpm2MeasureBootLib; OVMF), whose first attempt to boot is this UKI. A first
//! attempt that fails leaves two more events ("Returning from EFI Application from Boot Option", and "Calling" again) and
//! another value: that device did not boot as it should, and a verifier should be told so.
//!
//! The kernel's own EFI stub extends PCR 9 (initrd, load options) and never PCR 4.

use iotwasm_values::Digest;

use super::pcr::Event;
use super::stub::Stub;

/// First systemd-stub that maps the kernel itself. Before it, the stub called LoadImage (systemd pull request 37372).
const MAPS_THE_KERNEL: u32 = 258;

/// Whether the firmware gets to see the kernel inside the UKI as a program of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InnerKernel {
    /// The stub loads it with LoadImage, and the firmware measures it like any program.
    Measured,
    /// The stub maps it itself; or it takes over the firmware's judgement for this one image, since the UKI's signature
    /// covers it, and with the judgement the measurement that hangs on it.
    NotMeasured,
}

impl InnerKernel {
    /// What a stub does. Its override of the security protocol is installed only while Secure Boot is on, which is why the
    /// two states differ.
    ///
    /// Shim is not on this path: the firmware starts the UKI.
    pub fn of(stub: Stub, secure_boot: bool) -> Self {
        if stub.version < MAPS_THE_KERNEL && !secure_boot { Self::Measured } else { Self::NotMeasured }
    }
}

/// The events of a boot, in their order. `uki` and `kernel` are Authenticode hashes.
pub fn events(uki: Digest, kernel: Digest, inner: InnerKernel) -> Vec<Event> {
    // Of the text without a NUL.
    let action = "Calling EFI Application from Boot Option";
    let mut events = vec![
        Event::of(format!("EV_EFI_ACTION {action:?}"), action.as_bytes()),
        // Between the firmware and what it boots, a separator goes into each of PCR 0 to 7.
        Event::of("EV_SEPARATOR", &[0; 4]),
        Event { what: "EV_EFI_BOOT_SERVICES_APPLICATION of the UKI".into(), digest: uki },
    ];
    if inner == InnerKernel::Measured {
        let what = "EV_EFI_BOOT_SERVICES_APPLICATION of the kernel in the UKI".into();
        events.push(Event { what, digest: kernel });
    }
    events
}
