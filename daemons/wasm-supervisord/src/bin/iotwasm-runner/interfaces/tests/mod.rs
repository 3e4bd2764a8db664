//! The host functions, called by a real guest in the real engine, with capd's end of the session in a thread.

mod buses;
mod gpio;
mod lifecycle;
mod measure;
mod sensors;
mod session;

use std::{
    fmt::Write as _,
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use iotwasm_payload::interfaces::{INTERFACES, Interface, Val, WASI};
use iotwasm_wasmedge::{Engine, HostModule, Instance, Limits, Outcome, Value};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use wasm_supervisord::protocol::{FromRunner, Setup, ToRunner};

use super::{
    lifecycle::Life,
    modules,
    session::{Peripherals, Shared},
};
use crate::{
    capd::{Capd, table},
    link::Link,
    watchdog::Watchdog,
};

/// Size of the guest's memory, in bytes.
const MEMORY: i64 = 2 * 65_536;
/// Where names are put; below are the tests' own places.
const NAMES: u32 = 32_768;

/// A guest whose exports are its imports.
struct Guest {
    instance: Instance,
    scratch: Arc<Mutex<Vec<u8>>>,
    names: u32,
    capd: Capd,
    /// The supervisor's end of the control socket.
    control: OwnedFd,
}

fn interfaces() -> impl Iterator<Item = &'static Interface> {
    INTERFACES.iter().filter(|interface| interface.module != WASI)
}

/// A module with a function `module.name` for each one that it imports, and `module.name*` that calls it as often as its
/// last argument says, until it fails.
fn wat() -> String {
    let (mut imports, mut functions) = (String::new(), String::new());
    for interface in interfaces() {
        for function in interface.functions {
            let (module, name) = (interface.module, function.name);
            let params: String = function.params.iter().map(|param| format!(" {param}")).collect();
            let gets: String = (0..function.params.len()).map(|n| format!(" local.get {n}")).collect();
            let (ty, id) = (format!("(param{params}) (result i32)"), format!("${module}.{name}"));
            writeln!(imports, "(import {module:?} {name:?} (func {id} {ty}))").unwrap();
            writeln!(functions, "(func (export \"{module}.{name}\") {ty} {gets} call {id})").unwrap();
            writeln!(
                functions,
                "(func (export \"{module}.{name}*\") (param{params} i32) (result i32) (local i32)
                   (block (loop {gets} call {id} local.tee {result} br_if 1
                     local.get {count} i32.const 1 i32.sub local.tee {count} br_if 0))
                   local.get {result})",
                count = function.params.len(),
                result = function.params.len() + 1
            )
            .unwrap();
        }
    }
    format!(
        r#"(module {imports}
            (import "test" "copy" (func $copy (param i32 i32 i32)))
            (memory (export "memory") 2)
            {functions}
            (func (export "copy") (param i32 i32 i32) local.get 0 local.get 1 local.get 2 call $copy))"#
    )
}

/// Copies between the test and the guest's memory.
fn test_module(scratch: &Arc<Mutex<Vec<u8>>>) -> HostModule {
    let scratch = Arc::clone(scratch);
    HostModule::new("test").function("copy", move |caller, (into_guest, pointer, length): (i32, i32, i32)| {
        let (mut scratch, mut memory) = (scratch.lock().unwrap(), caller.memory().unwrap());
        let place = memory.write(pointer, length).unwrap();
        if into_guest == 1 {
            place.copy_from_slice(&scratch);
        } else {
            *scratch = place.to_vec();
        }
        Ok(())
    })
}

fn setup() -> Setup {
    Setup {
        payload: "test".into(),
        command: false,
        wasi: false,
        memory_pages: 2,
        fuel: 1_000_000,
        wake_up_ms: 60_000,
        self_test_ms: 60_000,
        data_bytes: 0,
        file_bytes: 0,
        environment: Default::default(),
        directories: vec![],
        session: true,
        interfaces: interfaces().map(|interface| interface.module.to_owned()).collect(),
        open_files: 0,
    }
}

impl Guest {
    /// Past its claim and its self-test.
    fn new() -> Self {
        let capd = Capd::of(table());
        let session = capd.session();
        let guest = Self::with(capd, session);
        assert_eq!(guest.capd.asked().len(), 1, "the claim");
        guest
    }

    /// The same with this session, which may be another capd's.
    fn with(capd: Capd, session: OwnedFd) -> Self {
        let (link, control) = Link::pair();
        let life = Arc::new(Life::new(link, Arc::new(Watchdog::default()), &setup()));
        let until = Instant::now() + Duration::from_secs(60);
        let peripherals = Shared::new(Peripherals::claim(Arc::clone(&life), session, until).unwrap());
        life.self_test_passed();
        let scratch = Arc::default();
        let mut hosts = modules(&life, &setup(), Some(&peripherals));
        hosts.push(test_module(&scratch));
        let engine = Engine::new(Limits { fuel: 1_000_000, memory_pages: 2 }).unwrap();
        let instance = engine.load(&wat::parse_str(wat()).unwrap()).unwrap().instantiate(hosts, None).unwrap();
        let guest = Self { instance, scratch, names: NAMES, capd, control };
        assert_eq!(guest.heard(), [FromRunner::SelfTestPassed]);
        guest
    }

    /// Call an import: `module.function`, without the first part of the module's name.
    fn call(&mut self, function: &str, args: &[i64]) -> i32 {
        self.repeat(function, args, None)
    }

    /// Call an import many times.
    fn repeat(&mut self, function: &str, args: &[i64], count: Option<i32>) -> i32 {
        let (module, name) = function.split_once('.').unwrap();
        let module = if module == "iotwasm" { module.to_owned() } else { format!("iotwasm_{module}") };
        let interface = interfaces().find(|interface| interface.module == module).unwrap();
        let params = interface.function(name).unwrap().params;
        assert_eq!(params.len(), args.len(), "{function}");
        let value = |(arg, param): (&i64, &Val)| match param {
            // Pointers and lengths of any size: the guest's numbers are unsigned.
            Val::I32 => Value::I32(*arg as i32),
            Val::I64 => Value::I64(*arg),
        };
        let args: Vec<_> = args.iter().zip(params).map(value).chain(count.map(Value::I32)).collect();
        let export = format!("{module}.{name}{}", if count.is_some() { "*" } else { "" });
        match self.instance.call(&export, &args, None).unwrap() {
            Outcome::Returned(values) => match values[..] {
                [Value::I32(number)] => number,
                _ => panic!("{function} gave {values:?}"),
            },
            other => panic!("{function} ended the guest: {other:?}"),
        }
    }

    /// Write into the guest's memory.
    fn put(&mut self, pointer: u32, bytes: &[u8]) {
        *self.scratch.lock().unwrap() = bytes.to_vec();
        self.copy(1, pointer, bytes.len());
    }

    /// Read from the guest's memory.
    fn get(&mut self, pointer: u32, length: usize) -> Vec<u8> {
        self.copy(0, pointer, length);
        self.scratch.lock().unwrap().clone()
    }

    fn copy(&mut self, into_guest: i32, pointer: u32, length: usize) {
        let args = [into_guest, pointer as i32, length as i32].map(Value::I32);
        assert!(matches!(self.instance.call("copy", &args, None).unwrap(), Outcome::Returned(_)));
    }

    fn number(&mut self, pointer: u32) -> u32 {
        u32::from_le_bytes(self.get(pointer, 4).try_into().unwrap())
    }

    /// Put a text somewhere: its pointer and length.
    fn text(&mut self, text: impl AsRef<[u8]>) -> [i64; 2] {
        let (text, pointer) = (text.as_ref(), self.names);
        self.put(pointer, text);
        self.names += text.len() as u32;
        assert!(i64::from(self.names) < MEMORY);
        [pointer.into(), text.len() as i64]
    }

    /// What the supervisor was told since the last time.
    fn heard(&self) -> Vec<FromRunner> {
        let mut packet = [0; 8192];
        let next = || match rustix::net::recv(&self.control, &mut packet[..], RecvFlags::DONTWAIT) {
            Ok((n, _)) => Some(FromRunner::decode(&packet[..n]).unwrap()),
            Err(_) => None,
        };
        std::iter::from_fn(next).collect()
    }

    /// Tell the runner something, as its supervisor does.
    fn tell(&self, message: &ToRunner, fd: Option<OwnedFd>) {
        tell(&self.control, message, fd);
    }

    /// Give it the next session.
    fn renew(&self) {
        self.tell(&ToRunner::Session, Some(self.capd.session()));
    }
}

fn tell(control: &OwnedFd, message: &ToRunner, fd: Option<OwnedFd>) {
    let packet = message.encode().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
    assert!(fds.is_empty() || beside.push(SendAncillaryMessage::ScmRights(&fds)));
    rustix::net::sendmsg(control, &[IoSlice::new(&packet)], &mut beside, SendFlags::empty()).unwrap();
}

/// All arguments of a call.
fn args(parts: &[&[i64]]) -> Vec<i64> {
    parts.concat()
}

#[test]
fn what_the_manifest_does_not_ask_for_is_not_offered() {
    let (link, _control) = Link::pair();
    let life = Arc::new(Life::new(link, Arc::new(Watchdog::default()), &setup()));
    let until = Instant::now() + Duration::from_secs(60);
    let capd = Capd::of(table());
    let peripherals = Shared::new(Peripherals::claim(Arc::clone(&life), capd.session(), until).unwrap());
    let offered = |interfaces: &[&str]| {
        let setup = Setup { interfaces: interfaces.iter().map(|&name| name.to_owned()).collect(), ..setup() };
        let engine = Engine::new(Limits { fuel: 1000, memory_pages: 1 }).unwrap();
        let wat = r#"(module (import "iotwasm_gpio" "drop" (func (param i32) (result i32))))"#;
        let module = engine.load(&wat::parse_str(wat).unwrap()).unwrap();
        module.instantiate(modules(&life, &setup, Some(&peripherals)), None).is_ok()
    };
    assert!(offered(&["iotwasm", "iotwasm_gpio"]));
    assert!(!offered(&["iotwasm", "iotwasm_i2c"]));
}
