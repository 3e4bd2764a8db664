//! Lifetimes on the command line: `90s`, `15m`, `12h`, `7d`, `4w`, `1y`.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

/// How long something is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Age(SignedDuration);

/// Not a lifetime.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("give a number and one of s, m, h, d, w, y: 12h, 7d, 1y")]
pub(crate) struct NotAnAge;

impl Age {
    /// That long after `now`.
    pub(crate) fn after(self, now: Timestamp) -> Timestamp {
        now.checked_add(self.0).unwrap_or(Timestamp::MAX)
    }
}

impl FromStr for Age {
    type Err = NotAnAge;

    fn from_str(text: &str) -> Result<Self, NotAnAge> {
        let unit = text.chars().last().ok_or(NotAnAge)?;
        let seconds: i64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            'y' => 365 * 86_400,
            _ => return Err(NotAnAge),
        };
        let number: u32 = text[..text.len() - 1].parse().map_err(|_| NotAnAge)?;
        i64::from(number).checked_mul(seconds).map(|s| Self(SignedDuration::from_secs(s))).ok_or(NotAnAge)
    }
}

#[cfg(test)]
mod tests {
    use super::{Age, NotAnAge};
    use jiff::Timestamp;

    #[test]
    fn a_lifetime_is_a_number_and_a_unit() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |text: &str| text.parse::<Age>().map(|age| age.after(start).to_string());
        assert_eq!(after("90s").unwrap(), "2026-01-01T00:01:30Z");
        assert_eq!(after("7d").unwrap(), "2026-01-08T00:00:00Z");
        assert_eq!(after("1y").unwrap(), "2027-01-01T00:00:00Z");
        for bad in ["", "7", "d", "-1d", "1 d", "1é", "1.5h", "99999999999d"] {
            assert_eq!(after(bad), Err(NotAnAge), "{bad:?}");
        }
        assert_eq!(after("4294967295y").unwrap(), Timestamp::MAX.to_string());
    }
}
