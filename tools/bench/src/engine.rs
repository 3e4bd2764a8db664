//! What the engine costs: a host call, instructions with and without fuel, loading a module.

use std::{error::Error, time::Instant};

use iotwasm_wasmedge::{Engine, HostModule, Limits, Outcome, Value};

use qemu_tests::row::{Row, median};

const CALLS: i32 = 100_000;

const GUEST: &str = r#"
(module
  (import "bench" "nothing" (func $nothing (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "calls") (param $n i32) (result i32)
    (local $i i32)
    (loop $again
      (drop (call $nothing (local.get $i)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_s (local.get $i) (local.get $n))))
    (local.get $i))
  (func (export "no_calls") (param $n i32) (result i32)
    (local $i i32)
    (loop $again
      (drop (local.get $i))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_s (local.get $i) (local.get $n))))
    (local.get $i)))
"#;

/// Measure with so many rounds each.
pub(crate) fn run(rounds: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let wasm = wat::parse_str(GUEST)?;
    let engine = Engine::new(Limits { fuel: u64::from(u32::MAX), memory_pages: 1 })?;
    let host = || HostModule::new("bench").function("nothing", |_, (x,): (i32,)| Ok(x));

    let mut loads = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        let _instance = engine.load(&wasm)?.instantiate(vec![host()], None)?;
        loads.push(start.elapsed().as_secs_f64() * 1000.0);
    }

    let mut instance = engine.load(&wasm)?.instantiate(vec![host()], None)?;
    let mut time = |name: &str| -> Result<f64, Box<dyn Error>> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let start = Instant::now();
            match instance.call(name, &[Value::I32(CALLS)], None)? {
                Outcome::Returned(_) => times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)),
                other => return Err(format!("the guest ended with {other:?}").into()),
            }
        }
        Ok(median(times))
    };
    let with = time("calls")?;
    let without = time("no_calls")?;
    Ok(vec![
        Row::plain("load and instantiate a small module", median(loads), "ms"),
        Row::plain("host call, with fuel measured", with - without, "ns")
            .beside("a turn of the same loop without it", without),
    ])
}
