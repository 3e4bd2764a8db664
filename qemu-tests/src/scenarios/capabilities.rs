//! Payloads reach the peripherals that they were granted, seen from both ends, and nothing else.

use super::Scenario;
use super::hardware::{attribute, level, line, number, pull, register, sh};
use crate::device::{Denial, SETTLE_LIMIT, Settings};
use crate::error::Result;
use crate::repo::{BOLT, Release, Repo, VENDOR};
use crate::steps::Steps;
use crate::vm::Vm;
use crate::wait::{Look, until};
use crate::world::{COUNTER, World};

/// What was granted works.
pub(crate) const GRANTED: Scenario = Scenario {
    name: "granted-peripherals",
    about: "payloads read sensors, watch and switch lines, drive an actuator, talk over I2C and SPI",
    run: granted,
};

/// What was not is denied.
pub(crate) const DENIED: Scenario = Scenario {
    name: "denied-peripherals",
    about: "every kind of denial, counted and told; another vendor's payload is refused the first one's line",
    run: |world, steps| {
        let repo = world.begin(&settings(&["pokes", "bolt/bolt-intruder", "bolt/bolt-meter"]))?;
        sh(&mut world.vm, &format!("systemd-run --quiet --unit=watcher -p StandardOutput=truncate:{EVENTS} {WATCH}"))?;
        pokes(world, &repo, steps)?;
        other_vendor(world, &repo, steps)?;
        watched(&mut world.vm, steps)
    },
};

/// Somebody who watches capd's events, and where they go.
const WATCH: &str = "varlinkctl call --more --json=short --timeout=infinity \
    /run/iotwasm/capabilities.sock io.iotwasm.Capabilities.Monitor {}";
const EVENTS: &str = "/run/qemu-events";

/// What the sensor's example values come to.
pub(super) const WEATHER: &str = "25.08 °C, 46.1 % humidity, 100.65 kPa";

/// Settings of a device that runs these.
pub(super) fn settings(payloads: &[&str]) -> Settings {
    Settings { payloads: payloads.iter().map(|&id| id.to_owned()).collect(), ..Settings::of(COUNTER) }
}

/// A device as from the factory with these examples installed, kept and running.
pub(super) fn install(world: &mut World, steps: &mut Steps, payloads: &[&str]) -> Result<Repo> {
    let repo = world.begin(&settings(payloads))?;
    for id in payloads {
        repo.publish(&Release::new(id, id, "1.0.0"))?;
    }
    for id in payloads {
        let vm = &mut world.vm;
        steps.step(&format!("{id}: it is installed and kept"), "committed", || vm.verdict(id, "1.0.0"))?;
        steps.step(&format!("{id}: it runs"), "1.0.0 running, healthy", || vm.wait_running(id, "1.0.0"))?;
    }
    Ok(repo)
}

/// For the demonstration: a sensor, an actuator with its limit, a button, and a second vendor who wants too much.
pub(crate) fn story(world: &mut World, steps: &mut Steps) -> Result<()> {
    world.ensure_booted()?;
    let began = sh(&mut world.vm, "date +%s")?;
    let repo = world.begin(&settings(&["climate", "irrigation", "bolt/bolt-intruder", "bolt/bolt-meter"]))?;
    for id in ["climate", "irrigation"] {
        repo.publish(&Release::new(id, id, "1.0.0"))?;
    }
    let vm = &mut world.vm;
    for id in ["climate", "irrigation"] {
        steps.step(&format!("{id} is installed and kept"), "committed", || vm.verdict(id, "1.0.0"))?;
        steps.step(&format!("{id} runs"), "1.0.0 running, healthy", || vm.wait_running(id, "1.0.0"))?;
    }
    steps.step("climate reports what the sensor measures", WEATHER, || says(vm, "climate", WEATHER))?;
    lines(vm, steps)?;
    actuator(vm, steps, &began)?;
    other_vendor(world, &repo, steps)?;
    let words = ["iotwasm", "device", "capabilities"];
    let text = world.vm.run(&words)?;
    println!("\n  $ {}", words.join(" "));
    for line in text.lines() {
        println!("    {line}");
    }
    steps.step("the device tells who was denied what", "bolt-intruder and irrigation", || {
        let both = ["bolt-intruder", "irrigation"].iter().all(|id| {
            text.lines().any(|line| line.contains(id) && (line.contains("refused") || line.contains("rate")))
        });
        Ok(if both { "bolt-intruder and irrigation".into() } else { text.clone() })
    })
}

fn granted(world: &mut World, steps: &mut Steps) -> Result<()> {
    world.ensure_booted()?;
    let began = sh(&mut world.vm, "date +%s")?;
    install(world, steps, &["climate", "c-humidity", "bme280-driver", "irrigation", "spi-echo"])?;
    let vm = &mut world.vm;
    sensors(vm, steps)?;
    i2c(vm, steps)?;
    lines(vm, steps)?;
    actuator(vm, steps, &began)?;
    steps.step("spi-echo: its bytes go over the bus", "more", || {
        let bytes = "cat /sys/bus/spi/devices/spi0.0/statistics/bytes_tx";
        let before = number(&sh(vm, bytes)?, "the bus' bytes")?;
        until("more bytes on the bus", SETTLE_LIMIT, || {
            let now = number(&sh(vm, bytes)?, "the bus' bytes")?;
            Ok(if now >= before + 100 { Look::Is("more".into()) } else { Look::NotYet(now.to_string()) })
        })
    })?;
    steps.step("each has a session with what its manifest asks for", "line button: in; line led: out; actuator pump: [0, 1], 6 writes in a minute, 2 at once; 0 when the session ends", || {
        let session = vm.sessions()?.into_iter().find(|session| session.payload == "irrigation" && session.claimed);
        Ok(session.map_or_else(|| "no session".into(), |session| session.grants.join("; ")))
    })
}

fn sensors(vm: &mut Vm, steps: &mut Steps) -> Result<()> {
    steps.step("climate: it reports what the sensor measures", WEATHER, || says(vm, "climate", WEATHER))?;
    let humidity = attribute(vm, "bme280", "in_humidityrelative_input")?;
    steps.step("c-humidity: it reports what the kernel's driver says", &humidity, || {
        says(vm, "c-humidity", &humidity)
    })?;
    steps.step("both use the sensor", "c-humidity climate", || users(vm, "c-humidity climate"))?;
    steps.step("when one stops, the other has it still", "climate", || {
        let stop = serde_json::json!({"payload": "c-humidity"});
        vm.call::<serde_json::Value>("supervisor", "io.iotwasm.Supervisor.Stop", &stop)?;
        users(vm, "climate")
    })?;
    steps.step("and reads on", WEATHER, || says(vm, "climate", WEATHER))
}

fn i2c(vm: &mut Vm, steps: &mut Steps) -> Result<()> {
    steps.step("bme280-driver: a driver from the registry measures the other chip", WEATHER, || {
        says(vm, "bme280-driver", WEATHER)
    })?;
    steps.step("its settings are in the chip's registers", "0x01 0x27", || {
        Ok(format!("{} {}", register(vm, 0x77, 0xf2)?, register(vm, 0x77, 0xf4)?))
    })?;
    steps.step("when the chip measures something else, it says so", "29.03 °C", || {
        sh(
            vm,
            "n=$(dirname $(grep -lx 'SMBus stub driver' /sys/bus/i2c/devices/i2c-*/name)); \
                i2cset -y ${n##*-} 0x77 0xfa 0x82 0x00 0x00 i",
        )?;
        says(vm, "bme280-driver", "29.03 °C,").map(|said| said.split(',').next().unwrap_or_default().to_owned())
    })
}

fn lines(vm: &mut Vm, steps: &mut Steps) -> Result<()> {
    steps.step(
        "irrigation: its lines are leased as they were granted",
        "input bias=pull-down edges=rising consumer=iotwasm, output consumer=iotwasm",
        || {
            let of = |name: &str| format!("gpioinfo | sed -n 's/.*\"{name}\" *\\(.*\\)/\\1/p' | tr -d '\"'");
            Ok(format!("{}, {}", sh(vm, &of("button"))?, sh(vm, &of("led"))?))
        },
    )?;
    for expected in ["1", "0"] {
        steps.step("a press of the button switches the light", expected, || {
            pull(vm, "button", true)?;
            let seen = until("the light", SETTLE_LIMIT, || {
                let seen = level(vm, "led")?;
                Ok(if seen == expected { Look::Is(seen) } else { Look::NotYet(seen) })
            });
            pull(vm, "button", false)?;
            seen
        })?;
    }
    Ok(())
}

fn actuator(vm: &mut Vm, steps: &mut Steps, began: &str) -> Result<()> {
    steps.step("irrigation: it drives the pump until it is denied", "wrote 1, wrote 0, denied", || {
        let lines = format!("journalctl --no-pager -q -o cat --since=@{began} IOTWASM_PAYLOAD=irrigation");
        let words = sh(vm, &format!("{lines} | sed -n 's/^pump: \\([^,]*\\).*/\\1/p' | head -n 3"))?;
        Ok(words.replace('\n', ", "))
    })?;
    told(vm, steps, "irrigation", &[("actuators.pump", "rate")])?;
    steps.step("writes that passed are counted, too", "yes", || {
        let labels = [("payload_id", "irrigation"), ("actuator", "pump")];
        let writes = vm.metric("capd", "iot_actuator_writes_total", &labels)?;
        Ok(if writes >= Some(2.0) { "yes".into() } else { format!("{writes:?}") })
    })?;
    steps.step("the pump's line is what was written last", "the same", || {
        until("line and value to agree", SETTLE_LIMIT, || {
            let (line, written) = (level(vm, "pump")?, vm.thing("actuators", "pump")?.value);
            Ok(if line == written { Look::Is("the same".into()) } else { Look::NotYet(format!("{line}, {written}")) })
        })
    })?;
    steps.step("the valve, which nobody has, is safe", "0", || level(vm, "valve"))
}

/// A payload that asks for everything that it was not granted, and badly.
fn pokes(world: &mut World, repo: &Repo, steps: &mut Steps) -> Result<()> {
    let vm = &mut world.vm;
    let began = sh(vm, "date +%s")?;
    let log = format!("journalctl --no-pager -q -o cat --since=@{began} IOTWASM_PAYLOAD=pokes");
    vm.sh(&format!("echo pull-down >{}/pull", line("door")))?;
    repo.publish(&Release::new("pokes", "pokes", "1.0.0"))?;
    steps.step("pokes: it is installed and kept", "committed", || vm.verdict("pokes", "1.0.0"))?;
    steps.step("every poke gets the number that is documented", "all of them", || {
        let summary = until("the end of its pokes", SETTLE_LIMIT, || {
            let line = sh(vm, &format!("{log} | grep 'answered as they should be' | tail -n1"))?;
            Ok(if line.is_empty() { Look::NotYet("nothing".into()) } else { Look::Is(line) })
        })?;
        let numbers: Vec<&str> = summary.split_whitespace().filter(|word| word.parse::<u32>().is_ok()).collect();
        Ok(match numbers.as_slice() {
            [right, tried] if right == tried => "all of them".into(),
            _ => format!("{summary}: {}", sh(vm, &format!("{log} | grep 'should be ' || true"))?),
        })
    })?;
    steps.step("of a thousand writes, few pass", "few", || {
        let line = sh(vm, &format!("{log} | sed -n 's/.*pokes: \\([0-9]*\\) of 1000 writes passed/\\1/p' | tail -n1"))?;
        // Ten at once, and two for each second that the flood may take on a busy machine.
        Ok(if (1..=20).contains(&number(&line, "the writes that passed")?) { "few".into() } else { line })
    })?;
    steps.step("one that did is in the register", "0x01", || register(vm, 0x50, 0xf0))?;
    steps.step("pokes runs on", "1.0.0 running, healthy", || vm.wait_running("pokes", "1.0.0"))?;
    let denials = [
        ("sensors.?", "unknown"),
        ("sensors.dummy", "not_granted"),
        ("sensors.climate", "mode"),
        ("sensors.climate.temperature_oversampling", "value"),
        ("gpio.?", "unknown"),
        ("gpio.led", "not_granted"),
        ("gpio.valve", "not_granted"),
        ("gpio.door", "mode"),
        ("i2c.eeprom", "register"),
        ("i2c.eeprom", "transfer"),
        ("spi.loop", "transfer"),
        ("actuators.pump", "not_granted"),
        ("actuators.dimmer", "value"),
        ("actuators.dimmer", "rate"),
    ];
    told(vm, steps, "pokes", &denials)
}

/// Whoever watches was told, and a payload that does all it can did not drown the others.
fn watched(vm: &mut Vm, steps: &mut Steps) -> Result<()> {
    for (kind, payload, capability) in [
        ("claimed", "pokes", ""),
        ("denied", "pokes", "i2c.eeprom"),
        ("wrote", "pokes", "actuators.dimmer"),
        ("denied", "bolt-intruder", "gpio.led"),
    ] {
        steps.step(&format!("who watches was told: {kind} {payload} {capability}"), "yes", || {
            let words = format!("\"kind\":\"{kind}\",\"payload\":\"{payload}\",\"capability\":\"{capability}\"");
            Ok(if sh(vm, &format!("grep -cF '{words}' {EVENTS} || true"))? == "0" { "no" } else { "yes" }.into())
        })?;
    }
    steps.step("and watches on", "active", || sh(vm, "systemctl is-active watcher && systemctl stop watcher"))
}

/// bolt's tier has no light, and little of the pump.
pub(crate) fn other_vendor(world: &mut World, repo: &Repo, steps: &mut Steps) -> Result<()> {
    repo.add_vendor(BOLT)?;
    let meter =
        Release::new(COUNTER, "bolt-meter", "1.0.0").with("vendor=bolt").with("capabilities.gpio.spare0=\"in\"");
    repo.publish(&meter)?;
    let vm = &mut world.vm;
    steps.step("bolt-meter: within its vendor's tier it is kept", "committed", || vm.verdict("bolt-meter", "1.0.0"))?;
    steps.step("its session has its own signer", "bolt: line spare0: in", || {
        until("its session", SETTLE_LIMIT, || {
            let session = vm.sessions()?.into_iter().find(|session| session.payload == "bolt-meter" && session.claimed);
            Ok(session.map_or_else(
                || Look::NotYet("none".into()),
                |session| Look::Is(format!("{}: {}", session.role, session.grants.join("; "))),
            ))
        })
    })?;
    repo.publish(&Release::new("bolt-intruder", "bolt-intruder", "1.0.0"))?;
    steps.step("bolt-intruder: what goes beyond it is refused whole", "rolled_back: capability_refused", || {
        vm.verdict("bolt-intruder", "1.0.0")
    })?;
    steps.step("the history says all that was too much", "light and pump", || {
        let attempt = vm.history()?.into_iter().find(|attempt| attempt.payload == "bolt-intruder");
        let message = attempt.map(|attempt| attempt.message).unwrap_or_default();
        let both = ["gpio.led", "actuators.pump"].iter().all(|thing| message.contains(thing));
        Ok(if both && !message.contains("spare0") { "light and pump".into() } else { message })
    })?;
    told(vm, steps, "bolt-intruder", &[("gpio.led", "refused"), ("actuators.pump", "refused")])?;
    steps.step("nothing of it runs", "no session, no process", || {
        let sessions = vm.sessions()?.iter().filter(|session| session.payload == "bolt-intruder").count();
        let pid = vm.payload("bolt-intruder")?.map_or(0, |payload| payload.pid);
        Ok(if (sessions, pid) == (0, 0) { "no session, no process".into() } else { format!("{sessions}, {pid}") })
    })?;
    steps.step(&format!("{VENDOR}'s light is dark"), "0", || level(vm, "led"))
}

/// Each denial is in the metrics as often as in capd's answer, and in the journal.
pub(super) fn told(vm: &mut Vm, steps: &mut Steps, payload: &str, denials: &[(&str, &str)]) -> Result<()> {
    for &(capability, reason) in denials {
        steps.step(
            &format!("{payload}: told and counted: {capability}, {reason}"),
            "alike, and in the journal",
            || {
                until("metric, answer and journal to agree", SETTLE_LIMIT, || {
                    let labels = [("payload_id", payload), ("capability", capability), ("reason", reason)];
                    // In this order: payloads go on, and what is counted later is not less.
                    let before = count(&vm.denials()?, payload, capability, reason);
                    let counted = vm.metric("capd", "iot_capability_denied_total", &labels)?.unwrap_or_default();
                    let after = count(&vm.denials()?, payload, capability, reason);
                    let wanted = format!("{payload} was denied {capability}: .*\\[{reason}\\]");
                    let lines =
                        sh(vm, &format!("journalctl --no-pager -q -o cat -u capd | grep -c '{wanted}' || true"))?;
                    let agree = before > 0.0 && (before..=after).contains(&counted) && lines != "0";
                    let seen = format!("{counted} counted, {before} to {after} told, {lines} lines");
                    Ok(if agree { Look::Is("alike, and in the journal".into()) } else { Look::NotYet(seen) })
                })
            },
        )?;
    }
    Ok(())
}

fn count(denials: &[Denial], payload: &str, capability: &str, reason: &str) -> f64 {
    let same = |d: &&Denial| d.payload == payload && d.capability == capability && d.reason == reason;
    denials.iter().find(same).map_or(0.0, |denial| denial.count as f64)
}

/// Waits until a payload reports something that begins so; gives all of it.
pub(super) fn says(vm: &mut Vm, id: &str, words: &str) -> Result<String> {
    until(&format!("{id} to report {words:?}"), SETTLE_LIMIT, || {
        let message = vm.payload(id)?.map(|payload| payload.message).unwrap_or_default();
        Ok(if message.starts_with(words) { Look::Is(message) } else { Look::NotYet(message) })
    })
}

/// Waits until these use the sensor.
pub(super) fn users(vm: &mut Vm, wanted: &str) -> Result<String> {
    until(&format!("the sensor to be used by {wanted:?}"), SETTLE_LIMIT, || {
        let users = vm.users("sensors", "climate")?.join(" ");
        Ok(if users == wanted { Look::Is(users) } else { Look::NotYet(users) })
    })
}
