//! systemd over D-Bus, to look at: which units must be there before firmware is kept, and how they are.

use iotwasm_kit::{paths, report};
use zbus::Connection;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

use super::bus::{self, Error, Service};
use super::trial::{Condition, Unit};

const SYSTEMD: Service = Service { label: "systemd", name: "org.freedesktop.systemd1" };
const MANAGER: &str = "/org/freedesktop/systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// What the health target requires in every image, by systemd's own unit file: it says nothing about this one.
const ALWAYS: &str = "sysinit.target";

/// A connection to systemd, made when it is needed and again when it broke.
#[derive(Debug)]
pub(super) struct Systemd {
    address: String,
    connection: Option<Connection>,
}

impl Systemd {
    pub(super) fn at(address: &str) -> Self {
        Self { address: address.to_owned(), connection: None }
    }

    /// Every unit that the health target requires, as it is now; or why nobody can tell. An image whose target requires
    /// nothing of its own was put together wrongly, and then nothing says that it is well.
    pub(super) async fn required(&mut self) -> Result<Vec<Unit>, String> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => bus::connect(&self.address).await.map_err(|err| report::chain(&err))?,
        };
        let units = look(&connection).await.map_err(|err| report::chain(&err))?;
        self.connection = Some(connection);
        if units.iter().all(|unit| unit.name == ALWAYS) {
            return Err(format!("{} requires no unit", paths::HEALTH_TARGET));
        }
        Ok(units)
    }
}

async fn look(connection: &Connection) -> Result<Vec<Unit>, Error> {
    let target = load(connection, paths::HEALTH_TARGET).await?;
    let names = SYSTEMD.property(connection, &target, UNIT, "Requires").await?;
    let names = Vec::<String>::try_from(names).map_err(|_| SYSTEMD.odd("Requires"))?;
    let mut units = Vec::new();
    for name in names {
        let path = load(connection, &name).await?;
        let state = text(SYSTEMD.property(connection, &path, UNIT, "ActiveState").await?, "ActiveState")?;
        let start = SYSTEMD.property(connection, &path, UNIT, "ActiveEnterTimestampMonotonic").await?;
        let start = u64::try_from(start).map_err(|_| SYSTEMD.odd("ActiveEnterTimestampMonotonic"))?;
        let condition = match state.as_str() {
            "active" => Condition::Well,
            "failed" => Condition::Failed(state),
            _ => Condition::NotYet(state),
        };
        units.push(Unit { name, condition, start });
    }
    Ok(units)
}

/// The object of a unit.
async fn load(connection: &Connection, name: &str) -> Result<String, Error> {
    let load = (MANAGER, "org.freedesktop.systemd1.Manager", "LoadUnit");
    let path: OwnedObjectPath = SYSTEMD.call(connection, load, &name, bus::CALL).await?;
    Ok(path.to_string())
}

fn text(value: OwnedValue, name: &'static str) -> Result<String, Error> {
    match bus::inner(&value) {
        Value::Str(text) => Ok(text.to_string()),
        _ => Err(SYSTEMD.odd(name)),
    }
}
