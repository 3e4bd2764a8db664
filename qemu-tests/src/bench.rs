//! Measurements on a booted device: memory, start and swap of a payload, time to the payload after power-on. Under
//! translation every time is several times what a real board takes, so each has a reference measured in the same run on
//! the same device.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::accel::Accel;
use crate::device::{Settings, UNITS};
use crate::error::{Error, Result, chain};
use crate::repo::{Built, Release};
use crate::row::{Row, median};
use crate::vm::{BootOptions, Vm};
use crate::world::{COUNTER, World};
use crate::{bench_firmware, bench_io};

/// Swaps, and starts of the reference.
const SWAPS: usize = 15;
/// Boots of each kind.
const BOOTS: usize = 3;
/// Milliseconds that a swap may take besides the self-test.
const SWAP_LIMIT_MS: f64 = 200.0;
/// Limits on proportional memory, in MB: capd's, and each other daemon's.
const CAPD_LIMIT_MB: f64 = 3.0;
const DAEMON_LIMIT_MB: f64 = 6.0;
const RUNNER_LIMIT_MB: f64 = 10.0;

/// What is measured on one device.
type Part = fn(&mut World) -> Result<Vec<Row>>;

/// All that is, in the order in which it is.
const PARTS: [(&str, Part); 3] =
    [("payloads", payloads), ("peripherals", bench_io::measure), ("firmware", bench_firmware::measure)];

/// Measures the parts that are wanted, and writes the rows to `out`.
pub fn run(built: &Built, out: &Path, wanted: impl Fn(&str) -> bool) -> ExitCode {
    let accel = Accel::detect();
    let outcome = World::create(built, "bench", accel).and_then(|mut world| {
        let mut rows = Vec::new();
        for (_, part) in PARTS.iter().filter(|(name, _)| wanted(name)) {
            rows.extend(part(&mut world).inspect_err(|_| println!("{}", world.evidence()))?);
        }
        Ok(rows)
    });
    let written = outcome.and_then(|rows| {
        let text = serde_json::to_vec_pretty(&rows).map_err(|e| Error::file("write", out)(e.into()))?;
        fs::write(out, text).map_err(Error::file("write", out))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qemu-tests: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Memory, swaps and boots of a device with one payload.
fn payloads(world: &mut World) -> Result<Vec<Row>> {
    eprintln!("bench: booting a device and installing a payload");
    let repo = world.begin(&Settings { poll_s: 3600, ..Settings::of(COUNTER) })?;
    repo.publish(&Release::new(COUNTER, COUNTER, "1.0.0"))?;
    let vm = &mut world.vm;
    vm.check_now()?;
    vm.expect_verdict(COUNTER, "1.0.0", "committed")?;
    vm.wait_running(COUNTER, "1.0.0")?;
    let mut rows = memory(vm)?;
    eprintln!("bench: {SWAPS} swaps of the payload");
    rows.extend(swaps(vm)?);
    rows.push(boots(vm)?);
    Ok(rows)
}

/// Memory of each process after the installation, idle.
fn memory(vm: &mut Vm) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for unit in UNITS {
        let pid = vm.run(&["systemctl", "show", "--value", "-p", "MainPID", &format!("{unit}.service")])?;
        let (pss, rss) = resident(vm, pid.trim())?;
        let limit = if unit == "capd" { CAPD_LIMIT_MB } else { DAEMON_LIMIT_MB };
        rows.push(Row::plain(&format!("proportional memory of {unit}, idle"), pss, "MB").at_most(limit));
        rows.push(Row::plain(&format!("resident memory of {unit}, idle"), rss, "MB"));
    }
    let pid = vm.payload(COUNTER)?.map_or(0, |p| p.pid).to_string();
    let (pss, rss) = resident(vm, &pid)?;
    rows.push(Row::plain("proportional memory of a runner with a payload", pss, "MB").at_most(RUNNER_LIMIT_MB));
    rows.push(Row::plain("resident memory of a runner with a payload", rss, "MB"));
    Ok(rows)
}

/// Proportional and resident memory of a process, in MB.
pub(crate) fn resident(vm: &mut Vm, pid: &str) -> Result<(f64, f64)> {
    let text = vm.sh(&format!("cat /proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0 / 1e6)
    };
    field("Pss:").zip(field("Rss:")).ok_or_else(|| Error::Unreadable { what: "smaps_rollup", text: text.clone() })
}

/// Orders the supervisor to start the committed slot again and again: each order is a swap of the running payload for a
/// new process of it. The reference is what the same device needs to start and end a process as a service.
fn swaps(vm: &mut Vm) -> Result<Vec<Row>> {
    let slot = vm.payload(COUNTER)?.map_or_else(String::new, |p| p.slot);
    let arguments = json!({"payload": COUNTER, "slot": slot, "trial": false});
    let (mut starts, mut self_tests, mut rests, mut services) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SWAPS {
        vm.call::<Value>("supervisor", "io.iotwasm.Supervisor.Start", &arguments)?;
        vm.wait_running(COUNTER, "1.0.0")?;
        let payload = vm.payload(COUNTER)?.ok_or(Error::Off)?;
        starts.push(payload.start_ms as f64);
        self_tests.push(payload.self_test_ms as f64);
        rests.push((payload.interruption_ms - payload.self_test_ms) as f64);
        let clock = "cut -d' ' -f1 /proc/uptime";
        let took = vm.sh(&format!("{clock}; systemd-run --wait --quiet true; {clock}"))?;
        let times: Vec<f64> = took.lines().filter_map(|l| l.trim().parse().ok()).collect();
        let &[before, after] = times.as_slice() else { return Err(Error::Unreadable { what: "uptimes", text: took }) };
        services.push((after - before) * 1000.0);
    }
    let service = median(services);
    Ok(vec![
        Row::plain("start of a payload: verify, load, self-test", median(starts), "ms")
            .beside("systemd-run of true in the same device", service),
        Row::plain("self-test of it", median(self_tests), "ms"),
        Row::plain("swap of a payload: nothing runs, besides the self-test", median(rests), "ms")
            .at_most(SWAP_LIMIT_MS)
            .beside("systemd-run of true in the same device", service),
    ])
}

/// From the kernel's start until the payload has passed its self-test and runs, beside the same device without our daemons reaching
/// multi-user.target.
fn boots(vm: &mut Vm) -> Result<Row> {
    let without = BootOptions {
        kernel: UNITS
            .iter()
            .flat_map(|u| [format!("systemd.mask={u}.service"), format!("systemd.mask={u}.socket")])
            .collect(),
        ..BootOptions::default()
    };
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for round in 1..=BOOTS {
        eprintln!("bench: boots with and without the daemons, {round} of {BOOTS}");
        vm.shutdown()?;
        vm.boot_with(&without)?;
        vm.settle()?;
        for unit in UNITS {
            let state = vm.exec(&["systemctl", "is-active", &format!("{unit}.service")])?.stdout;
            if state.trim() == "active" {
                return Err(Error::Unreadable { what: "the boot without daemons", text: format!("{unit} runs") });
            }
        }
        let text =
            vm.run(&["systemctl", "show", "--value", "-p", "ActiveEnterTimestampMonotonic", "multi-user.target"])?;
        bare.push(microseconds(&text)?);
        vm.shutdown()?;
        vm.boot()?;
        vm.wait_running(COUNTER, "1.0.0")?;
        ours.push(running_since(vm)?);
    }
    let row = Row::plain("kernel's start to payload running", median(ours) / 1e6, "s");
    Ok(row.beside("to multi-user.target without the daemons", median(bare) / 1e6))
}

fn microseconds(text: &str) -> Result<f64> {
    text.trim().parse().map_err(|_| Error::Unreadable { what: "a time", text: text.to_owned() })
}

/// When the supervisor told the journal that the payload runs, in microseconds since the kernel started.
fn running_since(vm: &mut Vm) -> Result<f64> {
    let text =
        vm.run(&["journalctl", "--no-pager", "--quiet", "--boot", "--output=json", "--unit=wasm-supervisord.service"])?;
    let wanted = format!("{COUNTER}: Running,");
    for line in text.lines() {
        let value: Value = serde_json::from_str(line)
            .map_err(|_| Error::Unreadable { what: "a line of the journal", text: line.to_owned() })?;
        if value["MESSAGE"].as_str().is_some_and(|m| m.starts_with(&wanted)) {
            return microseconds(value["__MONOTONIC_TIMESTAMP"].as_str().unwrap_or_default());
        }
    }
    Err(Error::Unreadable { what: "the supervisor's journal", text })
}
