//! `iotwasm device` against sockets that answer as the interfaces say.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use serde_json::{Value, json};

use crate::common::{Bench, Run};

/// Answers each call on each connection with what `reply` makes of the method and its parameters, one message for each
/// value; ends with the test.
fn serve(path: PathBuf, reply: fn(&str, &Value) -> Vec<Value>) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let connection = connection.unwrap();
            thread::spawn(move || converse(connection, reply));
        }
    });
}

fn converse(mut connection: UnixStream, reply: fn(&str, &Value) -> Vec<Value>) {
    let mut pending = Vec::new();
    let mut byte = [0];
    while let Ok(1) = connection.read(&mut byte) {
        if byte[0] != 0 {
            pending.push(byte[0]);
            continue;
        }
        let call: Value = serde_json::from_slice(&pending).unwrap();
        pending.clear();
        for message in reply(call["method"].as_str().unwrap(), &call["parameters"]) {
            connection.write_all(format!("{message}\0").as_bytes()).unwrap();
        }
    }
}

fn attempt() -> Value {
    json!({
        "number": 7, "payload": "counter", "version": "1.2.0", "sha256": "00ff", "from_version": "1.1.0", "slot": "b",
        "outcome": "rolled_back", "reason": "heartbeat_missed", "message": "no report for 10 s",
        "started": "2026-01-02T03:04:05Z", "ended": "2026-01-02T03:05:05Z",
    })
}

fn firmware_attempt() -> Value {
    json!({
        "number": 8, "level": "firmware", "payload": "", "version": "2.1.0", "sha256": "00ff", "from_version": "2.0.0",
        "slot": "b", "outcome": "rolled_back", "reason": "daemon_not_ready", "message": "capd.service: failed",
        "started": "2026-01-02T03:04:05Z", "ended": "2026-01-02T03:05:05Z",
    })
}

fn ota(method: &str, parameters: &Value) -> Vec<Value> {
    let slot = |slot: &str, state: &str, version: &str| json!({"slot": slot, "state": state, "boots_left": 0, "version": version, "sha256": ""});
    match method {
        "io.iotwasm.Ota.GetStatus" => vec![json!({"parameters": {
            "device_id": "d-1", "board": "qemu-x86-64", "activity": "idle", "last_check": "2026-01-02T03:04:05Z",
            "last_error": "", "next_check_s": 3600,
            "payloads": [{
                "payload": "counter", "vendor": "acme", "committed": "1.1.0",
                "slots": [slot("a", "committed", "1.1.0"), slot("b", "inactive", "")], "rejected": ["1.2.0"],
            }],
            "firmware": {
                "compatible": "gw", "version": "2.0.0", "slot": "a", "state": "committed", "installed": "2.2.0",
                "waiting_for": "a maintenance window", "other_version": "2.2.0", "other_state": "installed", "boots_left": 2,
                "rejected": ["2.1.0 00ff (daemon_not_ready)"],
            },
        }})],
        "io.iotwasm.Ota.CheckNow" => {
            vec![json!({"error": "io.iotwasm.Ota.PermissionDenied", "parameters": {"uid": 1234}})]
        }
        "io.iotwasm.Ota.GetHistory" if parameters["payload"] == "nothing" => {
            vec![json!({"parameters": {"attempts": []}})]
        }
        "io.iotwasm.Ota.GetHistory" if parameters["level"] == "firmware" => {
            vec![json!({"parameters": {"attempts": [firmware_attempt()]}})]
        }
        "io.iotwasm.Ota.GetHistory" => {
            vec![json!({"parameters": {"attempts": [firmware_attempt(), attempt()]}})]
        }
        "io.iotwasm.Ota.Monitor" => vec![
            json!({"continues": true, "parameters": {"activity": "downloading", "downloaded": 5, "total": 10}}),
            json!({"continues": true, "parameters": {"activity": "installing_firmware", "downloaded": 5, "total": 10,
                "percent": 40, "detail": "Copying image to rootfs.1", "attempt": firmware_attempt()}}),
            json!({"continues": false, "parameters":
                {"activity": "idle", "downloaded": 0, "total": 0, "attempt": attempt()}}),
        ],
        other => panic!("unexpected {other}"),
    }
}

fn running() -> Value {
    json!({
        "payload": "counter", "slot": "a", "version": "1.1.0", "sha256": "00ff", "trial": false, "phase": "self_test",
        "health": "degraded", "message": "the disk\u{1b}[2J is full", "starts": 3, "crashes": 1, "pid": 99, "start_ms": 4, "self_test_ms": 2, "interruption_ms": 0, "hold_s": 0,
        "since": "2026-01-02T03:04:05Z",
    })
}

fn supervisor(method: &str, _: &Value) -> Vec<Value> {
    match method {
        "io.iotwasm.Supervisor.GetStatus" => vec![json!({"parameters": {"payloads": [running()]}})],
        "io.iotwasm.Supervisor.Monitor" => {
            vec![json!({"continues": false, "parameters": {"event": {"sequence": 1, "status": running()}}})]
        }
        other => panic!("unexpected {other}"),
    }
}

fn capd(method: &str, _: &Value) -> Vec<Value> {
    match method {
        "io.iotwasm.Capabilities.GetBoard" => {
            vec![json!({"parameters": {"name": "qemu-x86-64", "description": "a VM", "things": [
                {"kind": "actuators", "name": "pump", "description": "", "details": "takes [0, 1]", "present": true, "message": "",
                 "value": "1", "users": []},
                {"kind": "gpio", "name": "door", "description": "", "details": "line, in", "present": false,
                 "message": "line \"door\" is not there", "value": "", "users": ["counter"]},
            ]}})]
        }
        "io.iotwasm.Capabilities.GetSessions" => vec![json!({"parameters": {"sessions": [{
            "session": 3, "payload": "counter", "version": "1.1.0", "sha256": "00ff", "role": "acme", "claimed": true,
            "since": "2026-01-02T03:04:05Z", "grants": ["line door: in"], "leases": ["gpio.door"], "requests": 9, "denials": 2,
        }]}})],
        "io.iotwasm.Capabilities.GetDenials" => vec![json!({"parameters": {"total": 2, "denials": [{
            "payload": "counter", "capability": "actuators.pump", "reason": "rate", "message": "too many writes", "count": 2,
            "last": "2026-01-02T03:04:05Z",
        }]}})],
        "io.iotwasm.Capabilities.Monitor" => vec![json!({"continues": false, "parameters": {"event": {
            "sequence": 8, "time": "2026-01-02T03:04:05Z", "kind": "denied", "payload": "counter",
            "capability": "actuators.pump", "message": "too many writes",
        }}})],
        other => panic!("unexpected {other}"),
    }
}

fn device() -> Bench {
    let bench = Bench::new();
    serve(bench.path("ota.sock"), ota);
    serve(bench.path("supervisor.sock"), supervisor);
    serve(bench.path("capabilities.sock"), capd);
    bench
}

fn ask(bench: &Bench, args: &[&str]) -> Run {
    bench
        .command(args)
        .env("IOTWASM_OTA_SOCKET", bench.path("ota.sock"))
        .env("IOTWASM_SUPERVISOR_SOCKET", bench.path("supervisor.sock"))
        .env("IOTWASM_CAPABILITIES_SOCKET", bench.path("capabilities.sock"))
        .output()
        .unwrap()
        .into()
}

#[test]
fn the_status_joins_what_both_daemons_say() {
    let bench = device();
    let words = ask(&bench, &["device", "status"]).ok().out;
    for part in [
        "device d-1, board qemu-x86-64",
        "1.1.0 committed",
        "inactive",
        "self test",
        "degraded",
        "99",
        "firmware: gw 2.0.0, committed in slot a; the other slot: 2.2.0, installed",
        "firmware 2.2.0 is installed and waits for a restart (2 more boots), which waits for a maintenance window",
        "firmware not tried again: 2.1.0 00ff (daemon_not_ready)",
    ] {
        assert!(words.contains(part), "{part:?} is not in {words}");
    }
    assert!(!words.contains('\u{1b}'), "{words:?}");
    let json: Value = serde_json::from_str(&ask(&bench, &["--json", "device", "status"]).ok().out).unwrap();
    assert_eq!(json["ota"]["payloads"][0]["rejected"], json!(["1.2.0"]));
    assert_eq!(json["ota"]["firmware"]["installed"], "2.2.0");
    assert_eq!(json["supervisor"][0]["pid"], 99);
}

#[test]
fn the_capabilities_show_what_exists_who_uses_it_and_what_was_denied() {
    let bench = device();
    let words = ask(&bench, &["device", "capabilities"]).ok().out;
    for part in ["actuators.pump", "gpio.door", "is not there", "signed by acme", "line door: in", "too many writes"] {
        assert!(words.contains(part), "{part:?} is not in {words}");
    }
    let json: Value = serde_json::from_str(&ask(&bench, &["--json", "device", "capabilities"]).ok().out).unwrap();
    assert_eq!(json["denials"]["denials"][0]["count"], 2);
    assert_eq!(json["board"]["things"][1]["present"], false);
}

#[test]
fn the_status_is_shown_when_one_daemon_does_not_answer() {
    let bench = Bench::new();
    serve(bench.path("ota.sock"), ota);
    let words = ask(&bench, &["device", "status"]).ok().out;
    assert!(words.contains("d-1") && words.contains("could not reach wasm-supervisord"), "{words}");
}

#[test]
fn the_history_says_why_something_was_undone() {
    let bench = device();
    let words = ask(&bench, &["device", "history"]).ok().out;
    for part in ["7", "1.1.0", "1.2.0", "rolled_back", "heartbeat_missed", "no report for 10 s"] {
        assert!(words.contains(part), "{part:?} is not in {words}");
    }
    let rows: Vec<&str> = words.lines().collect();
    assert!(
        rows[1].contains("firmware") && rows[1].contains("daemon_not_ready") && rows[2].contains("counter"),
        "{words}"
    );
    let firmware = ask(&bench, &["device", "history", "--firmware"]).ok().out;
    assert!(firmware.contains("2.1.0") && !firmware.contains("counter"), "{firmware}");
    ask(&bench, &["device", "history", "--firmware", "--payload", "x"]).fails(64, "--payload");
    let none = ask(&bench, &["device", "history", "--payload", "nothing"]).ok().out;
    assert_eq!(none, "nothing was tried yet\n");
    ask(&bench, &["device", "history", "--limit", "0"]).fails(64, "--limit");
}

#[test]
fn a_call_that_is_refused_says_who_asked() {
    ask(&device(), &["device", "check-now"]).fails(1, "ota-updated refused: the user with uid 1234");
}

#[test]
fn the_monitor_prints_a_line_for_each_event_of_the_daemons() {
    let bench = device();
    let words = ask(&bench, &["device", "monitor"]).ok().out;
    let mut lines: Vec<&str> = words.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 5, "{words}");
    assert_eq!(lines[0], "capabilities: denied: counter: actuators.pump: too many writes");
    assert!(lines[1].starts_with("counter 1.1.0: self test, degraded"), "{words}");
    assert_eq!(lines[2], "updates: downloading");
    assert!(
        lines[4].starts_with("updates: installing_firmware 40 %: Copying image to rootfs.1; firmware 2.1.0"),
        "{words}"
    );
    assert!(lines[3].starts_with("updates: idle; counter 1.2.0: rolled_back (heartbeat_missed)"), "{words}");
    for line in ask(&bench, &["--json", "device", "monitor"]).ok().out.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let daemons = ["ota", "supervisor", "capabilities"];
        assert!(daemons.iter().any(|daemon| event.get(daemon).is_some()), "{line}");
    }
}
