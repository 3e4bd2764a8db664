//! Payloads of every temper, run by the real runner in its real sandbox.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use crate::support::{Bench, Device, Payload, SPIN, WORK, on_loop};
use iotwasm_api::{
    Reason,
    supervisor::{Health, PayloadStatus, Phase, Slot},
};
use iotwasm_payload::Wanted;
use wasm_supervisord::{
    keeper::wire_slot,
    machine::End,
    supervisor::{Refused, Supervisor},
};

const PASS: &str = "(i32.const 0)";

/// Install it and start it as a trial.
async fn try_out(device: &Device, payload: &Payload) -> (Bench, Result<PayloadStatus, Refused>) {
    let slot = device.install(payload, false);
    let bench = device.supervisor();
    let outcome = bench.supervisor.start(payload.id, wire_slot(slot), true).await;
    (bench, outcome)
}

/// Install it, start it, and wait for its end.
async fn end_of(payload: Payload) -> PayloadStatus {
    let device = Device::new();
    let (mut bench, outcome) = try_out(&device, &payload).await;
    outcome.expect("it starts");
    bench.event("over", |status| status.phase == Phase::Failed).await
}

/// Install it and start it, which must fail.
async fn refusal_of(payload: Payload) -> End {
    let device = Device::new();
    match try_out(&device, &payload).await.1 {
        Err(Refused::NotStarted(end)) => end,
        other => panic!("it did not fail to start: {other:?}"),
    }
}

async fn stop(supervisor: &Supervisor, id: &str) {
    supervisor.stop(id).await.unwrap();
}

#[test]
fn a_healthy_payload_starts_reports_and_stops_when_asked() {
    on_loop(async {
        let device = Device::new();
        let payload = Payload::reactor(PASS, WORK).settings("[limits]\nstop_ms = 30000");
        let (mut bench, outcome) = try_out(&device, &payload).await;
        let started = outcome.unwrap();
        assert_eq!((started.phase, started.trial, started.version.as_str()), (Phase::Running, true, "1.0.0"));
        assert_eq!(started.sha256, iotwasm_payload::Digest::of(&payload.pack()).to_string());
        assert!(started.pid > 0);
        let healthy = bench.event("healthy", |status| status.health == Health::Healthy).await;
        assert_eq!(healthy.message, "all is well");
        let asked = Instant::now();
        stop(&bench.supervisor, "probe").await;
        assert!(asked.elapsed().as_secs() < 20, "it was not the deadline that ended it");
        let status = bench.supervisor.notices().of("probe").unwrap();
        assert_eq!((status.phase, status.reason, status.crashes), (Phase::Stopped, Some(Reason::Stopped), 0));
        assert!(fs::metadata(format!("/proc/{}", started.pid)).is_err(), "its process is gone");
    });
}

#[test]
fn a_self_test_that_returns_a_number_fails_with_it() {
    on_loop(async {
        let end = refusal_of(Payload::reactor("(i32.const 7)", WORK)).await;
        assert_eq!((end.reason, end.message.as_str()), (Reason::SelfTestFailed, "the self-test returned 7"));
    });
}

#[test]
fn a_self_test_that_reports_its_failure_says_why() {
    on_loop(async {
        let report = "(drop (call $health (i32.const 4) (i32.const 0) (i32.const 3))) (i32.const 0)";
        let end = refusal_of(Payload::reactor(report, WORK)).await;
        assert_eq!((end.reason, end.message.as_str()), (Reason::SelfTestFailed, "all"));
    });
}

#[test]
fn a_self_test_without_end_is_cut_off() {
    on_loop(async {
        let payload = Payload::reactor(&format!("{SPIN} (i32.const 0)"), WORK)
            .settings("[limits]\nself_test_ms = 200\nfuel = 10_000_000_000");
        let end = refusal_of(payload).await;
        assert_eq!(end.reason, Reason::SelfTestFailed);
        assert!(end.message.contains("200 ms"), "{}", end.message);
    });
}

#[test]
fn a_self_test_that_only_waits_is_cut_off_too() {
    on_loop(async {
        let wait = "(loop $l (drop (call $wait (i64.const 3600000))) (br $l)) (i32.const 0)";
        let payload = Payload::reactor(wait, WORK).settings("[limits]\nself_test_ms = 200");
        assert_eq!(refusal_of(payload).await.reason, Reason::SelfTestFailed);
    });
}

#[test]
fn a_trap_in_the_self_test_is_a_trap() {
    on_loop(async {
        let end = refusal_of(Payload::reactor("unreachable", WORK)).await;
        assert_eq!((end.reason, end.message.as_str()), (Reason::Trap, "unreachable"));
    });
}

#[test]
fn a_trap_after_the_start_ends_a_trial() {
    on_loop(async {
        let status = end_of(Payload::reactor(PASS, "(call $report) unreachable")).await;
        assert_eq!((status.reason, status.crashes), (Some(Reason::Trap), 1));
    });
}

#[test]
fn spinning_uses_up_the_fuel() {
    on_loop(async {
        let payload = Payload::reactor(PASS, SPIN).settings("[limits]\nfuel = 100_000\nwake_up_ms = 60_000");
        assert_eq!(end_of(payload).await.reason, Some(Reason::OutOfFuel));
    });
}

#[test]
fn spinning_over_host_calls_uses_up_the_fuel_and_floods_nobody() {
    on_loop(async {
        let flood = "(loop $l (call $report) (drop (call $log (i32.const 6) (i32.const 0) (i32.const 11))) (br $l))";
        let payload = Payload::reactor(PASS, flood).settings("[limits]\nfuel = 3_000_000\nwake_up_ms = 60_000");
        let device = Device::new();
        let (mut bench, outcome) = try_out(&device, &payload).await;
        outcome.unwrap();
        let status = bench.event("over", |status| status.phase == Phase::Failed).await;
        assert_eq!(status.reason, Some(Reason::OutOfFuel));
        let lines = device.journal().len();
        assert!((1..1000).contains(&lines), "{lines} lines of a hundred thousand");
    });
}

#[test]
fn waiting_refills_the_fuel() {
    on_loop(async {
        // Each round takes more than half of the fuel; it says so when it has done thirty.
        let run = "(local $i i32) (local $round i32)
            (loop $l
              (local.set $i (i32.const 9000))
              (loop $m (local.set $i (i32.sub (local.get $i) (i32.const 1))) (br_if $m (local.get $i)))
              (local.set $round (i32.add (local.get $round) (i32.const 1)))
              (if (i32.eq (local.get $round) (i32.const 30))
                (then (drop (call $health (i32.const 0) (i32.const 0) (i32.const 3)))))
              (br_if $l (i32.ne (call $wait (i64.const 1)) (i32.const -4))))";
        let payload = Payload::reactor(PASS, run).settings("[limits]\nfuel = 100_000");
        let device = Device::new();
        let (mut bench, outcome) = try_out(&device, &payload).await;
        outcome.unwrap();
        let over = |status: &PayloadStatus| status.message == "all" || status.phase == Phase::Failed;
        let status = bench.event("through thirty rounds or over", over).await;
        assert_eq!((status.phase, status.reason), (Phase::Running, None));
    });
}

#[test]
fn a_wake_up_that_takes_too_long_is_ended_by_the_wall_clock() {
    on_loop(async {
        let payload = Payload::reactor(PASS, SPIN).settings("[limits]\nfuel = 10_000_000_000\nwake_up_ms = 150");
        let status = end_of(payload).await;
        assert_eq!(status.reason, Some(Reason::WallClock));
        assert!(status.message.contains("150 ms"), "{}", status.message);
    });
}

#[test]
fn a_guest_that_hides_in_wasi_is_ended_by_the_wall_clock() {
    on_loop(async {
        // One clock subscription of an hour: userdata, tag 0, clock 1, timeout, precision, relative.
        let imports =
            r#"(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))---"#;
        let run = "(i32.store (i32.const 256) (i32.const 7)) (i32.store8 (i32.const 264) (i32.const 0))
            (i32.store (i32.const 272) (i32.const 1)) (i64.store (i32.const 280) (i64.const 3600000000000))
            (drop (call $poll (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 1024)))";
        let payload = Payload::with(imports, PASS, run).settings("[limits]\nwake_up_ms = 200\n[wasi]");
        assert_eq!(end_of(payload).await.reason, Some(Reason::WallClock));
    });
}

#[test]
fn silence_misses_the_heartbeat() {
    on_loop(async {
        let payload = Payload::reactor(PASS, "(drop (call $wait (i64.const 3600000)))");
        let status = end_of(payload.settings("[health]\nheartbeat_s = 1")).await;
        assert_eq!(status.reason, Some(Reason::HeartbeatMissed));
    });
}

#[test]
fn returning_is_an_exit() {
    on_loop(async {
        assert_eq!(end_of(Payload::reactor(PASS, "")).await.reason, Some(Reason::Exited));
    });
}

#[test]
fn a_payload_that_says_it_has_failed_is_believed() {
    on_loop(async {
        let run = "(drop (call $health (i32.const 2) (i32.const 0) (i32.const 3)))
            (drop (call $wait (i64.const 3600000)))";
        let status = end_of(Payload::reactor(PASS, run)).await;
        assert_eq!((status.reason, status.message.as_str()), (Some(Reason::ReportedFailed), "all"));
    });
}

#[test]
fn a_stop_interrupts_a_long_wait_at_once() {
    on_loop(async {
        let run = "(call $report) (drop (call $wait (i64.const 3600000)))";
        let payload = Payload::reactor(PASS, run).settings("[limits]\nstop_ms = 30000");
        let device = Device::new();
        let (mut bench, outcome) = try_out(&device, &payload).await;
        outcome.unwrap();
        bench.event("healthy", |status| status.health == Health::Healthy).await;
        let asked = Instant::now();
        stop(&bench.supervisor, "probe").await;
        assert!(asked.elapsed().as_secs() < 20, "it was not the deadline that ended it");
    });
}

#[test]
fn a_stop_kills_what_does_not_listen() {
    on_loop(async {
        let payload = Payload::reactor(PASS, SPIN)
            .settings("[limits]\nstop_ms = 100\nfuel = 10_000_000_000\nwake_up_ms = 60_000");
        let device = Device::new();
        let (bench, outcome) = try_out(&device, &payload).await;
        let pid = outcome.unwrap().pid;
        stop(&bench.supervisor, "probe").await;
        let status = bench.supervisor.notices().of("probe").unwrap();
        assert_eq!((status.phase, status.reason), (Phase::Stopped, Some(Reason::Stopped)));
        assert!(fs::metadata(format!("/proc/{pid}")).is_err());
    });
}

#[test]
fn bad_pointers_and_numbers_are_answered_and_not_obeyed() {
    on_loop(async {
        // Each answer must be the guest contract's; the self-test counts those that are not.
        let check = |call: &str, answer: i32| {
            format!("(local.set $bad (i32.add (local.get $bad) (i32.ne {call} (i32.const {answer}))))")
        };
        let self_test = [
            "(local $bad i32)".to_owned(),
            check("(call $log (i32.const 6) (i32.const 65530) (i32.const 11))", -1),
            check("(call $log (i32.const 6) (i32.const -1) (i32.const 1))", -1),
            check("(call $log (i32.const 6) (i32.const 0) (i32.const -1))", -1),
            check("(call $log (i32.const 5) (i32.const 0) (i32.const 1))", -2),
            check("(call $log (i32.const 6) (i32.const 0) (i32.const 4097))", -3),
            check("(call $log (i32.const 6) (i32.const 0) (i32.const 4096))", 0),
            check("(call $health (i32.const 5) (i32.const 0) (i32.const 1))", -2),
            check("(call $health (i32.const 3) (i32.const 0) (i32.const 1))", -2),
            check("(call $health (i32.const 0) (i32.const 65536) (i32.const 1))", -1),
            check("(call $wait (i64.const -1))", -2),
            check("(call $wait (i64.const 0))", 0),
            check("(call $hold (i32.const -1))", -2),
            check("(call $hold (i32.const 3601))", -2),
            check("(call $hold (i32.const 0))", 0),
            "(local.get $bad)".to_owned(),
        ]
        .join("\n");
        let device = Device::new();
        let (_, outcome) = try_out(&device, &Payload::reactor(&self_test, WORK)).await;
        outcome.unwrap();
    });
}

#[test]
fn a_log_line_cannot_forge_a_field_or_a_terminal_sequence() {
    on_loop(async {
        let more = r#"(data (i32.const 100) "evil\1b[2J\nPRIORITY=0\0a")"#;
        let self_test = "(drop (call $log (i32.const 4) (i32.const 100) (i32.const 20))) (i32.const 0)";
        let device = Device::new();
        let (_, outcome) = try_out(&device, &Payload::with(more, self_test, WORK)).await;
        outcome.unwrap();
        let line = device.heard("evil").await;
        assert_eq!(
            line,
            "MESSAGE=evil\\u{1b}[2J\nPRIORITY=4\nSYSLOG_IDENTIFIER=payload-probe\nIOTWASM_PAYLOAD=probe\n"
        );
        device.heard("MESSAGE=PRIORITY=0\nPRIORITY=4\n").await;
    });
}

#[test]
fn standard_output_reaches_the_journal() {
    on_loop(async {
        let more = r#"(import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))---
            (data (i32.const 200) "\2c\01\00\00\06\00\00\00") (data (i32.const 300) "hello\0a")"#;
        let self_test = "(call $write (i32.const 1) (i32.const 200) (i32.const 1) (i32.const 400))";
        let device = Device::new();
        let (_, outcome) = try_out(&device, &Payload::with(more, self_test, WORK).settings("[wasi]")).await;
        outcome.unwrap();
        assert!(device.heard("MESSAGE=hello\n").await.contains("SYSLOG_IDENTIFIER=payload-probe"));
    });
}

/// `$open(fd, path, length, oflags, rights)` and the paths that the tests below use.
const OPEN: &str = r#"
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    ---
    (data (i32.const 500) "file")
    (data (i32.const 510) "../../../../../../etc/passwd")
    (data (i32.const 550) "/etc/passwd")
    (func $open (param $fd i32) (param $path i32) (param $length i32) (param $oflags i32) (param $rights i64)
        (result i32)
        (call $path_open (local.get $fd) (i32.const 1) (local.get $path) (local.get $length) (local.get $oflags)
            (local.get $rights) (local.get $rights) (i32.const 0) (i32.const 600)))
"#;

const FOLDERS: &str = r#"
[[wasi.directories]]
name = "state"
guest = "/state"
access = "read-write"
quota_kib = 64
[[wasi.directories]]
name = "fixed"
guest = "/fixed"
access = "read-only"
"#;

#[test]
fn a_hold_lasts_until_it_is_released() {
    on_loop(async {
        let run = format!(
            "(if (call $hold (i32.const 3600)) (then unreachable)) (call $report) (drop (call $wait (i64.const 50)))
             (if (call $hold (i32.const 0)) (then unreachable)) {WORK}"
        );
        let device = Device::new();
        let (mut bench, outcome) = try_out(&device, &Payload::reactor(PASS, &run)).await;
        outcome.unwrap();
        let held = bench.event("holding", |status| status.hold_s > 0).await;
        assert_eq!((held.phase, held.trial, held.hold_s), (Phase::Running, true, 3600));
        let released = bench.event("released", |status| status.hold_s == 0).await;
        assert_eq!((released.phase, released.reason), (Phase::Running, None));
    });
}

#[test]
fn a_hold_ends_with_its_run_by_crash_and_by_order() {
    on_loop(async {
        let run = "(drop (call $hold (i32.const 60))) (call $report) (drop (call $wait (i64.const 50))) unreachable";
        let status = end_of(Payload::reactor(PASS, run)).await;
        assert_eq!((status.reason, status.hold_s), (Some(Reason::Trap), 0));

        let device = Device::new();
        // From its self-test on.
        let self_test = "(call $hold (i32.const 60))";
        let (bench, outcome) = try_out(&device, &Payload::reactor(self_test, WORK)).await;
        assert!((1..=60).contains(&outcome.unwrap().hold_s));
        stop(&bench.supervisor, "probe").await;
        let status = bench.supervisor.notices().of("probe").unwrap();
        assert_eq!((status.phase, status.hold_s), (Phase::Stopped, 0));
    });
}

#[test]
fn a_guest_uses_its_folders_and_nothing_else() {
    on_loop(async {
        let device = Device::new();
        // Descriptors 3 and 4 are the folders in the manifest's order; rights 2 is read, 64 is write; oflags 1 creates.
        // What it may do must work, or the error's number comes back; what it may not must fail, or a higher bit is set.
        let self_test = "(local $bad i32)
            (local.set $bad
                (call $open (i32.const 3) (i32.const 500) (i32.const 4) (i32.const 1) (i64.const 66)))
            (local.set $bad (i32.or (local.get $bad) (i32.shl (i32.eqz
                (call $open (i32.const 4) (i32.const 500) (i32.const 4) (i32.const 1) (i64.const 66))) (i32.const 8))))
            (local.set $bad (i32.or (local.get $bad) (i32.shl (i32.eqz
                (call $open (i32.const 3) (i32.const 510) (i32.const 28) (i32.const 0) (i64.const 2))) (i32.const 9))))
            (local.set $bad (i32.or (local.get $bad) (i32.shl (i32.eqz
                (call $open (i32.const 3) (i32.const 550) (i32.const 11) (i32.const 0) (i64.const 2))) (i32.const 10))))
            (local.get $bad)";
        let (_, outcome) = try_out(&device, &Payload::with(OPEN, self_test, WORK).settings(FOLDERS)).await;
        outcome.unwrap();
        assert!(device.storage("probe", "state").join("file").exists());
        assert!(!device.storage("probe", "fixed").join("file").exists());
    });
}

#[test]
fn folders_over_their_quota_stop_the_payload() {
    on_loop(async {
        let device = Device::new();
        let payload = Payload::reactor(PASS, WORK).settings(FOLDERS);
        let (mut bench, outcome) = try_out(&device, &payload).await;
        outcome.unwrap();
        fs::write(device.storage("probe", "state").join("big"), vec![1; 100 * 1024]).unwrap();
        let status = bench.event("over", |status| status.phase == Phase::Failed).await;
        assert_eq!(status.reason, Some(Reason::StorageQuota));
        assert!(status.message.contains("/state"), "{}", status.message);
    });
}

#[test]
fn the_old_release_runs_on_beside_what_a_bad_one_left_behind() {
    on_loop(async {
        let device = Device::new();
        let old = device.install(&Payload::reactor(PASS, WORK).settings(FOLDERS), true);
        let mut bench = device.supervisor();
        bench.boot().await;
        bench.event("healthy", |status| status.health == Health::Healthy).await;
        let bad = device.install(&Payload::reactor(PASS, WORK).version("1.1.0").settings(FOLDERS), false);
        bench.supervisor.start("probe", wire_slot(bad), true).await.unwrap();
        fs::write(device.storage("probe", "state").join("big"), vec![1; 100 * 1024]).unwrap();
        let undone = bench.event("over", |status| status.phase == Phase::Failed).await;
        assert_eq!(undone.reason, Some(Reason::StorageQuota));
        let again = bench.supervisor.start("probe", wire_slot(bad), true).await;
        let full = matches!(&again, Err(Refused::NotStarted(End { reason: Reason::StorageQuota, .. })));
        assert!(full, "who filled it is not begun again: {again:?}");

        bench.supervisor.start("probe", wire_slot(old), false).await.unwrap();
        while bench.events.try_recv().is_ok() {}
        // Ten measurements, of which none stops it.
        let stopped = bench.event("stopped", |status| status.phase != Phase::Running);
        assert!(tokio::time::timeout(Duration::from_millis(500), stopped).await.is_err());
        fs::write(device.storage("probe", "state").join("more"), vec![1; 24 * 1024]).unwrap();
        let status = bench.event("over by its own", |status| status.phase == Phase::Backoff).await;
        assert_eq!((status.reason, status.version.as_str()), (Some(Reason::StorageQuota), "1.0.0"));
    });
}

#[test]
fn a_command_reports_its_own_self_test() {
    on_loop(async {
        let device = Device::new();
        let start = format!("(drop (call $health (i32.const 3) (i32.const 0) (i32.const 0))) {WORK}");
        let (mut bench, outcome) = try_out(&device, &Payload::command(&start)).await;
        assert_eq!(outcome.unwrap().phase, Phase::Running);
        bench.event("healthy", |status| status.health == Health::Healthy).await;
        stop(&bench.supervisor, "probe").await;
        assert_eq!(bench.supervisor.notices().of("probe").unwrap().reason, Some(Reason::Stopped));
    });
}

#[test]
fn a_command_that_ends_or_works_without_its_report_has_failed() {
    on_loop(async {
        let end = refusal_of(Payload::command("(call $report)")).await;
        assert_eq!(end.reason, Reason::SelfTestFailed);
        let payload = Payload::command(WORK).settings("[limits]\nself_test_ms = 200");
        assert_eq!(refusal_of(payload).await.reason, Reason::SelfTestFailed);
        let failed = "(drop (call $health (i32.const 4) (i32.const 0) (i32.const 6)))";
        let end = refusal_of(Payload::command(failed)).await;
        assert_eq!((end.reason, end.message.as_str()), (Reason::SelfTestFailed, "all is"));
    });
}

#[test]
fn a_committed_payload_that_crashes_comes_back() {
    on_loop(async {
        let device = Device::new();
        // Works on its second start: the first leaves a file behind.
        let run = format!(
            "(if (i32.eqz (call $open (i32.const 3) (i32.const 500) (i32.const 4) (i32.const 5) (i64.const 66)))
                (then unreachable)) {WORK}"
        );
        device.install(&Payload::with(OPEN, PASS, &run).settings(FOLDERS), true);
        let mut bench = device.supervisor();
        bench.boot().await;
        let crashed = bench.event("pausing", |status| status.phase == Phase::Backoff).await;
        assert_eq!(crashed.reason, Some(Reason::Trap));
        let back = bench.event("healthy again", |status| status.health == Health::Healthy).await;
        assert_eq!((back.starts, back.crashes, back.trial), (2, 1, false));
    });
}

#[test]
fn a_swap_lets_the_old_one_work_until_the_new_one_is_ready() {
    on_loop(async {
        let device = Device::new();
        device.install(&Payload::reactor(PASS, WORK), true);
        let mut bench = device.supervisor();
        bench.boot().await;
        bench.event("healthy", |status| status.health == Health::Healthy).await;
        let slot = device.install(&Payload::reactor(PASS, WORK).version("1.1.0"), false);
        let started = bench.supervisor.start("probe", wire_slot(slot), true).await.unwrap();
        assert_eq!((started.version.as_str(), started.slot, started.trial), ("1.1.0", wire_slot(slot), true));
        let mut phases = Vec::new();
        while let Ok(event) = bench.events.try_recv() {
            phases.push((event.status.version, event.status.phase));
        }
        let was_down = phases.iter().any(|(_, phase)| matches!(phase, Phase::Starting | Phase::Backoff));
        assert!(!was_down, "{phases:?}");
        let confirmed = bench.supervisor.confirm("probe", wire_slot(slot)).await.unwrap();
        assert!(!confirmed.trial);
    });
}

#[test]
fn what_was_not_signed_or_was_changed_since_does_not_run_and_the_old_one_goes_on() {
    on_loop(async {
        let device = Device::new();
        let old = device.install(&Payload::reactor(PASS, WORK), true);
        let mut bench = device.supervisor();
        bench.boot().await;
        bench.event("healthy", |status| status.health == Health::Healthy).await;
        let forged = device.install_forged(&Payload::reactor(PASS, WORK).version("2.0.0"));
        assert_ne!(old, forged);
        let refused = bench.supervisor.start("probe", wire_slot(forged), true).await;
        assert!(matches!(&refused, Err(Refused::NotStarted(End { reason: Reason::NotVerified, .. }))), "{refused:?}");
        assert_eq!(bench.supervisor.notices().of("probe").unwrap().phase, Phase::Running);

        // One bit of the old one, which is signed.
        let file = device.slot_file("probe", old);
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
        let refused = bench.supervisor.start("probe", wire_slot(old), false).await;
        assert!(matches!(&refused, Err(Refused::NotStarted(End { reason: Reason::NotVerified, .. }))), "{refused:?}");
    });
}

#[test]
fn another_root_vouches_for_nothing() {
    on_loop(async {
        let device = Device::new();
        let payload = Payload::reactor(PASS, WORK);
        device.install(&payload, true);
        fs::copy(Device::new().path("root.json"), device.path("root.json")).unwrap();
        let mut bench = device.supervisor();
        bench.boot().await;
        let status = bench.event("refused", |status| status.phase == Phase::Failed).await;
        assert_eq!((status.reason, status.starts), (Some(Reason::NotVerified), 0));
    });
}

#[test]
fn a_payload_for_another_board_does_not_run() {
    on_loop(async {
        let payload = Payload { boards: vec!["other-board".into()], ..Payload::reactor(PASS, WORK) };
        assert_eq!(refusal_of(payload).await.reason, Reason::BadPayload);
    });
}

#[test]
fn a_module_that_breaks_the_rules_does_not_run() {
    on_loop(async {
        let more = r#"(import "env" "system" (func $system (param i32) (result i32)))---"#;
        let end = refusal_of(Payload::with(more, PASS, WORK)).await;
        assert_eq!(end.reason, Reason::BadPayload);
        assert!(end.message.contains("system"), "{}", end.message);
    });
}

#[test]
fn a_damaged_state_stops_only_its_own_payload() {
    on_loop(async {
        let device = Device::new();
        device.install(&Payload::reactor(PASS, WORK).id("first"), true);
        device.install(&Payload::reactor(PASS, WORK).id("second"), true);
        fs::write(device.path("payloads/first/state.json"), "{").unwrap();
        let mut bench = device.supervisor();
        bench.boot().await;
        bench.event("healthy", |status| status.payload == "second" && status.health == Health::Healthy).await;
        assert!(bench.supervisor.notices().of("first").is_none());
    });
}

#[test]
fn what_is_not_configured_is_not_started_at_boot() {
    on_loop(async {
        let device = Device::new();
        device.install(&Payload::reactor(PASS, WORK), true);
        let mut bench = device.supervisor();
        let other_vendor = Wanted { id: "probe".parse().unwrap(), vendor: "bolt".parse().unwrap() };
        for wanted in [vec![], vec![other_vendor]] {
            bench.supervisor.boot(&wanted).await;
            assert!(bench.supervisor.notices().of("probe").is_none());
        }
        bench.boot().await;
        bench.event("healthy", |status| status.health == Health::Healthy).await;
    });
}

#[test]
fn a_trial_is_not_started_at_boot() {
    on_loop(async {
        let device = Device::new();
        device.install(&Payload::reactor(PASS, WORK), false);
        let bench = device.supervisor();
        bench.boot().await;
        assert!(bench.supervisor.notices().all().is_empty());
    });
}

#[test]
fn orders_for_what_is_not_there_are_refused_and_stopping_it_is_no_error() {
    on_loop(async {
        let device = Device::new();
        let slot = device.install(&Payload::reactor(PASS, WORK), false);
        let supervisor = device.supervisor().supervisor;
        let missing = |refused| matches!(refused, Err(Refused::NoSuchPayload(_)));
        assert!(missing(supervisor.start("nobody", Slot::A, true).await));
        assert!(missing(supervisor.start("../probe", Slot::A, true).await));
        assert!(missing(supervisor.start("probe", wire_slot(slot.other()), true).await));
        assert!(missing(supervisor.confirm("probe", wire_slot(slot)).await));
        supervisor.stop("nobody").await.unwrap();
    });
}

#[test]
fn everything_is_stopped_at_the_end() {
    on_loop(async {
        let device = Device::new();
        for id in ["first", "second"] {
            device.install(&Payload::reactor(PASS, WORK).id(id), true);
        }
        let mut bench = device.supervisor();
        bench.boot().await;
        // In whichever order: the second may be the first.
        let running = RefCell::new(BTreeSet::new());
        let both = |status: &PayloadStatus| {
            if status.phase == Phase::Running {
                running.borrow_mut().insert(status.payload.clone());
            }
            running.borrow().len() == 2
        };
        bench.event("running, both", both).await;
        let pids: Vec<_> = bench.supervisor.notices().all().iter().map(|status| status.pid).collect();
        bench.supervisor.stop_all().await;
        assert!(pids.iter().all(|pid| *pid > 0 && fs::metadata(format!("/proc/{pid}")).is_err()), "{pids:?}");
    });
}

#[test]
fn at_the_end_everyone_is_asked_at_once_and_has_its_own_deadline() {
    on_loop(async {
        let device = Device::new();
        // The first does not listen and takes up its deadline; the second has something to do before it leaves.
        let deaf = Payload::reactor(PASS, SPIN)
            .id("first")
            .settings("[limits]\nstop_ms = 3000\nfuel = 10_000_000_000\nwake_up_ms = 60_000");
        let goodbye = format!("{WORK} (drop (call $log (i32.const 6) (i32.const 0) (i32.const 11)))");
        let polite = Payload::reactor(PASS, &goodbye).id("second").settings("[limits]\nstop_ms = 30000");
        for payload in [&deaf, &polite] {
            device.install(payload, true);
        }
        let mut bench = device.supervisor();
        bench.boot().await;
        let running = RefCell::new(BTreeSet::new());
        let both = |status: &PayloadStatus| {
            if status.phase == Phase::Running {
                running.borrow_mut().insert(status.payload.clone());
            }
            running.borrow().len() == 2
        };
        bench.event("running, both", both).await;
        let asked = Instant::now();
        bench.supervisor.stop_all().await;
        assert!(asked.elapsed() >= Duration::from_secs(3), "the first has all of its time");
        assert!(asked.elapsed() < Duration::from_secs(20), "and the second needs none of its own");
        let mut stopped = Vec::new();
        while let Ok(event) = bench.events.try_recv() {
            if event.status.phase == Phase::Stopped {
                stopped.push((event.status.payload, event.status.reason));
            }
        }
        // One after the other, the first would be the first.
        assert_eq!(stopped, ["second", "first"].map(|id| (id.to_owned(), Some(Reason::Stopped))));
        device.heard("IOTWASM_PAYLOAD=second").await;
    });
}
