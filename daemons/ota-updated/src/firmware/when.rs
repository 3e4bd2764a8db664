//! When firmware may be installed and when the device may be restarted for it. Pure: windows, power, and what payloads wish.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// Minutes of a day.
const DAY: u16 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A time of the week in which the device may be restarted, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Window {
    /// The day on which it begins, Monday first; none for every day.
    day: Option<u8>,
    /// First minute of the day.
    from: u16,
    /// First minute that is no longer in it; before `from` on the next day.
    to: u16,
}

/// Not a window.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a window such as \"02:00-04:30\" or \"sun 02:00-04:30\" (UTC)")]
pub struct NotAWindow(String);

/// A moment of the week, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The day, 0 to 6, Monday first.
    pub day: u8,
    /// The minute of the day, 0 to 1439.
    pub minute: u16,
}

impl Window {
    /// Whether a moment is in it.
    #[must_use]
    pub fn contains(self, moment: Moment) -> bool {
        let begins = |day: u8| self.day.is_none_or(|wanted| wanted == day);
        let Moment { day, minute } = moment;
        if self.from < self.to {
            begins(day) && (self.from..self.to).contains(&minute)
        } else {
            (begins(day) && minute >= self.from) || (begins((day + 6) % 7) && minute < self.to)
        }
    }
}

impl FromStr for Window {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        let parse = || {
            let (day, hours) = match text.split_once(' ') {
                Some((day, hours)) => {
                    let at = DAYS.iter().position(|name| day.eq_ignore_ascii_case(name))?;
                    (Some(u8::try_from(at).ok()?), hours)
                }
                None => (None, text),
            };
            let (from, to) = hours.split_once('-')?;
            let (from, to) = (minute(from)?, minute(to)?);
            (from < DAY && from != to).then_some(Self { day, from, to })
        };
        parse().ok_or_else(|| NotAWindow(text.chars().take(40).collect()))
    }
}

/// `HH:MM` as a minute of the day, up to 24:00.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, max: u16| {
        let plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|n| plain && *n <= max)
    };
    let all = number(hours, 24)? * 60 + number(minutes, 59)?;
    (all <= DAY).then_some(all)
}

impl TryFrom<String> for Window {
    type Error = NotAWindow;

    fn try_from(text: String) -> Result<Self, NotAWindow> {
        text.parse()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(day) = self.day {
            write!(f, "{} ", DAYS[usize::from(day)])?;
        }
        let [from, to] = [self.from, self.to];
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// Where the device's power comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Power {
    /// Whether any supply other than a battery is online.
    pub mains: bool,
    /// Charge of the fullest battery, in percent; none if there is no battery.
    pub battery: Option<u8>,
}

/// What is asked before an installation, and again before the restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Windows; none means always.
    pub windows: Vec<Window>,
    /// Least charge of the battery where there is no other supply, in percent.
    pub minimum_battery: u8,
    /// How long the wishes of payloads are respected.
    pub delay_max: Duration,
}

/// Why something waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// No window is open.
    Window,
    /// The battery is too low.
    Power {
        /// Its charge in percent.
        battery: u8,
        /// What it must have.
        minimum: u8,
    },
    /// A payload is in its trial.
    PayloadTrial,
    /// A payload asks for time.
    Payload {
        /// Which.
        id: String,
    },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window => f.write_str("a maintenance window"),
            Self::Power { battery, minimum } => {
                write!(f, "power: the battery has {battery} %, and {minimum} % are needed")
            }
            Self::PayloadTrial => f.write_str("the trial of a payload"),
            Self::Payload { id } => write!(f, "payload {id}, which asks not to be interrupted"),
        }
    }
}

/// What payloads have to say about a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payloads {
    /// How many are in their trial.
    pub trials: usize,
    /// Which of them asks for time.
    pub hold: Option<String>,
}

impl Rules {
    /// Whether firmware may be installed now: nothing but payloads may still keep it from its restart.
    pub fn may_install(&self, moment: Moment, power: Power) -> Result<(), Wait> {
        if let (false, Some(battery)) = (power.mains, power.battery)
            && battery < self.minimum_battery
        {
            return Err(Wait::Power { battery, minimum: self.minimum_battery });
        }
        let open = self.windows.is_empty() || self.windows.iter().any(|window| window.contains(moment));
        if open { Ok(()) } else { Err(Wait::Window) }
    }

    /// Whether the device may be restarted now. `due` is for how long a restart has been due: from then on payloads may
    /// delay it, and no longer than that.
    pub fn may_reboot(&self, due: Duration, moment: Moment, power: Power, payloads: &Payloads) -> Result<(), Wait> {
        self.may_install(moment, power)?;
        if payloads.trials > 0 {
            return Err(Wait::PayloadTrial);
        }
        match &payloads.hold {
            Some(id) if due < self.delay_max => Err(Wait::Payload { id: id.clone() }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment(day: u8, hour: u16, minute: u16) -> Moment {
        Moment { day, minute: hour * 60 + minute }
    }

    fn rules(windows: &[&str]) -> Rules {
        let windows = windows.iter().map(|text| text.parse().unwrap()).collect();
        Rules { windows, minimum_battery: 30, delay_max: Duration::from_secs(3600) }
    }

    const NOON: Moment = Moment { day: 2, minute: 720 };
    const MAINS: Power = Power { mains: true, battery: None };

    #[test]
    fn windows_are_read_and_written_in_one_spelling() {
        for good in ["02:00-04:30", "sun 22:00-02:00", "mon 00:00-24:00"] {
            assert_eq!(good.parse::<Window>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "2:00-4:00",
            "02:00",
            "02:00-02:00",
            "24:00-02:00",
            "02:60-03:00",
            "25:00-26:00",
            "day 02:00-03:00",
            "+2:00-03:00",
        ] {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_window_may_cross_midnight_and_belongs_to_the_day_on_which_it_begins() {
        let window: Window = "sun 23:00-01:30".parse().unwrap();
        for (moment, inside) in [
            (moment(6, 22, 59), false),
            (moment(6, 23, 0), true),
            (moment(0, 1, 29), true),
            (moment(0, 1, 30), false),
            (moment(6, 1, 0), false),
            (moment(0, 23, 0), false),
        ] {
            assert_eq!(window.contains(moment), inside, "{moment:?}");
        }
    }

    #[test]
    fn a_low_battery_waits_unless_something_else_supplies_the_device() {
        let battery = |mains, battery| Power { mains, battery: Some(battery) };
        let rules = rules(&[]);
        assert_eq!(rules.may_install(NOON, battery(false, 29)), Err(Wait::Power { battery: 29, minimum: 30 }));
        assert_eq!(rules.may_install(NOON, battery(false, 30)), Ok(()));
        assert_eq!(rules.may_install(NOON, battery(true, 1)), Ok(()));
        assert_eq!(rules.may_install(NOON, Power::default()), Ok(()));
    }

    #[test]
    fn a_payload_delays_the_restart_and_not_for_ever() {
        let payloads = Payloads { trials: 0, hold: Some("pump".into()) };
        let rules = rules(&[]);
        let wait = rules.may_reboot(Duration::from_secs(3599), NOON, MAINS, &payloads).unwrap_err();
        assert_eq!(wait.to_string(), "payload pump, which asks not to be interrupted");
        assert_eq!(rules.may_reboot(Duration::from_secs(3600), NOON, MAINS, &payloads), Ok(()));
    }

    #[test]
    fn a_trial_is_waited_for_however_long_it_takes() {
        let payloads = Payloads { trials: 1, hold: None };
        assert_eq!(
            rules(&[]).may_reboot(Duration::from_secs(1 << 30), NOON, MAINS, &payloads),
            Err(Wait::PayloadTrial)
        );
    }

    proptest! {
        #[test]
        fn a_window_is_open_as_long_as_it_says(from in 0..DAY, to in 0..=DAY, day in prop::option::of(0..7u8)) {
            prop_assume!(from != to);
            let window = Window { day, from, to };
            let open = (0..7u8).flat_map(|day| (0..DAY).map(move |minute| Moment { day, minute }));
            let open = open.filter(|moment| window.contains(*moment)).count();
            let length = if from < to { to - from } else { DAY - from + to };
            prop_assert_eq!(open, usize::from(length) * if day.is_some() { 1 } else { 7 });
            prop_assert_eq!(window.to_string().parse::<Window>().unwrap(), window);
        }
    }
}
