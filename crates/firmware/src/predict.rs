//! What a boot of a UKI leaves in PCR 4 and PCR 11 of the TPM's sha256 bank, computed from the UKI's bytes alone.
//!
//! Owns the Authenticode hash of a PE image and the order in which OVMF and systemd-stub extend. Predicts what it knows and
//! refuses the rest: a section of a UKI that this page does not name is an error, never a guess.

mod pcr;
mod pcr11;
mod pcr4;
mod pe;
mod stub;

pub use pcr::{Event, replay};
pub use pcr4::{InnerKernel, events as pcr4_events};
pub use pcr11::{events as pcr11_events, phase_events};
pub use pe::{Pe, PeError, Section};
pub use stub::Stub;

use iotwasm_values::Digest;

use crate::release::{PHASES, Pcr4, Pcr11, Pcrs};

/// Why a UKI's measurements cannot be predicted.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// The file is not a PE image that the firmware would load.
    #[error("the UKI is not a PE image")]
    Uki {
        /// What is wrong with it.
        #[source]
        err: PeError,
    },
    /// The kernel in it is not one.
    #[error("the kernel in the UKI (.linux) is not a PE image")]
    Kernel {
        /// What is wrong with it.
        #[source]
        err: PeError,
    },
    /// It is not a UKI.
    #[error("the image has no section {name}, so it is not a UKI")]
    NoSection {
        /// Which.
        name: &'static str,
    },
    /// It has a section whose measurement depends on the machine, or on a choice at boot.
    #[error(
        "the UKI has a section {name}: what the stub measures of it depends on the machine, so no value can be given"
    )]
    Unpredictable {
        /// Which.
        name: String,
    },
    /// It has two sections of one name: the stub would take one of them.
    #[error("the UKI has more than one section {name}")]
    Twice {
        /// Which.
        name: String,
    },
    /// The stub in it is not systemd's, or not one whose way with the kernel is known.
    #[error("the UKI's stub does not say which systemd-stub it is (section .sdmagic)")]
    Stub,
}

/// What follows from a UKI's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// The UKI's Authenticode hash: what Secure Boot's signature is over, and what the firmware measures.
    pub uki: Digest,
    /// The same of the kernel inside.
    pub kernel: Digest,
    /// The stub that starts the kernel.
    pub stub: Stub,
    /// The values.
    pub pcrs: Pcrs,
}

/// Predicts PCR 4 and PCR 11 for a UKI that the firmware starts from its first boot option.
pub fn predict(uki: &[u8]) -> Result<Prediction, PredictError> {
    let pe = Pe::parse(uki).map_err(|err| PredictError::Uki { err })?;
    let sections = pcr11_events(&pe)?;
    let stub = Stub::of(&pe).ok_or(PredictError::Stub)?;
    let linux = pe.section(".linux").ok_or(PredictError::NoSection { name: ".linux" })?;
    // The stub hands the firmware the section as it lies in memory.
    let kernel = linux.in_memory();
    let kernel = Pe::parse(&kernel).map_err(|err| PredictError::Kernel { err })?.authenticode();
    let uki = pe.authenticode();
    let pcr4 = [false, true].map(|secure_boot| {
        let inner = InnerKernel::of(stub, secure_boot);
        Pcr4 { secure_boot, value: replay(&pcr4_events(uki, kernel, inner)) }
    });
    let pcr11 = PHASES.map(|phase| {
        let events: Vec<Event> = sections.iter().cloned().chain(phase_events(phase)).collect();
        Pcr11 { phase: phase.to_owned(), value: replay(&events) }
    });
    Ok(Prediction { uki, kernel, stub, pcrs: Pcrs { pcr4: pcr4.into(), pcr11: pcr11.into() } })
}
