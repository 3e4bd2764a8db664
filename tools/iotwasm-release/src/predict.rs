//! `iotwasm-release predict`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use iotwasm_firmware::predict::{
    Event, InnerKernel, Pe, PredictError, Prediction, pcr4_events, pcr11_events, phase_events, predict,
};
use iotwasm_firmware::release::PHASES;
use serde_json::json;

use crate::error::Error;

#[derive(Debug, Args)]
pub(crate) struct Predict {
    /// Print JSON: for each file its hashes and PCRs, as in release.json.
    #[arg(long)]
    json: bool,
    /// Show each event that extends a PCR, to compare with a device's event log (tpm2_eventlog).
    #[arg(long, conflicts_with = "json")]
    events: bool,
    /// Unified kernel images.
    #[arg(value_name = "UKI.efi", required = true)]
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &Predict) -> Result<(), Error> {
    let mut text = String::new();
    let mut list = Vec::new();
    for path in &args.files {
        let bytes = std::fs::read(path).map_err(|err| Error::Read { path: path.clone(), err })?;
        let failed = |err| Error::Predict { path: path.clone(), err };
        let prediction = predict(&bytes).map_err(failed)?;
        if args.json {
            list.push(json!({
                "file": path, "authenticode": prediction.uki, "kernel": prediction.kernel,
                "stub": prediction.stub.version, "pcrs": prediction.pcrs,
            }));
        } else {
            let events = args.events.then(|| Pe::parse(&bytes));
            let events = match events {
                Some(pe) => pcr11_events(&pe.map_err(|err| failed(PredictError::Uki { err }))?).map_err(failed)?,
                None => Vec::new(),
            };
            describe(&mut text, &path.display().to_string(), &prediction, args.events.then_some(&events));
        }
    }
    if args.json {
        text = format!("{:#}\n", serde_json::Value::from(list));
    }
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(|err| Error::Output { err })
}

fn describe(text: &mut String, name: &str, prediction: &Prediction, sections: Option<&Vec<Event>>) {
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{words}");
    };
    line(format_args!("{name}, {}", prediction.stub));
    line(format_args!("  Authenticode hash        {}", prediction.uki));
    line(format_args!("  of the kernel inside     {}", prediction.kernel));
    for pcr in &prediction.pcrs.pcr4 {
        let state = if pcr.secure_boot { "on" } else { "off" };
        line(format_args!("  PCR 4  Secure Boot {state:<6}{}", pcr.value));
        if sections.is_some() {
            let inner = InnerKernel::of(prediction.stub, pcr.secure_boot);
            for event in pcr4_events(prediction.uki, prediction.kernel, inner) {
                line(format_args!("      {} {}", event.digest, event.what));
            }
        }
    }
    for pcr in &prediction.pcrs.pcr11 {
        let phase = if pcr.phase.is_empty() { "before sysinit" } else { &pcr.phase };
        line(format_args!("  PCR 11 {phase:<18}{}", pcr.value));
    }
    for event in sections.into_iter().flatten() {
        line(format_args!("      {} {}", event.digest, event.what));
    }
    if sections.is_some() {
        for event in PHASES.last().into_iter().flat_map(|path| phase_events(path)) {
            line(format_args!("      {} {}", event.digest, event.what));
        }
    }
}
