//! PCR 11: the UKI's sections, as systemd-stub measures them before it looks at any of them, and the phases of the boot, as
//! systemd-pcrextend(8) adds them.
//!
//! UAPI.5 "Unified Kernel Image", systemd-stub(7) "TPM PCR Notes": for each section that is there, in an order of the
//! stub's own and not the file's, first the section's name with its NUL, then its contents at their virtual size.

use super::PredictError;
use super::pcr::Event;
use super::pe::Pe;

/// What the stub measures, in its order. `.pcrsig` is left out by the specification: it holds signatures of the result.
const MEASURED: [&str; 10] =
    [".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey"];

/// Sections whose measurement depends on what the machine is or which profile is chosen. Our UKIs have none of them.
const UNPREDICTABLE: [&str; 4] = [".profile", ".dtbauto", ".hwids", ".efifw"];

/// The events of the stub.
pub fn events(uki: &Pe<'_>) -> Result<Vec<Event>, PredictError> {
    if let Some(name) = UNPREDICTABLE.into_iter().find(|name| uki.section(name).is_some()) {
        return Err(PredictError::Unpredictable { name: name.to_owned() });
    }
    let mut events = Vec::new();
    for name in MEASURED {
        let mut sections = uki.sections().iter().filter(|section| section.name() == name);
        let Some(section) = sections.next() else { continue };
        if sections.next().is_some() {
            return Err(PredictError::Twice { name: name.to_owned() });
        }
        // A section without contents is as good as none to the stub.
        let contents = section.in_memory();
        if contents.is_empty() {
            continue;
        }
        events.push(Event::of(format!("EV_IPL name of {name}"), format!("{name}\0").as_bytes()));
        events.push(Event::of(format!("EV_IPL contents of {name}"), &contents));
    }
    if uki.section(".linux").is_none() {
        return Err(PredictError::NoSection { name: ".linux" });
    }
    Ok(events)
}

/// The events of a path of phases: each word once, without a NUL.
pub fn phase_events(path: &str) -> impl Iterator<Item = Event> {
    let words = path.split(':').filter(|word| !word.is_empty());
    words.map(|word| Event::of(format!("phase {word}"), word.as_bytes()))
}
