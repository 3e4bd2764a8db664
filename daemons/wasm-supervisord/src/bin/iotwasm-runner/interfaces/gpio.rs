//! The module `iotwasm_gpio`: wasi-gpio's digital pins, lowered. A granted line is leased when the guest gets it; reading
//! and setting it is then one system call on the descriptor that came with the lease.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use gpiocdev_uapi::v2::{LineValues, get_line_values, set_line_values};
use iotwasm_payload::interfaces::GPIO;
use iotwasm_session::{Direction, Kind, Reply, Request, Why};
use iotwasm_wasmedge::{Caller, Halt, HostModule, Memory};
use rustix::io::Errno;

use super::{
    lifecycle::Woken,
    memory,
    number::{self, Outcome, returned},
    session::{Peripherals, Place, Shared},
};

/// Flags of `get`.
mod flag {
    pub(super) const INPUT: i32 = 1;
    pub(super) const OUTPUT: i32 = 2;
    pub(super) const ACTIVE: i32 = 4;
    pub(super) const INACTIVE: i32 = 8;
}

/// Edges of `watch` and of an event; the kernel's own numbers for the latter.
const RISING: i32 = 1;
const FALLING: i32 = 2;
/// Length of the kernel's `struct gpio_v2_line_event`, in bytes.
const KERNEL_EVENT: usize = 48;
/// Length of an event for the guest, in bytes.
const EVENT: usize = 24;

/// A line that the guest has got.
#[derive(Debug)]
pub(super) struct Pin {
    output: bool,
    /// Bits of the edges that are watched.
    edges: i32,
    /// The lease; none if it ended with its session, until the pin is next used.
    line: Option<File>,
}

impl Pin {
    /// Close what came over the session.
    pub(super) fn release(&mut self) {
        self.line = None;
    }

    /// Its descriptor, to wait for events.
    pub(super) fn line(&self) -> Option<BorrowedFd<'_>> {
        self.line.as_ref().map(AsFd::as_fd)
    }
}

/// The module.
pub(super) fn module(shared: &Shared) -> HostModule {
    let [get_, read_, set, mode_, watch_, next, drop_] = [(); 7].map(|()| shared.clone());
    HostModule::new(GPIO)
        .function("get", move |caller, (label, length, flags, pin_out): (i32, i32, i32, i32)| {
            let got = |mut memory: Memory<'_>| {
                memory::number_place(&mut memory, pin_out)?;
                let place = get(&mut get_.lock(), memory::name(&memory, label, length)?, flags)?;
                memory::put_number(&mut memory, pin_out, place.handle())
            };
            Ok(returned(memory::of(caller).and_then(got)))
        })
        .function("read", move |caller, (pin, state_out): (i32, i32)| {
            let read = |mut memory: Memory<'_>| {
                memory::number_place(&mut memory, state_out)?;
                let active = read(&mut read_.lock(), pin)?;
                memory::put_number(&mut memory, state_out, active.into())
            };
            Ok(returned(memory::of(caller).and_then(read)))
        })
        .function("set_state", move |_, (pin, state): (i32, i32)| Ok(returned(set_state(&mut set.lock(), pin, state))))
        .function("set_pin_mode", move |_, (pin, mode): (i32, i32)| {
            Ok(returned(set_mode(&mut mode_.lock(), pin, mode)))
        })
        .function("watch", move |_, (pin, edges): (i32, i32)| Ok(returned(watch(&mut watch_.lock(), pin, edges))))
        .function("next_event", move |caller, (pin, milliseconds, event_out): (i32, i64, i32)| {
            next_event(&next, caller, pin, milliseconds, event_out)
        })
        .function("drop", move |_, (pin,): (i32,)| Ok(returned(put_back(&mut drop_.lock(), pin))))
}

/// Get a line, in the mode that the flags say.
fn get(peripherals: &mut Peripherals, label: &str, flags: i32) -> Outcome<Place> {
    use flag::{ACTIVE, INACTIVE, INPUT, OUTPUT};
    if flags & !(INPUT | OUTPUT | ACTIVE | INACTIVE) != 0 {
        return Err(number::BAD_ARGUMENT);
    }
    let Some(place) = Place::find(&peripherals.table().lines, |line| line.name == label) else {
        return Err(peripherals.denied(Kind::Gpio, label, Why::Name));
    };
    let line = &peripherals.table().lines[place.index()];
    let output = match flags & (INPUT | OUTPUT) {
        INPUT => false,
        OUTPUT => true,
        0 if line.input != line.output => line.output,
        _ => return Err(number::BAD_ARGUMENT),
    };
    let level = match flags & (ACTIVE | INACTIVE) {
        0 => None,
        ACTIVE if output => Some(true),
        INACTIVE if output => Some(false),
        _ => return Err(number::BAD_ARGUMENT),
    };
    allow(peripherals, place, output)?;
    if peripherals.pins[place.index()].is_some() {
        turn(peripherals, place, output, level)?;
    } else {
        let direction = if output { Direction::Out(level) } else { Direction::In };
        let line = open(peripherals, place, direction)?;
        peripherals.pins[place.index()] = Some(Pin { output, edges: 0, line: Some(line) });
    }
    Ok(place)
}

/// Whether a line may be used this way; a denial if not.
fn allow(peripherals: &mut Peripherals, place: Place, output: bool) -> Outcome {
    let line = &peripherals.table().lines[place.index()];
    if if output { line.output } else { line.input } {
        return Ok(());
    }
    let label = line.name.clone();
    Err(peripherals.denied(Kind::Gpio, &label, Why::Mode))
}

/// Lease a line.
fn open(peripherals: &mut Peripherals, place: Place, direction: Direction) -> Outcome<File> {
    let request = Request::OpenLine { line: place.wire(), direction };
    match peripherals.ask_for_descriptors(&request)? {
        (Reply::Done, mut descriptors) if descriptors.len() == 1 => {
            descriptors.pop().map(File::from).ok_or(number::UNAVAILABLE)
        }
        _ => Err(peripherals.broken()),
    }
}

/// The place of a pin that the guest has got.
fn got(peripherals: &Peripherals, pin: i32) -> Outcome<Place> {
    let place = Place::of_handle(pin, peripherals.pins.len())?;
    peripherals.pins[place.index()].as_ref().map(|_| place).ok_or(number::BAD_ARGUMENT)
}

/// The pin, leased: a lease that ended with its session is made again, as the line stands.
fn leased(peripherals: &mut Peripherals, place: Place) -> Outcome<&mut Pin> {
    let Some(pin) = &peripherals.pins[place.index()] else { return Err(number::BAD_ARGUMENT) };
    if pin.line.is_none() {
        let (output, edges) = (pin.output, pin.edges);
        let line = open(peripherals, place, if output { Direction::Out(None) } else { Direction::In })?;
        if edges != 0
            && let Err(number) = order_watch(peripherals, place, edges)
        {
            // Whole or not at all: it is leased again the next time.
            let _ = peripherals.order(&Request::CloseLine { line: place.wire() });
            return Err(number);
        }
        if let Some(pin) = &mut peripherals.pins[place.index()] {
            pin.line = Some(line);
        }
    }
    peripherals.pins[place.index()].as_mut().ok_or(number::BAD_ARGUMENT)
}

/// The line itself, for one system call.
fn line(peripherals: &mut Peripherals, place: Place) -> Outcome<&File> {
    leased(peripherals, place)?.line.as_ref().ok_or(number::UNAVAILABLE)
}

fn read(peripherals: &mut Peripherals, pin: i32) -> Outcome<bool> {
    let place = got(peripherals, pin)?;
    let mut values = LineValues { bits: 0, mask: 1 };
    let read = get_line_values(line(peripherals, place)?, &mut values);
    read.map(|()| values.bits & 1 == 1).map_err(|err| failed(peripherals, place, &err))
}

fn set_state(peripherals: &mut Peripherals, pin: i32, state: i32) -> Outcome {
    let place = got(peripherals, pin)?;
    let values = LineValues { bits: u64::from(state == 1), mask: 1 };
    if !(0..=1).contains(&state) {
        return Err(number::BAD_ARGUMENT);
    }
    if !is_output(peripherals, place) {
        // Counted as a denial where it could never be one; else it only has to be turned round first.
        allow(peripherals, place, true)?;
        return Err(number::MODE_NOT_ALLOWED);
    }
    let set = set_line_values(line(peripherals, place)?, &values);
    set.map_err(|err| failed(peripherals, place, &err))
}

fn is_output(peripherals: &Peripherals, place: Place) -> bool {
    peripherals.pins[place.index()].as_ref().is_some_and(|pin| pin.output)
}

/// What a failed system call on a line means. One whose chip has gone is given back, and leased again at its next use:
/// the chip may be back by then.
fn failed(peripherals: &mut Peripherals, place: Place, err: &gpiocdev_uapi::Error) -> i32 {
    let gpiocdev_uapi::Error::Os(errno) = err else { return number::HARDWARE_FAULT };
    fault(peripherals, place, Errno::from_raw_os_error(errno.0))
}

fn fault(peripherals: &mut Peripherals, place: Place, errno: Errno) -> i32 {
    if !matches!(errno, Errno::NODEV | Errno::NXIO) {
        return number::HARDWARE_FAULT;
    }
    if let Some(pin) = &mut peripherals.pins[place.index()] {
        pin.release();
    }
    // If capd does not know of the lease any more, all the better.
    let _ = peripherals.order(&Request::CloseLine { line: place.wire() });
    number::GONE
}

fn set_mode(peripherals: &mut Peripherals, pin: i32, mode: i32) -> Outcome {
    let place = got(peripherals, pin)?;
    let output = match mode {
        flag::INPUT => false,
        flag::OUTPUT => true,
        _ => return Err(number::BAD_ARGUMENT),
    };
    allow(peripherals, place, output)?;
    turn(peripherals, place, output, None)
}

/// Turn a pin round, if it is not so already.
fn turn(peripherals: &mut Peripherals, place: Place, output: bool, level: Option<bool>) -> Outcome {
    if leased(peripherals, place)?.output == output && level.is_none() {
        return Ok(());
    }
    let direction = if output { Direction::Out(level) } else { Direction::In };
    peripherals.order(&Request::SetDirection { line: place.wire(), direction })?;
    if let Some(pin) = &mut peripherals.pins[place.index()] {
        // Edges of an output are not watched, nor those of what was one until now.
        (pin.output, pin.edges) = (output, 0);
    }
    Ok(())
}

fn watch(peripherals: &mut Peripherals, pin: i32, edges: i32) -> Outcome {
    let place = got(peripherals, pin)?;
    if edges & !(RISING | FALLING) != 0 {
        return Err(number::BAD_ARGUMENT);
    }
    if is_output(peripherals, place) {
        allow(peripherals, place, false)?;
        return Err(number::MODE_NOT_ALLOWED);
    }
    leased(peripherals, place)?;
    order_watch(peripherals, place, edges)?;
    if let Some(pin) = &mut peripherals.pins[place.index()] {
        pin.edges = edges;
    }
    Ok(())
}

fn order_watch(peripherals: &mut Peripherals, place: Place, edges: i32) -> Outcome {
    let (rising, falling) = (edges & RISING != 0, edges & FALLING != 0);
    peripherals.order(&Request::Watch { line: place.wire(), rising, falling })
}

/// Give a pin back.
fn put_back(peripherals: &mut Peripherals, pin: i32) -> Outcome {
    let place = got(peripherals, pin)?;
    let pin = peripherals.pins[place.index()].take();
    if pin.is_none_or(|pin| pin.line.is_none()) {
        return Ok(());
    }
    match peripherals.order(&Request::CloseLine { line: place.wire() }) {
        // A lease ends with its session, too.
        Err(number::UNAVAILABLE) => Ok(()),
        other => other,
    }
}

/// Wait for an event, as the guest waits otherwise: no clock runs meanwhile.
fn next_event(
    shared: &Shared,
    caller: &mut Caller<'_>,
    pin: i32,
    milliseconds: i64,
    event_out: i32,
) -> Result<i32, Halt> {
    let peripherals = &mut *shared.lock();
    let place = memory::of(caller)
        .and_then(|mut memory| memory::place(&mut memory, event_out, EVENT as i32).map(drop))
        .and_then(|()| got(peripherals, pin));
    let (place, milliseconds) = match (place, u64::try_from(milliseconds)) {
        (Ok(place), Ok(milliseconds)) => (place, milliseconds),
        (Err(number), _) => return Ok(number),
        (_, Err(_)) => return Ok(number::BAD_ARGUMENT),
    };
    let life = Arc::clone(peripherals.life());
    if life.is_stopping() {
        return Ok(number::STOPPING);
    }
    let until = Instant::now() + Duration::from_millis(milliseconds);
    let event = life.rest(caller, || wait_for_event(peripherals, place, until))?;
    let put = |event: [u8; EVENT]| {
        let mut memory = memory::of(caller)?;
        memory::place(&mut memory, event_out, EVENT as i32)?.copy_from_slice(&event);
        Ok(())
    };
    Ok(returned(event.and_then(put)))
}

fn wait_for_event(peripherals: &mut Peripherals, place: Place, until: Instant) -> Result<Outcome<[u8; EVENT]>, Halt> {
    loop {
        // Without a session, one is waited for here: a guest that asks again at once must not spin.
        let pin = match leased(peripherals, place) {
            Ok(_) => Some(place.index()),
            Err(number::UNAVAILABLE) => None,
            Err(number) => return Ok(Err(number)),
        };
        match peripherals.pause(until, pin)? {
            Woken::Line => return Ok(take_event(peripherals, place)),
            Woken::Stopping => return Ok(Err(number::STOPPING)),
            Woken::Time if pin.is_some() => return Ok(Err(number::TIMED_OUT)),
            // Events may have been missed between two sessions, so the guest is told of the end of one.
            Woken::Time | Woken::SessionClosed => return Ok(Err(number::UNAVAILABLE)),
            Woken::Session(()) => {}
        }
    }
}

fn take_event(peripherals: &mut Peripherals, place: Place) -> Outcome<[u8; EVENT]> {
    let mut event = [0; KERNEL_EVENT];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(line_of(peripherals, place)?, &mut event));
    match read {
        Ok(KERNEL_EVENT) => Ok(decode(&event)),
        Ok(_) => Err(number::HARDWARE_FAULT),
        Err(errno) => Err(fault(peripherals, place, errno)),
    }
}

fn line_of(peripherals: &Peripherals, place: Place) -> rustix::io::Result<BorrowedFd<'_>> {
    peripherals.pins[place.index()].as_ref().and_then(Pin::line).ok_or(Errno::NODEV)
}

/// The kernel's event as the guest gets it: time (`CLOCK_MONOTONIC`) and edge are in the same places; then the number
/// among the line's events instead of the line's offset on the chip, and nothing else.
fn decode(event: &[u8; KERNEL_EVENT]) -> [u8; EVENT] {
    let mut out = [0; EVENT];
    out[..12].copy_from_slice(&event[..12]);
    out[12..16].copy_from_slice(&event[20..24]);
    out
}
