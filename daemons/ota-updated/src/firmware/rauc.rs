//! RAUC over D-Bus: it verifies bundles by its own chain, writes them to the other slot, and is alone with the bootloader.
//! It is started when it is asked, so it is asked only when there is something to do.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use iotwasm_firmware::Slot;
use iotwasm_firmware::state::rauc_name;
use zbus::message::Type as Kind;
use zbus::zvariant::{OwnedValue, Value};
use zbus::{Connection, MatchRule, MessageStream};

use super::bus::{self, Service};

pub use super::bus::Error;

const RAUC: Service = Service { label: "RAUC", name: "de.pengutronix.rauc" };
const INTERFACE: &str = "de.pengutronix.rauc.Installer";
const PATH: &str = "/";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// How long RAUC may take to read and verify a bundle's signature through the relay, mirrors that stall included.
const INSPECT: Duration = Duration::from_secs(600);
/// Pause between two attempts at a RAUC that is busy with something else: it is a moment longer than it says itself.
const BUSY: Duration = Duration::from_millis(200);
/// How long it may be busy before that is an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Signals that wait to be read.
const SIGNALS: usize = 64;

/// What RAUC says of a bundle whose signature it has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Which devices may take it.
    pub compatible: String,
    /// Its version.
    pub version: String,
}

/// What is heard of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is so far, in percent, and does this.
    Progress(i32, String),
    /// It has ended; 0 is success.
    Completed(i32),
    /// RAUC ended, or the bus.
    Gone,
}

/// A connection to RAUC.
#[derive(Debug)]
pub struct Rauc {
    connection: Connection,
}

impl Rauc {
    /// Connects to the bus; RAUC is started by the first call.
    ///
    /// # Errors
    ///
    /// If there is no bus.
    pub async fn connect(address: &str) -> Result<Self, Error> {
        Ok(Self { connection: bus::connect(address).await? })
    }

    /// The slot that the next boot goes to.
    ///
    /// # Errors
    ///
    /// If it cannot be asked, or knows none.
    pub async fn primary(&self) -> Result<String, Error> {
        self.call("GetPrimary", &(), bus::CALL).await
    }

    /// Whether the next boot goes to this slot.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    pub async fn is_next(&self, slot: Slot) -> Result<bool, Error> {
        Ok(self.primary().await? == rauc_name(slot))
    }

    /// `good`: the slot is the first of the boot order from now on. `active`: the next boot, and only that, goes to it.
    ///
    /// # Errors
    ///
    /// If it cannot be done.
    pub async fn mark(&self, state: &str, slot: &str) -> Result<(), Error> {
        let _: (String, String) = self.call("Mark", &(state, slot), bus::CALL).await?;
        Ok(())
    }

    /// Has a bundle's signature verified.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if RAUC does not accept it.
    pub async fn inspect(&self, url: &str) -> Result<Inspected, Error> {
        let args: HashMap<&str, Value<'_>> = HashMap::new();
        let info: HashMap<String, OwnedValue> = self.call("InspectBundle", &(url, args), INSPECT).await?;
        let text = |key| bus::text_of(&info, "update", key).ok_or_else(|| RAUC.odd("InspectBundle"));
        Ok(Inspected { compatible: text("compatible")?, version: text("version")? })
    }

    /// Orders an installation; its news follow.
    ///
    /// # Errors
    ///
    /// If it does not begin.
    pub async fn install(&self, url: &str) -> Result<Installation, Error> {
        let fail = |err| Error::Call { service: RAUC.label, method: "InstallBundle", err: Box::new(err) };
        // Signals count only from the very process that is asked: any other on the bus may send some as well.
        let owner: String = Service { label: "the system bus", name: "org.freedesktop.DBus" }
            .call(
                &self.connection,
                ("/org/freedesktop/DBus", "org.freedesktop.DBus", "GetNameOwner"),
                &RAUC.name,
                bus::CALL,
            )
            .await?;
        let from_rauc = MatchRule::builder().msg_type(Kind::Signal).sender(owner.clone()).map_err(fail)?.build();
        let from_bus = MatchRule::builder()
            .msg_type(Kind::Signal)
            .sender("org.freedesktop.DBus")
            .and_then(|rule| rule.member("NameOwnerChanged")?.arg(0, RAUC.name))
            .map_err(fail)?
            .build();
        let listen = async {
            let rauc = MessageStream::for_match_rule(from_rauc, &self.connection, Some(SIGNALS)).await?;
            let names = MessageStream::for_match_rule(from_bus, &self.connection, Some(SIGNALS)).await?;
            Ok((rauc, names))
        };
        let (rauc, names) = match tokio::time::timeout(bus::CALL, listen).await {
            Ok(streams) => streams.map_err(fail)?,
            Err(_) => return Err(Error::Timeout { service: "the system bus", method: "AddMatch", limit: bus::CALL }),
        };
        let args: HashMap<&str, Value<'_>> = HashMap::new();
        let () = self.call("InstallBundle", &(url, args), bus::CALL).await?;
        Ok(Installation { rauc, names, owner })
    }

    /// What went wrong last, in RAUC's words.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    pub async fn last_error(&self) -> Result<String, Error> {
        let value = RAUC.property(&self.connection, PATH, INTERFACE, "LastError").await?;
        String::try_from(value).map_err(|_| RAUC.odd("LastError"))
    }

    /// Calls a method, again and again while RAUC is busy with the end of another.
    async fn call<B, R>(&self, method: &'static str, body: &B, limit: Duration) -> Result<R, Error>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType + Sync,
        R: serde::de::DeserializeOwned + zbus::zvariant::Type,
    {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            match RAUC.call(&self.connection, (PATH, INTERFACE, method), body, limit).await {
                Err(err) if is_busy(&err) && tokio::time::Instant::now() < end => tokio::time::sleep(BUSY).await,
                other => return other,
            }
        }
    }
}

/// Whether RAUC refused because it does something else.
#[must_use]
pub fn is_busy(err: &Error) -> bool {
    matches!(err, Error::Refused { message, .. } if message.to_ascii_lowercase().contains("already processing"))
}

/// An installation under way.
#[derive(Debug)]
pub struct Installation {
    rauc: MessageStream,
    names: MessageStream,
    owner: String,
}

impl Installation {
    /// The next news.
    pub async fn next(&mut self) -> News {
        loop {
            let heard = tokio::select! {
                // What RAUC said last comes before the news that it has ended.
                biased;
                message = self.rauc.next() => self.said(message),
                message = self.names.next() => self.renamed(message),
            };
            if let Some(news) = heard {
                return news;
            }
        }
    }

    fn said(&self, message: Option<zbus::Result<zbus::Message>>) -> Option<News> {
        let Some(Ok(message)) = message else { return Some(News::Gone) };
        let header = message.header();
        if header.sender().is_none_or(|sender| sender.as_str() != self.owner) {
            return None;
        }
        let member = header.member().map(|member| member.as_str().to_owned());
        match (header.interface().map(|name| name.as_str()), member.as_deref()) {
            (Some(INTERFACE), Some("Completed")) => message.body().deserialize::<i32>().ok().map(News::Completed),
            (Some(PROPERTIES), Some("PropertiesChanged")) => {
                let body = message.body();
                let changed = body.deserialize::<(String, HashMap<String, OwnedValue>, Vec<String>)>().ok()?;
                let progress = changed.1.get("Progress")?.try_clone().ok()?;
                let (percent, text, _) = <(i32, String, i32)>::try_from(progress).ok()?;
                Some(News::Progress(percent, text))
            }
            _ => None,
        }
    }

    fn renamed(&self, message: Option<zbus::Result<zbus::Message>>) -> Option<News> {
        let Some(Ok(message)) = message else { return Some(News::Gone) };
        let (_, old, _): (String, String, String) = message.body().deserialize().ok()?;
        (old == self.owner).then_some(News::Gone)
    }
}
