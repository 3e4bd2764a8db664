//! Guests that do what no guest should, and what comes of it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use common::{FUEL, instance};
use iotwasm_wasmedge::{Engine, Error, Halt, HostModule, Limits, Outcome, Trap, TrapKind, Value, version};

/// Longer than any busy machine needs; only a guest that is never stopped takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// More than any test can use up: for guests that only the clock may stop.
const ENDLESS: u64 = u64::MAX / 2;

/// The outcome of calling the export `f`.
fn run(fuel: u64, wat: &str, hosts: Vec<HostModule>) -> Outcome {
    instance(fuel, wat, hosts, None).call("f", &[], None).unwrap()
}

/// The outcome of a function that returned one number.
fn returned(v: i32) -> Outcome {
    Outcome::Returned(vec![Value::I32(v)])
}

const SPIN: &str = r#"(module
    (func (export "f") (loop $l (br $l)))
    (func (export "count") (param $n i32) (result i32)
        (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i32.const 7)))"#;

#[test]
fn the_library_is_one_that_is_supported() {
    let version = version();
    assert!(version.starts_with("0.1"), "{version}");
}

#[test]
fn an_infinite_loop_runs_out_of_fuel() {
    let mut guest = instance(FUEL, SPIN, vec![], None);
    assert_eq!(guest.call("f", &[], None).unwrap(), Outcome::OutOfFuel);
    // The next call has fresh fuel.
    assert_eq!(guest.call("count", &[Value::I32(1000)], None).unwrap(), returned(7));
}

#[test]
fn a_loop_over_host_calls_runs_out_of_fuel() {
    let host = HostModule::new("h").function("nothing", |_, ()| Ok(()));
    let wat = r#"(module (import "h" "nothing" (func $n)) (func (export "f") (loop $l (call $n) (br $l))))"#;
    assert_eq!(run(100_000, wat, vec![host]), Outcome::OutOfFuel);
}

#[test]
fn an_infinite_loop_is_cancelled_at_its_deadline() {
    let mut guest = instance(ENDLESS, SPIN, vec![], None);
    for limit in [0, 1, 20] {
        let begin = Instant::now();
        let outcome = guest.call("f", &[], Some(Duration::from_millis(limit))).unwrap();
        assert_eq!(outcome, Outcome::Cancelled);
        assert!(begin.elapsed() >= Duration::from_millis(limit) && begin.elapsed() < PATIENCE);
        assert_eq!(guest.call("count", &[Value::I32(1000)], Some(PATIENCE)).unwrap(), returned(7));
    }
}

#[test]
fn a_canceller_stops_a_call_from_another_thread() {
    let (started, wait) = mpsc::channel();
    let host = HostModule::new("h").function("started", move |_, ()| {
        started.send(()).unwrap();
        Ok(())
    });
    let wat = r#"(module (import "h" "started" (func $s)) (func (export "f") (call $s) (loop $l (br $l))))"#;
    let mut guest = instance(ENDLESS, wat, vec![host], None);
    let canceller = guest.canceller();
    let other = thread::spawn(move || {
        wait.recv().unwrap();
        canceller.cancel();
    });
    assert_eq!(guest.call("f", &[], Some(PATIENCE)).unwrap(), Outcome::Cancelled);
    other.join().unwrap();
}

#[test]
fn a_cancellation_that_comes_too_late_leaves_the_next_call_alone() {
    for _ in 0..200 {
        let (give, take) = mpsc::channel::<iotwasm_wasmedge::Canceller>();
        let host = HostModule::new("h").function("cancel", move |_, ()| {
            take.recv().unwrap().cancel();
            Ok(())
        });
        let wat = r#"(module (import "h" "cancel" (func $c)) (func (export "f") (result i32) (call $c) (i32.const 3))
            (func (export "count") (param $n i32) (result i32)
                (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                (i32.const 7)))"#;
        let mut guest = instance(FUEL, wat, vec![host], None);
        give.send(guest.canceller()).unwrap();
        let outcome = guest.call("f", &[], Some(PATIENCE)).unwrap();
        assert!(outcome == returned(3) || outcome == Outcome::Cancelled, "{outcome:?}");
        assert_eq!(guest.call("count", &[Value::I32(1000)], None).unwrap(), returned(7));
    }
}

#[test]
fn the_clock_stands_still_while_a_host_function_stops_it() {
    let limit = Duration::from_millis(50);
    let host = HostModule::new("h").function("wait", move |caller, (ms,): (i64,)| {
        caller.clock().stop();
        let (_open, never) = mpsc::channel::<()>();
        assert_eq!(never.recv_timeout(Duration::from_millis(ms as u64)), Err(RecvTimeoutError::Timeout));
        caller.refill();
        caller.clock().restart(limit);
        Ok(0)
    });
    let wat = r#"(module (import "h" "wait" (func $w (param i64) (result i32)))
        (func (export "polite") (result i32) (drop (call $w (i64.const 120))) (call $w (i64.const 1)))
        (func (export "rude") (drop (call $w (i64.const 120))) (loop $l (br $l))))"#;
    let mut guest = instance(ENDLESS, wat, vec![host], None);
    assert_eq!(guest.call("polite", &[], Some(limit)).unwrap(), returned(0));
    // After the wait it spins: the restarted clock ends it.
    let begin = Instant::now();
    assert_eq!(guest.call("rude", &[], Some(limit)).unwrap(), Outcome::Cancelled);
    assert!(begin.elapsed() < PATIENCE);
}

#[test]
fn fuel_is_exact_and_the_same_every_time() {
    let mut guest = instance(FUEL, SPIN, vec![], None);
    let mut used = Vec::new();
    for _ in 0..3 {
        assert_eq!(guest.call("count", &[Value::I32(500)], None).unwrap(), returned(7));
        used.push(guest.fuel_used());
    }
    assert!(used[0] > 500 && used.iter().all(|u| *u == used[0]), "{used:?}");
    let with = |fuel| instance(fuel, SPIN, vec![], None).call("count", &[Value::I32(500)], None).unwrap();
    assert_eq!(with(used[0]), returned(7));
    assert_eq!(with(used[0] - 1), Outcome::OutOfFuel);
}

#[test]
fn a_refill_inside_a_host_function_counts_from_there() {
    let wat = r#"(module (import "h" "wait" (func $w)) (func (export "f") (result i32) (local $n i32) (local $m i32)
        (local.set $n (i32.const 100))
        (loop $outer
            (local.set $m (i32.const 50))
            (loop $inner (br_if $inner (local.tee $m (i32.sub (local.get $m) (i32.const 1)))))
            (call $w)
            (br_if $outer (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i32.const 1)))"#;
    let refill = HostModule::new("h").function("wait", |caller, ()| {
        assert!(caller.fuel_used() > 0);
        caller.refill();
        assert_eq!(caller.fuel_used(), 0);
        Ok(())
    });
    // A round takes some 250: enough for one between refills, not for a hundred without.
    assert_eq!(run(1000, wat, vec![refill]), returned(1));
    let no_refill = HostModule::new("h").function("wait", |_, ()| Ok(()));
    assert_eq!(run(1000, wat, vec![no_refill]), Outcome::OutOfFuel);
}

#[test]
fn memory_grows_to_the_limit_and_no_further() {
    let wat = r#"(module (memory (export "memory") 1)
        (func (export "f") (result i32)
            (loop $l (br_if $l (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0))))
            (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 1))
            (memory.size)))"#;
    let mut guest = instance(FUEL, wat, vec![], None);
    assert_eq!(guest.call("f", &[], None).unwrap(), returned(16));
    assert_eq!(guest.memory_pages(), Some(16));
}

#[test]
fn memory_declared_beyond_the_limit_is_refused() {
    let engine = Engine::new(Limits { fuel: FUEL, memory_pages: 16 }).unwrap();
    let load = |pages: u32| {
        let wasm = wat::parse_str(format!(r#"(module (memory (export "memory") {pages}))"#)).unwrap();
        engine.load(&wasm).map(drop)
    };
    load(16).unwrap();
    assert!(matches!(load(17), Err(Error::MemoryTooLarge { pages: 17, limit: 16 })));
}

#[test]
fn native_code_is_refused() {
    let mut wasm = wat::parse_str("(module)").unwrap();
    let engine = Engine::new(Limits { fuel: FUEL, memory_pages: 1 }).unwrap();
    engine.load(&wasm).unwrap();
    // A custom section with the name under which the library looks for compiled code.
    wasm.extend_from_slice(b"\0\x0c\x08wasmedge\x01\x02\x03");
    assert!(matches!(engine.load(&wasm), Err(Error::NativeCode { section }) if section == "wasmedge"));
}

#[test]
fn what_is_not_a_module_is_refused() {
    let engine = Engine::new(Limits { fuel: FUEL, memory_pages: 1 }).unwrap();
    let wasm = wat::parse_str(SPIN).unwrap();
    for bytes in [&b""[..], b"\0asm", b"\x7fELF\x02\x01\x01\0\0\0\0\0", &wasm[..wasm.len() - 3]] {
        assert!(engine.load(bytes).is_err());
    }
    let invalid = wat::parse_str("(module (func (export \"f\") (result i32)))").unwrap();
    assert!(matches!(engine.load(&invalid), Err(Error::Module { step: "validate", .. })));
}

#[test]
fn a_bad_pointer_is_the_host_functions_to_refuse() {
    let host = HostModule::new("h").function("sum", |caller, (pointer, length): (i32, i32)| {
        let memory = caller.memory().ok_or(Halt::Terminate)?;
        Ok(memory.read(pointer, length).map_or(-1, |bytes| bytes.iter().map(|b| i32::from(*b)).sum()))
    });
    let wat = r#"(module (import "h" "sum" (func $s (param i32 i32) (result i32))) (memory (export "memory") 1)
        (data (i32.const 65534) "\01\02")
        (func (export "f") (param i32 i32) (result i32) (call $s (local.get 0) (local.get 1))))"#;
    let mut guest = instance(FUEL, wat, vec![host], None);
    for (pointer, length, sum) in [
        (65534, 2, 3),
        (65536, 0, 0),
        (0, 0, 0),
        (65534, 3, -1),
        (65537, 0, -1),
        (0, 65537, -1),
        (-1, 1, -1),
        (0, -1, -1),
        (-1, -1, -1),
        (i32::MIN, i32::MIN, -1),
        (2, -2, -1),
    ] {
        let outcome = guest.call("f", &[Value::I32(pointer), Value::I32(length)], None).unwrap();
        assert_eq!(outcome, returned(sum), "{pointer} {length}");
    }
}

#[test]
fn a_guest_without_memory_has_none() {
    let host = HostModule::new("h").function("has", |caller, ()| Ok(i32::from(caller.memory().is_some())));
    let wat = r#"(module (import "h" "has" (func $h (result i32))) (func (export "f") (result i32) (call $h)))"#;
    assert_eq!(run(FUEL, wat, vec![host]), returned(0));
}

#[test]
fn host_functions_have_state_and_write_to_the_guest() {
    let mut calls = 0i64;
    let host = HostModule::new("h")
        .function("count", move |_, (by,): (i64,)| {
            calls += by;
            Ok(calls)
        })
        .function("fill", |caller, (at, byte, f, d): (i32, i32, f32, f64)| {
            assert_eq!((f, d), (1.5, -2.5));
            let mut memory = caller.memory().ok_or(Halt::Terminate)?;
            memory.write(at, 4).map_err(|err| Halt::Fail(err.to_string()))?.fill(byte as u8);
            Ok(())
        });
    let wat = r#"(module (import "h" "count" (func $c (param i64) (result i64)))
        (import "h" "fill" (func $w (param i32 i32 f32 f64)))
        (memory (export "memory") 1)
        (func (export "f") (param i64) (result i64) (call $c (local.get 0)))
        (func (export "g") (param i32) (result i32)
            (call $w (local.get 0) (i32.const 0x5a) (f32.const 1.5) (f64.const -2.5)) (i32.load (local.get 0))))"#;
    let mut guest = instance(FUEL, wat, vec![host], None);
    for (by, sum) in [(2, 2), (-5, -3), (i64::MAX, i64::MAX - 3)] {
        let outcome = guest.call("f", &[Value::I64(by)], None).unwrap();
        assert_eq!(outcome, Outcome::Returned(vec![Value::I64(sum)]));
    }
    assert_eq!(guest.call("g", &[Value::I32(100)], None).unwrap(), returned(0x5a5a_5a5a));
    let outcome = guest.call("g", &[Value::I32(65533)], None).unwrap();
    assert!(matches!(outcome, Outcome::Trap(Trap { kind: TrapKind::Host, message }) if message.contains("65533")));
}

#[test]
fn a_panic_in_a_host_function_ends_the_guest_only() {
    let host = HostModule::new("h").function("boom", |_, ()| -> Result<(), Halt> { panic!("on purpose") });
    let wat = r#"(module (import "h" "boom" (func $b)) (func (export "f") (call $b)) (func (export "g")))"#;
    let mut guest = instance(FUEL, wat, vec![host], None);
    assert_eq!(guest.call("f", &[], None).unwrap(), Outcome::HostPanicked("on purpose".into()));
    assert_eq!(guest.call("g", &[], None).unwrap(), Outcome::Returned(vec![]));
}

#[test]
fn a_host_function_terminates_the_guest() {
    let host = HostModule::new("h").function("stop", |_, ()| -> Result<(), Halt> { Err(Halt::Terminate) });
    let wat = r#"(module (import "h" "stop" (func $s)) (func (export "f") (loop $l (call $s) (br $l))))"#;
    assert_eq!(run(FUEL, wat, vec![host]), Outcome::Terminated);
}

#[test]
fn traps_have_their_kinds() {
    let kinds = [
        ("unreachable", TrapKind::Unreachable),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", TrapKind::DivideByZero),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", TrapKind::IntegerOverflow),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", TrapKind::InvalidConversion),
        ("(drop (i32.load (i32.const 65533)))", TrapKind::MemoryOutOfBounds),
        ("(call_indirect (i32.const 0))", TrapKind::BadIndirectCall),
        ("(call_indirect (i32.const 9))", TrapKind::BadIndirectCall),
    ];
    for (code, kind) in kinds {
        let wat = format!(r#"(module (memory 1) (table 1 funcref) (func (export "f") {code}))"#);
        match run(FUEL, &wat, vec![]) {
            Outcome::Trap(trap) => assert!(trap.kind == kind && !trap.message.is_empty(), "{code}: {trap:?}"),
            other => panic!("{code}: {other:?}"),
        }
    }
}

#[test]
fn a_start_function_has_its_fuel_too() {
    let wasm = wat::parse_str("(module (func $s (loop $l (br $l))) (start $s))").unwrap();
    let engine = Engine::new(Limits { fuel: FUEL, memory_pages: 1 }).unwrap();
    let result = engine.load(&wasm).unwrap().instantiate(vec![], None).map(drop);
    assert!(matches!(result, Err(Error::Module { step: "instantiate", .. })), "{result:?}");
}

#[test]
fn requests_that_do_not_fit_the_module_are_errors() {
    let mut guest = instance(FUEL, SPIN, vec![], None);
    assert!(guest.has_function("f") && !guest.has_function("g"));
    assert!(matches!(guest.call("g", &[], None), Err(Error::NoFunction { .. })));
    for args in [&[][..], &[Value::I64(1)], &[Value::I32(1), Value::I32(1)]] {
        assert!(matches!(guest.call("count", args, None), Err(Error::Parameters { .. })));
    }
    let engine = Engine::new(Limits { fuel: FUEL, memory_pages: 1 }).unwrap();
    let wasm = wat::parse_str(r#"(module (import "h" "f" (func (param i32))))"#).unwrap();
    let module = engine.load(&wasm).unwrap();
    let other_type = HostModule::new("h").function("f", |_, (_,): (i64,)| Ok(()));
    for hosts in [vec![], vec![HostModule::new("h")], vec![other_type]] {
        let result = module.instantiate(hosts, None).map(drop);
        assert!(matches!(result, Err(Error::Module { step: "instantiate", .. })), "{result:?}");
    }
}

#[test]
fn an_instance_moves_between_threads() {
    let mut guest = instance(FUEL, SPIN, vec![], None);
    let outcome = thread::spawn(move || guest.call("count", &[Value::I32(3)], None).unwrap()).join().unwrap();
    assert_eq!(outcome, returned(7));
}

const RECURSE: &str = r#"(module (func $r (export "f") (param i64) (result i64)
    (i64.add (i64.const 1) (call $r (i64.add (local.get 0) (i64.const 1))))))"#;

#[test]
fn deep_recursion_runs_out_of_fuel_where_fuel_is_short() {
    let mut guest = instance(FUEL, RECURSE, vec![], None);
    assert_eq!(guest.call("f", &[Value::I64(0)], None).unwrap(), Outcome::OutOfFuel);
}

/// Not a test by itself: what `deep_recursion_ends_the_process_and_nothing_else` runs in a process of its own.
#[test]
#[ignore = "takes memory until there is no more"]
fn child_recurses_for_ever() {
    let mut guest = instance(ENDLESS, RECURSE, vec![], None);
    let outcome = guest.call("f", &[Value::I64(0)], None);
    panic!("it ended by itself: {outcome:?}");
}

#[test]
fn deep_recursion_ends_the_process_and_nothing_else() {
    // The library's stack grows on the heap without a limit of its own. The runner's cgroup is the limit on a device;
    // here it is a limit on the process's data.
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -c 0; ulimit -d 300000; exec \"$0\" --ignored --exact child_recurses_for_ever"])
        .arg(std::env::current_exe().unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    const SIGABRT: i32 = 6;
    assert_eq!(status.signal(), Some(SIGABRT), "{status}");
}

#[test]
fn instances_give_everything_back() {
    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
    let wat = r#"(module (import "h" "n" (func $n)) (memory (export "memory") 1)
        (func (export "f") (call $n) (i32.store (i32.const 0) (i32.const 1))))"#;
    let once = || {
        let ballast = vec![1u8; 20_000];
        let host = HostModule::new("h").function("n", move |_, ()| {
            assert_eq!(ballast[7], 1);
            Ok(())
        });
        assert_eq!(run(FUEL, wat, vec![host]), Outcome::Returned(vec![]));
    };
    (0..20).for_each(|_| once());
    let before = resident_kib();
    (0..1000).for_each(|_| once());
    let grown = resident_kib().saturating_sub(before);
    // The ballast alone would be 20 MB, the guests' pages 4 MB at least.
    assert!(grown < 16_000, "{grown} KiB more after a thousand instances");
}
