//! Payloads that attack the device or each other, and the examples in other styles: the device holds, and runs what is
//! harmless.

use std::time::Duration;

use super::Scenario;
use super::hardware::number;
use crate::device::{SETTLE_LIMIT, Settings};
use crate::error::Result;
use crate::repo::Release;
use crate::steps::Steps;
use crate::vm::Vm;
use crate::wait::{Look, until};
use crate::world::{COUNTER, World};

/// Hostile payloads.
pub(crate) const HOSTILE: Scenario = Scenario {
    name: "hostile-payloads",
    about: "a full folder, a way out, a flood of messages, a panic: each is held, and nobody else pays for it",
    run: |w, s| {
        fills_disk(w, s)?;
        panics(w, s)?;
        others(w, s)
    },
};

/// Longer than any of the hostile payloads needs to be found out.
const CONFIRMATION_S: u64 = 120;
/// What the supervisor waits at most between two measurements of a folder: its default.
const CHECK_S: u64 = 5;
/// A release in a style of its own, or one that does no harm where it runs, beside the counter.
const BESIDE: [&str; 4] = ["escapes", "floods", "c-counter", "meter-command"];
/// Lines of one payload in the journal, at most, for each second and at once: the supervisor's limits.
const LINES_PER_SECOND: u64 = 20;
const LINES_AT_ONCE: u64 = 200;

/// A release that overfills the folder that it shares with the others is undone, and the others are not punished.
fn fills_disk(world: &mut World, steps: &mut Steps) -> Result<()> {
    let old = world.stand(CONFIRMATION_S)?;
    let (repo, bad) = world.next_version()?;
    repo.publish(&Release::new("fills-disk", COUNTER, &bad))?;
    let vm = &mut world.vm;
    steps.step("fills-disk: it is tried and undone", "rolled_back: storage_quota", || vm.verdict(COUNTER, &bad))?;
    steps.step("fills-disk: what it left is more than the quota", "more than 64 KiB", || {
        let text = vm.sh("du -sk /data/iotwasm/storage/counter/state")?;
        let used: u64 = number(&text, "the folder's size")?;
        Ok(if used > 64 { "more than 64 KiB".into() } else { format!("{used} KiB") })
    })?;
    let running = format!("{old} running, healthy");
    steps.step("fills-disk: the old version runs again", &running, || vm.wait_running(COUNTER, &old))?;
    let crashes = crashes(vm, COUNTER)?;
    steps.step("fills-disk: it counts on through three measurements, without a crash", "yes", || {
        // It counts once a second.
        let wanted = count(vm)? + 3 * CHECK_S + 1;
        until("the counter's count", SETTLE_LIMIT, || {
            let now = count(vm)?;
            Ok(if now >= wanted { Look::Is(()) } else { Look::NotYet(format!("{now} of {wanted}")) })
        })?;
        let more = self::crashes(vm, COUNTER)? - crashes;
        Ok(if more == 0 { "yes".into() } else { format!("{more} crashes") })
    })?;
    steps.step("fills-disk: the journal says what to do", "yes", || {
        let lines =
            vm.sh("journalctl --no-pager -q -u wasm-supervisord | grep -c 'held more than its quota' || true")?;
        Ok(if lines.trim() == "0" { "no".into() } else { "yes".into() })
    })?;
    world.vm.adjust(&Settings::of(COUNTER))?;
    let (repo, good) = world.next_version()?;
    repo.publish(&Release::new(COUNTER, COUNTER, &good))?;
    let vm = &mut world.vm;
    steps.step("fills-disk: the next good version is kept", "committed", || vm.verdict(COUNTER, &good))?;
    let running = format!("{good} running, healthy");
    steps.step("fills-disk: it runs", &running, || vm.wait_running(COUNTER, &good))?;
    vm.sh("rm -f /data/iotwasm/storage/counter/state/ballast*")?;
    world.now_stands(&good);
    Ok(())
}

/// A panic, whose words the SDK reports before it traps.
fn panics(world: &mut World, steps: &mut Steps) -> Result<()> {
    let old = world.stand(CONFIRMATION_S)?;
    let (repo, new) = world.next_version()?;
    repo.publish(&Release::new("panics", COUNTER, &new))?;
    let vm = &mut world.vm;
    steps.step("panics: it is tried and undone", "rolled_back: reported_failed", || vm.verdict(COUNTER, &new))?;
    steps.step("panics: the history has the panic's words", "yes", || {
        let attempt = vm.history()?.into_iter().find(|attempt| attempt.version == new);
        let message = attempt.map(|attempt| attempt.message).unwrap_or_default();
        Ok(if message.contains("no tank holds 1000000 litres") { "yes".into() } else { message })
    })?;
    let running = format!("{old} running, healthy");
    steps.step("panics: the old version runs again", &running, || vm.wait_running(COUNTER, &old))
}

/// Everything else at once: it runs beside the counter, which goes on.
fn others(world: &mut World, steps: &mut Steps) -> Result<()> {
    let payloads = BESIDE.iter().chain(&[COUNTER]).map(|id| (*id).to_owned()).collect();
    let repo = world.begin(&Settings { payloads, ..Settings::of(COUNTER) })?;
    repo.publish(&Release::new(COUNTER, COUNTER, "1.0.0"))?;
    let vm = &mut world.vm;
    steps.step("the counter is kept", "committed", || vm.verdict(COUNTER, "1.0.0"))?;
    for id in BESIDE {
        repo.publish(&Release::new(id, id, "1.0.0"))?;
        // The self-test of `escapes` fails where it finds a way out.
        steps.step(&format!("{id}: it is installed and kept"), "committed", || vm.verdict(id, "1.0.0"))?;
        let running = "1.0.0 running, healthy";
        steps.step(&format!("{id}: it runs"), running, || vm.wait_running(id, "1.0.0"))?;
    }
    steps.step("escapes: nothing of it is outside its folder", "0", || {
        let found = vm.sh("find /data \\( -name escaped -o -name mine -o -name stolen \\) \
             ! -path '/data/iotwasm/storage/escapes/state/*' | wc -l")?;
        Ok(found.trim().to_owned())
    })?;
    steps.step("meter-command: its standard output is in the journal", "yes", || {
        until("litres in the journal", SETTLE_LIMIT, || {
            let lines = vm.sh("journalctl --no-pager -q IOTWASM_PAYLOAD=meter-command | grep -c ' litres' || true")?;
            Ok(if lines.trim() == "0" { Look::NotYet("none".into()) } else { Look::Is("yes".into()) })
        })
    })?;
    steps.step("c-counter: it counts in its folder", "yes", || {
        until("a count", SETTLE_LIMIT, || {
            let text = vm.sh("cat /data/iotwasm/storage/c-counter/state/count")?;
            let count: u64 = number(&text, "the count")?;
            Ok(if count > 0 { Look::Is("yes".into()) } else { Look::NotYet(count.to_string()) })
        })
    })?;
    flood(vm, steps)
}

/// With `floods` running: the others go on, and the journal gets only so much of it.
fn flood(vm: &mut Vm, steps: &mut Steps) -> Result<()> {
    let before: Vec<i64> = every(|id| crashes(vm, id))?;
    let (lines, began) = (flood_lines(vm)?, uptime(vm)?);
    steps.step("floods: the counter counts on beside it", "yes", || {
        let wanted = count(vm)? + 10;
        until("the counter's count", SETTLE_LIMIT, || {
            let now = count(vm)?;
            Ok(if now >= wanted { Look::Is("yes".into()) } else { Look::NotYet(format!("{now} of {wanted}")) })
        })
    })?;
    steps.step("floods: the journal is bounded", "yes", || {
        let more = flood_lines(vm)?.saturating_sub(lines);
        let seconds = uptime(vm)?.saturating_sub(began).as_secs() + 1;
        let most = LINES_AT_ONCE + LINES_PER_SECOND * seconds;
        Ok(if more <= most { "yes".into() } else { format!("{more} lines in {seconds} s") })
    })?;
    steps.step("floods: what was left out is counted", "yes", || {
        let told = vm.sh("journalctl --no-pager -q IOTWASM_PAYLOAD=floods | grep -c 'left out' || true")?;
        Ok(if told.trim() == "0" { "no".into() } else { "yes".into() })
    })?;
    steps.step("floods: nobody crashed", "none", || {
        let after: Vec<i64> = every(|id| crashes(vm, id))?;
        Ok(if after == before { "none".into() } else { format!("{before:?} before, {after:?} now") })
    })
}

fn every(mut of: impl FnMut(&str) -> Result<i64>) -> Result<Vec<i64>> {
    BESIDE.iter().chain(&[COUNTER]).map(|id| of(id)).collect()
}

fn crashes(vm: &mut Vm, id: &str) -> Result<i64> {
    Ok(vm.payload(id)?.map_or(0, |payload| payload.crashes))
}

/// How far the counter has counted.
fn count(vm: &mut Vm) -> Result<u64> {
    number(&vm.sh("cat /data/iotwasm/storage/counter/state/count")?, "the count")
}

fn flood_lines(vm: &mut Vm) -> Result<u64> {
    number(&vm.sh("journalctl --no-pager -q -o cat IOTWASM_PAYLOAD=floods | wc -l")?, "the number of lines")
}

/// The device's own clock: a busy emulator is slower than ours.
fn uptime(vm: &mut Vm) -> Result<Duration> {
    Ok(Duration::from_secs(number(&vm.sh("cut -d. -f1 /proc/uptime")?, "the uptime")?))
}
