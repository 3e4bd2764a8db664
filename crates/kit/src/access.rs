//! Who may call: user names in the settings, resolved once to user ids, compared with what the kernel says of the peer.

use std::{collections::BTreeSet, io, path::Path};

use serde::Deserialize;

/// Names of users that may call. root always may.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Users that may ask for status and events. `"*"` admits everyone who can open the socket.
    pub observe: Vec<String>,
    /// Users that may change something; they may observe as well.
    pub control: Vec<String>,
}

impl Default for Access {
    /// Whoever can open the socket may observe, only root may control.
    fn default() -> Self {
        Self { observe: vec!["*".to_owned()], control: Vec::new() }
    }
}

/// [`Access`] with names turned into user ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    observe_all: bool,
    observe: BTreeSet<u32>,
    control: BTreeSet<u32>,
}

/// A name in the settings that is no user here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user database could not be read.
    #[error("could not read the user database /etc/passwd")]
    Passwd(#[source] io::Error),
    /// No such user.
    #[error("there is no user {name}; correct the access list or add the user")]
    NoSuchUser {
        /// The name in the settings.
        name: String,
    },
}

impl Access {
    /// Look the names up in /etc/passwd: on the device every user is part of the image, so no name service is asked.
    ///
    /// # Errors
    /// A name that is no user.
    pub fn resolve(&self) -> Result<Grants, Error> {
        self.resolve_in(&std::fs::read_to_string(Path::new("/etc/passwd")).map_err(Error::Passwd)?)
    }

    fn resolve_in(&self, passwd: &str) -> Result<Grants, Error> {
        let uid = |name: &String| uid_of(passwd, name).ok_or_else(|| Error::NoSuchUser { name: name.clone() });
        Ok(Grants {
            observe_all: self.observe.iter().any(|name| name == "*"),
            observe: self.observe.iter().filter(|name| *name != "*").map(uid).collect::<Result<_, _>>()?,
            control: self.control.iter().map(uid).collect::<Result<_, _>>()?,
        })
    }
}

impl Grants {
    /// Whether this user may ask for status and events.
    #[must_use]
    pub fn may_observe(&self, uid: u32) -> bool {
        self.observe_all || self.observe.contains(&uid) || self.may_control(uid)
    }

    /// Whether this user may change something.
    #[must_use]
    pub fn may_control(&self, uid: u32) -> bool {
        uid == 0 || self.control.contains(&uid)
    }
}

fn uid_of(passwd: &str, name: &str) -> Option<u32> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\niotwasm-ota:x:990:990::/:/usr/sbin/nologin\n";

    #[test]
    fn only_named_users_control_and_they_observe_too() {
        let access = Access { observe: vec![], control: vec!["iotwasm-ota".into()] };
        let grants = access.resolve_in(PASSWD).unwrap();
        assert!(grants.may_control(0) && grants.may_control(990) && grants.may_observe(990));
        assert!(!grants.may_control(1000) && !grants.may_observe(1000));
    }

    #[test]
    fn the_default_lets_everyone_observe_and_root_control() {
        let grants = Access::default().resolve_in(PASSWD).unwrap();
        assert!(grants.may_observe(1000) && grants.may_control(0) && !grants.may_control(1000));
    }

    #[test]
    fn an_unknown_user_is_an_error_that_names_it() {
        let access = Access { observe: vec!["nobdy".into()], control: vec![] };
        assert!(access.resolve_in(PASSWD).unwrap_err().to_string().contains("nobdy"));
    }
}
