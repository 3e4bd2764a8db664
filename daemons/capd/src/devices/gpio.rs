//! Lines: found by chip label and line name, leased through the GPIO character device (version 2 of its interface).

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use gpiocdev_uapi::{
    self as uapi, Name,
    v2::{LineConfig, LineFlags, LineRequest, LineValues, Offsets},
};
use iotwasm_grant::board::{Bias, Drive, Line, LineId};
use iotwasm_session::Direction;

use super::{Fault, LineLease};

/// Edges that the kernel keeps for a payload that does not read them; then the oldest go.
const EDGES: u32 = 64;
/// What `gpioinfo` shows as the line's user.
const CONSUMER: &[u8] = b"iotwasm";

/// A leased line.
#[derive(Debug)]
pub struct Lease {
    file: File,
    line: Line,
    what: String,
}

/// The chip that has a line, opened, and the line's offset.
pub(super) fn find(dev: &Path, line: &Line) -> Result<(File, u32), Fault> {
    let what = words(line);
    let failed = |err| Fault::of(words(line), err);
    let mut found = None;
    for entry in std::fs::read_dir(dev).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with("gpiochip")) {
            continue;
        }
        let chip = OpenOptions::new().read(true).write(true).open(entry.path()).map_err(failed)?;
        let info = uapi::v2::get_chip_info(&chip).map_err(|err| failed(io_error(&err)))?;
        if info.label.as_os_str() != line.chip.as_str() {
            continue;
        }
        for offset in 0..info.num_lines {
            let is_it = match &line.line {
                LineId::Offset(wanted) => *wanted == offset,
                LineId::Name(wanted) => {
                    let info = uapi::v2::get_line_info(&chip, offset).map_err(|err| failed(io_error(&err)))?;
                    info.name.as_os_str() == wanted.as_str()
                }
            };
            // The descriptor that was looked at: by its path another chip may be found a moment later.
            if is_it && found.replace((chip.try_clone().map_err(failed)?, offset)).is_some() {
                return Err(Fault::Ambiguous { what });
            }
        }
    }
    found.ok_or(Fault::Gone { what })
}

impl Lease {
    pub(super) fn take(dev: &Path, line: &Line, direction: Direction) -> Result<Self, Fault> {
        let what = words(line);
        let (chip, offset) = find(dev, line)?;
        // An output that keeps its level is asked for as it stands first, and turned round when the level is known.
        let config = match direction {
            Direction::Out(None) => LineConfig { flags: active(line), ..LineConfig::default() },
            known => config(line, known),
        };
        let request = LineRequest {
            offsets: Offsets::from_slice(&[offset]),
            consumer: Name::from_bytes(CONSUMER),
            config,
            num_lines: 1,
            event_buffer_size: EDGES,
            ..LineRequest::default()
        };
        let file = uapi::v2::get_line(&chip, request).map_err(|err| Fault::of(&*what, io_error(&err)))?;
        let lease = Self { file, line: line.clone(), what };
        if direction == Direction::Out(None) {
            lease.set_direction(direction)?;
        }
        Ok(lease)
    }

    fn level(&self) -> Result<bool, Fault> {
        let mut values = LineValues { bits: 0, mask: 1 };
        uapi::v2::get_line_values(&self.file, &mut values).map_err(|err| self.fault(&err))?;
        Ok(values.get(0).unwrap_or_default())
    }

    fn configure(&self, config: LineConfig) -> Result<(), Fault> {
        uapi::v2::set_line_config(&self.file, config).map_err(|err| self.fault(&err))
    }

    fn fault(&self, err: &uapi::Error) -> Fault {
        Fault::of(&*self.what, io_error(err))
    }
}

impl LineLease for Lease {
    fn file(&self) -> &File {
        &self.file
    }

    fn set_direction(&self, direction: Direction) -> Result<(), Fault> {
        let known = match direction {
            Direction::Out(None) => Direction::Out(Some(self.level()?)),
            known => known,
        };
        self.configure(config(&self.line, known))
    }

    fn watch(&self, rising: bool, falling: bool) -> Result<(), Fault> {
        let mut config = config(&self.line, Direction::In);
        config.flags.set(LineFlags::EDGE_RISING, rising);
        config.flags.set(LineFlags::EDGE_FALLING, falling);
        self.configure(config)
    }

    fn set(&self, active: bool) -> Result<(), Fault> {
        uapi::v2::set_line_values(&self.file, &LineValues::from_slice(&[active])).map_err(|err| self.fault(&err))
    }
}

fn active(line: &Line) -> LineFlags {
    if line.active_low { LineFlags::ACTIVE_LOW } else { LineFlags::empty() }
}

/// The board's way of using a line in this direction.
fn config(line: &Line, direction: Direction) -> LineConfig {
    let bias = match line.bias {
        Bias::AsIs => LineFlags::empty(),
        Bias::Disabled => LineFlags::BIAS_DISABLED,
        Bias::PullUp => LineFlags::BIAS_PULL_UP,
        Bias::PullDown => LineFlags::BIAS_PULL_DOWN,
    };
    let mut config = LineConfig { flags: active(line) | bias, ..LineConfig::default() };
    match direction {
        Direction::In => config.flags |= LineFlags::INPUT,
        Direction::Out(level) => {
            config.flags |= LineFlags::OUTPUT
                | match line.drive {
                    Drive::PushPull => LineFlags::empty(),
                    Drive::OpenDrain => LineFlags::OPEN_DRAIN,
                    Drive::OpenSource => LineFlags::OPEN_SOURCE,
                };
            config.add_values(&LineValues::from_slice(&[level.unwrap_or_default()]));
        }
    }
    config
}

fn words(line: &Line) -> String {
    match &line.line {
        LineId::Offset(offset) => format!("line {offset} of {}", line.chip),
        LineId::Name(name) => format!("line {name:?} of {}", line.chip),
    }
}

fn io_error(err: &uapi::Error) -> io::Error {
    match err {
        uapi::Error::Os(errno) => io::Error::from_raw_os_error(errno.0),
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iotwasm_grant::Direction as Granted;

    fn line() -> Line {
        Line {
            chip: "chip".into(),
            line: LineId::Name("l".into()),
            direction: Granted::Both,
            active_low: true,
            bias: Bias::PullUp,
            drive: Drive::OpenDrain,
        }
    }

    #[test]
    fn the_boards_bias_and_drive_hold_in_every_configuration() {
        let input = config(&line(), Direction::In);
        assert_eq!(input.flags, LineFlags::INPUT | LineFlags::ACTIVE_LOW | LineFlags::BIAS_PULL_UP);
        assert_eq!(input.num_attrs, 0);
        let output = config(&line(), Direction::Out(Some(true)));
        let flags = LineFlags::OUTPUT | LineFlags::ACTIVE_LOW | LineFlags::BIAS_PULL_UP | LineFlags::OPEN_DRAIN;
        assert_eq!(output.flags, flags);
        assert_eq!(output.num_attrs, 1);
    }

    #[test]
    fn a_chip_that_is_not_there_is_gone_and_not_a_failure() {
        let dev = tempfile::tempdir().unwrap();
        assert!(matches!(find(dev.path(), &line()), Err(Fault::Gone { .. })));
    }
}
