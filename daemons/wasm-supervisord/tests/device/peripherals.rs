//! Payloads with peripherals: the session's way from capd through the supervisor to the runner, and the guest's calls.

use std::time::Duration;

use iotwasm_api::{
    Reason,
    supervisor::{Phase, Slot},
};
use iotwasm_session::{Kind, Request, Why};
use wasm_supervisord::{capabilities::Error, keeper::wire_slot, machine::End, supervisor::Refused};

use crate::{
    capd::{Oddity, denied},
    support::{Bench, Device, Payload, WORK, on_loop},
};

const PASS: &str = "(i32.const 0)";
/// A sensor and a line.
const CAPABILITIES: &str = r#"
[capabilities.sensors.climate.capabilities]
temperature = "read"
[capabilities.gpio]
led = "out"
"#;
/// The functions that are used here, and names: the sensor at 100, its value at 120, a line at 140.
const MORE: &str = r#"
    (import "iotwasm_sensors" "turn_on" (func $on (param i32 i32) (result i32)))
    (import "iotwasm_sensors" "read" (func $read (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "iotwasm_gpio" "get" (func $get (param i32 i32 i32 i32) (result i32)))
    ---
    (data (i32.const 100) "climate") (data (i32.const 120) "temperature") (data (i32.const 140) "secret-door")
    (func $turn_on (result i32) (call $on (i32.const 100) (i32.const 7)))
    ;; Log the value, or report -n as degraded.
    (func $look (local $n i32)
        (local.set $n (call $read (i32.const 100) (i32.const 7) (i32.const 120) (i32.const 11)
            (i32.const 200) (i32.const 64) (i32.const 300)))
        (if (i32.eqz (local.get $n))
            (then (drop (call $log (i32.const 6) (i32.const 200) (i32.load (i32.const 300)))))
            (else
                (i32.store8 (i32.const 200) (i32.add (i32.const 64) (i32.sub (i32.const 0) (local.get $n))))
                (drop (call $log (i32.const 4) (i32.const 200) (i32.const 1)))))
        (call $report))
"#;
/// Look every few milliseconds until told to stop.
const LOOK: &str = "(loop $l (call $look) (br_if $l (i32.ne (call $wait (i64.const 5)) (i32.const -4))))";

fn payload(self_test: &str, run: &str) -> Payload {
    Payload::with(MORE, self_test, run).settings(CAPABILITIES)
}

async fn start(device: &Device, payload: &Payload) -> Result<Bench, End> {
    let slot = device.install(payload, false);
    let bench = device.supervisor();
    match bench.supervisor.start(payload.id, wire_slot(slot), true).await {
        Ok(_) => Ok(bench),
        Err(Refused::NotStarted(end)) => Err(end),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_payload_reads_a_sensor_through_its_session() {
    on_loop(async {
        let device = Device::new();
        device.door.capd.set_value(0, 0, "25080\n");
        let payload = payload("(call $turn_on)", LOOK);
        let bench = start(&device, &payload).await.unwrap();
        device.heard("MESSAGE=25080\n").await;
        let digest = iotwasm_payload::Digest::of(&payload.pack()).to_string();
        assert_eq!(device.door.calls(), [("probe".to_owned(), iotwasm_payload::Slot::A, digest)]);
        assert_eq!(device.door.capd.asked(), [Request::Claim, Request::TurnOn { sensor: 0 }]);
        bench.supervisor.stop("probe").await.unwrap();
    });
}

#[test]
fn a_payload_without_capabilities_needs_no_capd() {
    on_loop(async {
        let device = Device::new();
        device.door.refuse(Error::Timeout(Duration::ZERO));
        let bench = start(&device, &Payload::reactor(PASS, WORK)).await.unwrap();
        assert!(device.door.calls().is_empty());
        bench.supervisor.stop("probe").await.unwrap();
    });
}

#[test]
fn what_was_not_granted_is_denied_and_counted() {
    on_loop(async {
        let device = Device::new();
        // -7, not allowed, is what the self-test returns.
        let get = "(call $get (i32.const 140) (i32.const 11) (i32.const 1) (i32.const 300))";
        let end = start(&device, &payload(get, WORK)).await.err().unwrap();
        assert_eq!((end.reason, end.message.as_str()), (Reason::SelfTestFailed, "the self-test returned -7"));
        assert_eq!(device.door.capd.asked(), [Request::Claim, denied(Kind::Gpio, "secret-door", Why::Name)]);
    });
}

#[test]
fn a_refused_payload_is_told_everything_and_not_tried_again() {
    on_loop(async {
        let device = Device::new();
        device.door.refuse(Error::Refused(vec!["gpio.led: not in the tier".into(), "i2c.x: not there".into()]));
        device.install(&payload(PASS, WORK), true);
        let mut bench = device.supervisor();
        bench.boot().await;
        let status = bench.event("refused", |status| status.phase == Phase::Failed).await;
        assert_eq!(status.reason, Some(Reason::CapabilityRefused));
        assert_eq!(status.message, "it asks for what it may not have: gpio.led: not in the tier; i2c.x: not there");
        assert_eq!(device.door.calls().len(), 1);
    });
}

#[test]
fn without_capd_a_committed_payload_is_tried_again_and_then_runs() {
    on_loop(async {
        let device = Device::new();
        device.door.refuse(Error::Timeout(Duration::ZERO));
        device.install(&payload("(call $turn_on)", LOOK), true);
        let mut bench = device.supervisor();
        bench.boot().await;
        let status = bench.event("pausing", |status| status.phase == Phase::Backoff).await;
        assert_eq!((status.reason, status.slot), (Some(Reason::StartFailed), Slot::A));
        bench.event("running", |status| status.phase == Phase::Running).await;
        bench.supervisor.stop("probe").await.unwrap();
    });
}

#[test]
fn what_capd_does_not_verify_does_not_run() {
    on_loop(async {
        let device = Device::new();
        device.door.refuse(Error::NotVerified("its hash is another".into()));
        let end = start(&device, &payload(PASS, WORK)).await.err().unwrap();
        assert_eq!(end.reason, Reason::NotVerified);
        assert!(end.message.contains("its hash is another"), "{}", end.message);
    });
}

#[test]
fn a_session_that_is_lost_is_followed_by_another_and_the_guest_goes_on() {
    on_loop(async {
        let device = Device::new();
        let bench = start(&device, &payload("(call $turn_on)", LOOK)).await.unwrap();
        device.heard("MESSAGE=temperature\n").await;
        device.door.capd.set_value(0, 0, "before\n");
        device.heard("MESSAGE=before\n").await;
        // The first attempt fails, so the guest goes without for a while.
        device.door.refuse(Error::Timeout(Duration::ZERO));
        device.door.capd.asked();
        device.door.capd.crash();
        // 64 + 14: unavailable.
        device.heard("MESSAGE=N\n").await;
        device.door.capd.set_value(0, 0, "after\n");
        device.heard("MESSAGE=after\n").await;
        assert_eq!(device.door.calls().len(), 3);
        assert_eq!(device.door.capd.asked(), [Request::Claim, Request::TurnOn { sensor: 0 }]);
        bench.supervisor.stop("probe").await.unwrap();
        assert_eq!(bench.supervisor.notices().of("probe").unwrap().crashes, 0);
    });
}

#[test]
fn a_session_that_is_lost_before_the_claim_is_followed_by_another() {
    on_loop(async {
        let device = Device::new();
        device.door.capd.be_odd(Oddity::Die);
        let bench = start(&device, &payload("(call $turn_on)", LOOK)).await.unwrap();
        device.heard("MESSAGE=temperature\n").await;
        assert_eq!(device.door.calls().len(), 2);
        bench.supervisor.stop("probe").await.unwrap();
    });
}

#[test]
fn a_capd_that_hands_nothing_over_is_a_failed_start() {
    on_loop(async {
        let device = Device::new();
        for _ in 0..100 {
            device.door.capd.be_odd(Oddity::Babble);
        }
        let payload = payload(PASS, WORK).settings(&format!("{CAPABILITIES}[limits]\nself_test_ms = 1000"));
        let end = start(&device, &payload).await.err().unwrap();
        assert_eq!(end.reason, Reason::StartFailed, "{}", end.message);
    });
}

#[test]
fn a_capd_that_never_answers_is_not_the_guests_fault() {
    on_loop(async {
        let device = Device::new();
        let payload = payload("(call $turn_on)", &format!("(drop (call $turn_on)) {LOOK}"))
            .settings(&format!("{CAPABILITIES}[limits]\nwake_up_ms = 300\n[health]\nheartbeat_s = 60"));
        // Silent when asked in the wake-up, which is shorter than we wait for capd.
        device.door.capd.be_odd_later(2, Oddity::Silence);
        let bench = start(&device, &payload).await.unwrap();
        device.heard("MESSAGE=N\n").await;
        device.heard("MESSAGE=temperature\n").await;
        assert_eq!(bench.supervisor.notices().of("probe").unwrap().crashes, 0);
        bench.supervisor.stop("probe").await.unwrap();
    });
}
