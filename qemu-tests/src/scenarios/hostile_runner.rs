//! A runner that was broken into: a native program in its place, with the session's descriptors and nothing that a runner
//! does to confine itself. What is left is what its grant says.

use std::collections::BTreeMap;

use super::Scenario;
use super::capabilities::{WEATHER, says, told};
use super::hardware::{attribute, level, number, register, sh};
use crate::device::{SETTLE_LIMIT, Settings};
use crate::error::Result;
use crate::repo::{Release, Repo};
use crate::steps::Steps;
use crate::vm::Vm;
use crate::wait::{Look, until};
use crate::world::{COUNTER, World};

/// A hostile native program in a runner's place.
pub(super) const HOSTILE_RUNNER: Scenario = Scenario {
    name: "hostile-runner",
    about: "a native program with a runner's descriptors: it gets what was granted, whatever it tries",
    run: hostile_runner,
};

/// The program of every runner.
const RUNNER: &str = "/usr/libexec/iotwasm/iotwasm-runner";

/// The payload whose runner is replaced: nothing of its code ever runs after that.
const VICTIM: &str = "hostile";

/// Installed while the attack goes on: it uses the sensor that the attack is about.
const NEIGHBOUR: &str = "climate";

/// What the victim's manifest asks for, and gets.
const GRANTS: [&str; 7] = [
    "capabilities.sensors.climate.capabilities.temperature=\"read\"",
    "capabilities.sensors.climate.attributes.temperature_oversampling=\"read\"",
    "capabilities.sensors.dummy.attributes.acceleration_bias=\"read-write\"",
    "capabilities.gpio={button = \"in\", led = \"out\", spare0 = \"both\"}",
    "capabilities.i2c.eeprom=[\"write\", \"write_read\"]",
    "capabilities.spi.loop=[\"transfer\"]",
    "capabilities.actuators.pump={writes_per_minute = 6, values = [0, 1]}",
];

/// Every attempt of the program and how it must end, as qemu-tests/native/hostile-runner.c says it.
const ATTEMPTS: &[(&str, &str)] = &[
    ("ask before the claim", "BadRequest"),
    ("claim", "done"),
    // Ways round capd.
    ("open a chip", "ENOENT"),
    ("open a bus", "ENOENT"),
    ("open an SPI device", "ENOENT"),
    ("make a device node", "EPERM"),
    ("open an attribute for writing", "EACCES"),
    ("read a sensor past capd", "EACCES"),
    ("open the supervisor's memory", "ENOENT"),
    ("look at the supervisor's descriptors", "ENOENT"),
    ("trace the supervisor", "EPERM"),
    ("take a descriptor of the supervisor", "EPERM"),
    ("look closed and keep what was leased", "EPERM"),
    ("call capd", "EPERM"),
    // Other processes and services.
    ("signal the supervisor", "EPERM"),
    ("signal the supervisor's thread", "EPERM"),
    ("signal the supervisor by its descriptor", "EPERM"),
    ("let a descriptor signal the supervisor", "EPERM"),
    ("limit the supervisor", "EPERM"),
    ("open the memory of any other process", "none is open to it"),
    ("signal any other process", "none hears it"),
    ("forge an entry of the journal", "EPERM"),
    // What a line's descriptor is worth.
    ("open the button", "done"),
    ("make the button an output", "EPERM"),
    ("set the button", "EPERM"),
    ("other ioctls on the button", "EPERM"),
    ("ask for the button as an output", "ModeNotAllowed"),
    ("ask to turn the button round", "ModeNotAllowed"),
    ("ask for the led as an input", "ModeNotAllowed"),
    ("watch a line that is not leased", "NotOn"),
    ("open the led", "done"),
    ("other ioctls on the led", "EPERM"),
    ("give the led back", "done"),
    // A sensor's.
    ("turn the sensor on", "done"),
    ("write to a reading", "EBADF"),
    ("open a reading for writing", "EACCES"),
    ("other ioctls on a reading", "EPERM"),
    ("shrink the activity file", "EPERM"),
    ("grow the activity file", "EPERM"),
    ("seal the activity file", "EPERM"),
    ("write an attribute that may be read", "ModeNotAllowed"),
    ("write a value out of its range", "BadValue"),
    // What goes through capd.
    ("a register that is readable", "done"),
    ("the register of an actuator, read", "ModeNotAllowed"),
    ("the register of an actuator, written", "ModeNotAllowed"),
    ("a register that is only readable, written", "ModeNotAllowed"),
    ("run into a register, reading", "ModeNotAllowed"),
    ("run into a register, writing", "ModeNotAllowed"),
    ("a read without a register", "ModeNotAllowed"),
    ("more than the board allows", "TooLong"),
    ("a transaction of nothing", "BadRequest"),
    ("a kind of SPI transfer that was not granted", "ModeNotAllowed"),
    ("an SPI transfer that was granted", "done"),
    ("an SPI transfer that is too long", "TooLong"),
    ("an SPI transaction of four seconds", "NotSupported"),
    ("indices beyond the table", "refused"),
    ("a value that the actuator has not", "BadValue"),
    ("a hundred writes", "few passed, TooSoon"),
    ("a denial with a name of 100 KB", "NotFound"),
    // Too much, and what is no request.
    ("turn on and open, a thousand times each", "still served"),
    ("questions without listening", "not all taken"),
    ("another session after that flood", "served"),
    ("push descriptors", "taken for nothing"),
    ("a kind that is not there", "BadRequest"),
    ("a request that is cut off", "BadRequest"),
    ("a request with something behind it", "BadRequest"),
    ("a number without an end", "BadRequest"),
    ("a list of four thousand million operations", "BadRequest"),
    ("a name that is not UTF-8", "BadRequest"),
    ("a name of four thousand million bytes", "BadRequest"),
    ("an empty packet", "BadRequest"),
    ("a packet that is too long", "BadRequest"),
    ("a thousand of them", "answered a few times"),
    ("another session after that", "served"),
    ("another session beside the first", "not served"),
    ("a third", "not given"),
    ("the first", "served"),
    ("turn on without listening", "not all taken"),
    ("the end", "of all attacks"),
];

/// The device from the kernel's side: what none of it may change. The light was granted.
fn hardware(vm: &mut Vm) -> Result<String> {
    let lines = sh(vm, "gpioinfo | grep -E '\"(button|valve|pump)\"' | sed 's/consumer=.*//' | xargs")?;
    let ratio = attribute(vm, "bme280", "in_temp_oversampling_ratio")?;
    let bias = attribute(vm, "iotwasm-dummy", "in_accel_x_calibbias")?;
    let registers = [register(vm, 0x50, 0xf0)?, register(vm, 0x50, 0x80)?, register(vm, 0x50, 0x7f)?].join(" ");
    Ok(format!("{lines}; valve {}; {ratio}; {bias}; {registers}", level(vm, "valve")?))
}

/// capd as a process: which one, how often restarted, and how many descriptors it has.
fn capd(vm: &mut Vm) -> Result<(String, u64)> {
    let pid = sh(vm, "systemctl show --value -p MainPID capd.service")?;
    let restarts = sh(vm, "systemctl show --value -p NRestarts capd.service")?;
    let open = number(&sh(vm, &format!("ls /proc/{pid}/fd | wc -l"))?, "a number of descriptors")?;
    Ok((format!("process {pid}, {restarts} restarts"), open))
}

fn hostile_runner(world: &mut World, steps: &mut Steps) -> Result<()> {
    let payloads = [COUNTER, VICTIM, NEIGHBOUR].map(str::to_owned).to_vec();
    let repo = world.begin(&Settings { payloads, ..Settings::of(COUNTER) })?;
    repo.publish(&Release::new(COUNTER, COUNTER, "1.0.0"))?;
    let victim = GRANTS.iter().fold(Release::new(COUNTER, VICTIM, "1.0.0"), |release, grant| release.with(*grant));
    repo.publish(&victim)?;
    let vm = &mut world.vm;
    for id in [COUNTER, VICTIM] {
        steps.step(&format!("{id} is installed and kept"), "committed", || vm.verdict(id, "1.0.0"))?;
        steps.step(&format!("{id} runs"), "1.0.0 running, healthy", || vm.wait_running(id, "1.0.0"))?;
    }
    steps.step("nobody may read the runner's program", "711", || sh(vm, &format!("stat -c %a {RUNNER}")))?;
    steps.step("only root may trace", "2", || sh(vm, "cat /proc/sys/kernel/yama/ptrace_scope"))?;
    let (before, (process, open)) = (hardware(vm)?, capd(vm)?);
    let crashes = vm.payload(COUNTER)?.map_or(0, |payload| payload.crashes);
    steps.must("its runner is replaced, and ended", || replace(vm))?;
    let said = outcomes(vm)?;
    for (attempt, outcome) in ATTEMPTS {
        let seen = said.get(*attempt).cloned().unwrap_or_else(|| "was not tried".to_owned());
        steps.step(&format!("hostile runner: {attempt}"), outcome, || Ok(seen))?;
    }
    steps.step("nothing changed but what was granted", &before, || hardware(vm))?;
    steps.step("capd is the same process", &process, || Ok(capd(vm)?.0))?;
    // Sessions that it keeps open cost one or two each.
    steps.step("capd has no more descriptors than a few sessions need", "yes", || {
        let now = capd(vm)?.1;
        Ok(if now <= open + 16 { "yes".into() } else { format!("{now} after {open}") })
    })?;
    steps.step("the other payload did not notice", "running, healthy, no more crashes", || {
        let payload = vm.payload(COUNTER)?;
        let (phase, health, now) = payload.map(|p| (p.phase, p.health, p.crashes)).unwrap_or_default();
        Ok(if now == crashes { format!("{phase}, {health}, no more crashes") } else { format!("{now} crashes") })
    })?;
    denied(vm, steps)?;
    neighbour(vm, &repo, steps)?;
    steps.must("with its own runner again, the payload runs", || {
        let pid = vm.payload(VICTIM)?.map_or(0, |payload| payload.pid);
        vm.sh(&format!("kill -9 {pid}"))?;
        vm.wait_running(VICTIM, "1.0.0").map(drop)
    })
}

/// The program keeps its old sessions open, and takes none of the answers in the last: nobody else pays for it.
fn neighbour(vm: &mut Vm, repo: &Repo, steps: &mut Steps) -> Result<()> {
    steps.step("it has no more sessions than it may", "one or two", || {
        let sessions = vm.sessions()?.iter().filter(|session| session.payload == VICTIM).count();
        Ok(if (1..=2).contains(&sessions) { "one or two".into() } else { sessions.to_string() })
    })?;
    repo.publish(&Release::new(NEIGHBOUR, NEIGHBOUR, "1.0.0"))?;
    steps.step("another payload is installed meanwhile", "committed", || vm.verdict(NEIGHBOUR, "1.0.0"))?;
    steps.step("it gets its sensor", WEATHER, || says(vm, NEIGHBOUR, WEATHER))?;
    steps.step("it runs", "1.0.0 running, healthy", || vm.wait_running(NEIGHBOUR, "1.0.0"))
}

/// What is told of it: metrics, Varlink, and a journal that a flood does not fill.
fn denied(vm: &mut Vm, steps: &mut Steps) -> Result<()> {
    let denials = [
        ("gpio.button", "mode"),
        ("gpio.led", "mode"),
        ("sensors.climate.temperature_oversampling", "mode"),
        ("sensors.dummy.acceleration_bias", "value"),
        ("i2c.eeprom", "register"),
        ("i2c.eeprom", "transfer"),
        ("i2c.eeprom", "length"),
        ("spi.loop", "transfer"),
        ("actuators.pump", "value"),
        ("actuators.pump", "rate"),
        ("session", "protocol"),
    ];
    told(vm, steps, VICTIM, &denials)?;
    steps.step("the journal has a line for a flood, not one for each", "yes", || {
        let lines = number(&sh(vm, "journalctl --no-pager -q -o cat -u capd | wc -l")?, "the number of lines")?;
        Ok(if lines < 300 { "yes".into() } else { format!("{lines} lines") })
    })
}

/// Puts the program in the runner's place for one start: the victim's next.
fn replace(vm: &mut Vm) -> Result<()> {
    let old = vm.payload(VICTIM)?.map_or(0, |payload| payload.pid);
    vm.sh(&format!("mount --bind /usr/libexec/iotwasm/hostile-runner {RUNNER} && kill -9 {old}"))?;
    let started = until("the program to run", SETTLE_LIMIT, || {
        let now = vm.payload(VICTIM)?.map_or(0, |payload| payload.pid);
        Ok(if now != 0 && now != old { Look::Is(()) } else { Look::NotYet(format!("process {now}")) })
    });
    // In any case: everything else is to start with its own.
    vm.sh(&format!("umount -l {RUNNER}"))?;
    started
}

/// What it said of each attempt, once it has made all of them.
fn outcomes(vm: &mut Vm) -> Result<BTreeMap<String, String>> {
    until("all attacks", SETTLE_LIMIT, || {
        let text = vm.sh(&format!("journalctl --no-pager -q -o cat IOTWASM_PAYLOAD={VICTIM}"))?;
        let said: BTreeMap<String, String> =
            text.lines().filter_map(|l| l.split_once(": ")).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        let last = text.lines().last().unwrap_or_default().to_owned();
        Ok(if said.contains_key("the end") { Look::Is(said) } else { Look::NotYet(last) })
    })
}
