//! Calls on the system bus, each bounded in time. What RAUC and systemd have in common; knows neither.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::Connection;
use zbus::zvariant::{DynamicType, OwnedValue, Type, Value};

/// How long a call may take that waits for nothing but the other program, its start included.
pub(super) const CALL: Duration = Duration::from_secs(30);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bus cannot be reached.
    #[error("could not reach the system bus at {address}")]
    Connect {
        /// Its address.
        address: String,
        /// The cause.
        #[source]
        err: Box<zbus::Error>,
    },
    /// The other program could not be started, went away, or may not be called.
    #[error("{service} could not be asked {method}")]
    Call {
        /// Whom.
        service: &'static str,
        /// What.
        method: &'static str,
        /// The cause.
        #[source]
        err: Box<zbus::Error>,
    },
    /// No reply in time.
    #[error("{service} did not reply to {method} within {} s", limit.as_secs())]
    Timeout {
        /// Whom.
        service: &'static str,
        /// What.
        method: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The other program answered with an error of its own.
    #[error("{service} refused {method}: {message}")]
    Refused {
        /// Whom.
        service: &'static str,
        /// What.
        method: &'static str,
        /// What it said.
        message: String,
    },
    /// The reply is no reply.
    #[error("{service} replied to {method} with something else than expected")]
    Reply {
        /// Whom.
        service: &'static str,
        /// What.
        method: &'static str,
    },
}

/// A program on the bus.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    /// For people.
    pub(super) label: &'static str,
    /// Its name.
    pub(super) name: &'static str,
}

/// Connects to the bus.
pub(super) async fn connect(address: &str) -> Result<Connection, Error> {
    let build = async { zbus::connection::Builder::address(address)?.build().await };
    match tokio::time::timeout(CALL, build).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(err)) => Err(Error::Connect { address: address.to_owned(), err: Box::new(err) }),
        Err(_) => Err(Error::Timeout { service: "the system bus", method: "Hello", limit: CALL }),
    }
}

impl Service {
    /// Calls a method.
    pub(super) async fn call<B, R>(
        self,
        connection: &Connection,
        (path, interface, method): (&str, &'static str, &'static str),
        body: &B,
        limit: Duration,
    ) -> Result<R, Error>
    where
        B: Serialize + DynamicType + Sync,
        R: DeserializeOwned + Type,
    {
        let service = self.label;
        let call = connection.call_method(Some(self.name), path, Some(interface), method, body);
        let reply = match tokio::time::timeout(limit, call).await {
            Err(_) => return Err(Error::Timeout { service, method, limit }),
            Ok(Err(zbus::Error::MethodError(name, message, _))) if !name.starts_with("org.freedesktop.DBus.Error.") => {
                return Err(Error::Refused { service, method, message: message.unwrap_or_else(|| name.to_string()) });
            }
            Ok(Err(err)) => return Err(Error::Call { service, method, err: Box::new(err) }),
            Ok(Ok(reply)) => reply,
        };
        reply.body().deserialize().map_err(|_| Error::Reply { service, method })
    }

    /// Reads a property.
    pub(super) async fn property(
        self,
        connection: &Connection,
        path: &str,
        interface: &'static str,
        name: &'static str,
    ) -> Result<OwnedValue, Error> {
        let get = (path, "org.freedesktop.DBus.Properties", "Get");
        self.call(connection, get, &(interface, name), CALL).await
    }

    /// A property that is no reply of the type it should have.
    pub(super) fn odd(self, method: &'static str) -> Error {
        Error::Reply { service: self.label, method }
    }
}

/// What is inside a value, however often it was wrapped.
pub(super) fn inner<'a, 'b>(value: &'a Value<'b>) -> &'a Value<'b> {
    match value {
        Value::Value(value) => inner(value),
        value => value,
    }
}

/// The text under a key of a dictionary of variants.
pub(super) fn text_of(dict: &HashMap<String, OwnedValue>, group: &str, key: &str) -> Option<String> {
    let Value::Dict(group) = inner(dict.get(group)?) else { return None };
    let found = group.iter().find(|(name, _)| matches!(inner(name), Value::Str(name) if name.as_str() == key));
    match inner(found?.1) {
        Value::Str(text) => Some(text.to_string()),
        _ => None,
    }
}
