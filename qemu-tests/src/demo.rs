//! The demonstration: the main job of a device as a story, each chapter made of the same steps that the scenarios check,
//! and the table of all of them at the end.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::accel::Accel;
use crate::error::{Result, chain};
use crate::repo::Built;
use crate::scenarios::{account, boot, capabilities, crash, defective, firmware, life, storage, trust};
use crate::steps::{Steps, table};
use crate::world::World;

/// One part of the story.
struct Chapter {
    title: &'static str,
    text: &'static str,
    run: fn(&mut World, &mut Steps) -> Result<()>,
}

const STORY: &[Chapter] = &[
    Chapter {
        title: "A device from the factory",
        text: "Firmware starts a signed-for kernel image, its command line carries the root hash, and dm-verity checks \
               every block that is read. The TPM has measured it: PCR 11 is what the release predicts.",
        run: boot::verified_boot,
    },
    Chapter {
        title: "The first payload",
        text: "The OEM publishes counter 1.0.0 to a TUF repository on a web server. Nobody touches the device: it finds \
               the release, verifies it, tries it, and keeps it. Then it restarts while the servers are gone.",
        run: life::first_install,
    },
    Chapter {
        title: "An update",
        text: "Version 1.1.0 goes to the other slot, proves itself in its trial, and goes on with the old one's data.",
        run: life::update,
    },
    Chapter {
        title: "Releases that are bad",
        text: "Properly signed, and defective: each is tried, found out, undone with its own reason, counted, and not \
               tried again. The old version runs on.",
        run: |world, steps| {
            for scenario in [defective::SELF_TEST, defective::TRAP, defective::FUEL, defective::MEMORY] {
                (scenario.run)(world, steps)?;
            }
            Ok(())
        },
    },
    Chapter {
        title: "Forgeries",
        text: "A repository signed with other keys, a payload with one flipped bit, and yesterday's metadata: refused, \
               and the payload is not even restarted.",
        run: |world, steps| {
            for scenario in [trust::FORGED, trust::FORGED_PAYLOAD, trust::ROLLED_BACK] {
                (scenario.run)(world, steps)?;
            }
            Ok(())
        },
    },
    Chapter {
        title: "The power fails during an update",
        text: "The cut comes at a random moment of download, write, trial and commit. A payload runs as soon as the \
               device is back, and the update ends well.",
        run: |world, steps| crash::cut_power(world, steps, 1),
    },
    Chapter {
        title: "The disk in someone's hands",
        text: "One bit of the payload is changed on the data partition of a device that is off. The supervisor verifies \
               again before each start: what nobody signed does not run.",
        run: storage::alter_payload,
    },
    Chapter {
        title: "The device's own account",
        text: "What a field engineer sees with the iotwasm command on the device.",
        run: account::account,
    },
    Chapter {
        title: "Pins, buses and sensors",
        text: "A payload reads a BME280: temperature, humidity, pressure. Another drives a pump until its rate limit denies \
               it, and answers a button with a light. A second vendor's payload asks for the first one's light and is \
               refused whole, with the list. The metrics tell both.",
        run: capabilities::story,
    },
    Chapter {
        title: "The firmware itself",
        text: "The OEM publishes a new firmware. RAUC fetches, through the update daemon, the blocks that differ, into the slot \
               that does not run. The device restarts into it, every daemon and every payload prove themselves again, and \
               only then it is kept. PCR 4 and 11 and everything that was executed are what the release said beforehand.",
        run: firmware::story_update,
    },
    Chapter {
        title: "A firmware that is bad",
        text: "The next one panics. The machine restarts by itself, the boot was the only one that it had, and the old \
               firmware is back with its payload. The release is not tried again.",
        run: firmware::story_rollback,
    },
];

/// Tells the story; success only if every step was as expected.
pub fn run(built: &Built) -> ExitCode {
    let started = Instant::now();
    let accel = Accel::detect();
    println!(
        "iotwasm: a device in QEMU ({}), {} chapters. A boot takes a minute or two here.",
        accel.name(),
        STORY.len()
    );
    let mut steps = Steps::new();
    let outcome = World::create(built, "demo", accel).and_then(|mut world| {
        let outcome = tell(&mut world, &mut steps);
        if outcome.is_err() {
            println!("{}", world.evidence());
        }
        outcome
    });
    println!("\n{}", table(steps.rows()));
    let took = started.elapsed().as_secs();
    let good = steps.rows().iter().filter(|r| r.ok).count();
    println!("{good} of {} steps as expected, in {} min {} s.", steps.rows().len(), took / 60, took % 60);
    println!("{}", sizes(&built.folder));
    match outcome {
        Ok(()) => {
            println!("The device took what was signed and good, refused what was forged, and undid what was bad.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("The story ended early: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn tell(world: &mut World, steps: &mut Steps) -> Result<()> {
    for (number, chapter) in STORY.iter().enumerate() {
        println!("\n{} of {}. {}\n", number + 1, STORY.len(), chapter.title);
        for line in wrapped(chapter.text, 96) {
            println!("  {line}");
        }
        println!();
        (chapter.run)(world, steps)?;
    }
    Ok(())
}

/// What was built, in one line.
fn sizes(build: &Path) -> String {
    let mib = |name: &str| fs::metadata(build.join(name)).map_or(f64::NAN, |m| m.len() as f64 / 1_048_576.0);
    format!(
        "Root file system {:.1} MiB, kernel image {:.1} MiB, ota-updated {:.1} MiB, wasm-supervisord {:.1} MiB, capd {:.1} MiB, runner {:.1} MiB.",
        mib("image/releases/1.0.0/rootfs.img"),
        mib("image/releases/1.0.0/uki.efi"),
        mib("bin/ota-updated"),
        mib("bin/wasm-supervisord"),
        mib("bin/capd"),
        mib("bin/iotwasm-runner"),
    )
}

/// The text in lines of at most so many characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""]);
    }
}
