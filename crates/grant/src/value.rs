//! Values that go to and come from peripherals, and sets of them. Numbers are exact: a limit of 0.1 is 0.1.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// Most values that a list may have.
pub const MAX_VALUES: usize = 64;
/// Longest text value, in bytes.
pub const MAX_TEXT_VALUE: usize = 64;
const MAX_WHOLE_DIGITS: usize = 18;
const MAX_FRACTION_DIGITS: usize = 9;
const NANOS: i128 = 1_000_000_000;

/// A number with at most 18 digits before the point and 9 after it: the kernel's own precision for sensor values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(i128);

/// Not a number that can be kept exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a number has at most 18 digits before the point and 9 after it")]
pub struct BadNumber;

impl Number {
    /// A whole number.
    ///
    /// # Errors
    /// It has more than 18 digits.
    pub fn whole(value: i64) -> Result<Self, BadNumber> {
        value.to_string().parse()
    }

    /// The number if nothing follows its point.
    #[must_use]
    pub fn as_i64(self) -> Option<i64> {
        (self.0 % NANOS == 0).then(|| i64::try_from(self.0 / NANOS).ok()).flatten()
    }
}

impl From<i32> for Number {
    fn from(value: i32) -> Self {
        Self(i128::from(value) * NANOS)
    }
}

impl FromStr for Number {
    type Err = BadNumber;

    /// Digits, perhaps with a sign before and a point within. No exponent, no blank, no other sign than '-'.
    fn from_str(text: &str) -> Result<Self, BadNumber> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let fits =
            |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if !fits(whole, MAX_WHOLE_DIGITS) || !fits(fraction, MAX_FRACTION_DIGITS) {
            return Err(BadNumber);
        }
        let whole: i128 = whole.parse().map_err(|_| BadNumber)?;
        let fraction: i128 = format!("{fraction:0<9}").parse().map_err(|_| BadNumber)?;
        let nanos = whole * NANOS + fraction;
        Ok(Self(if digits.len() == text.len() { nanos } else { -nanos }))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) =
            (self.0.unsigned_abs() / NANOS.unsigned_abs(), self.0.unsigned_abs() % NANOS.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        write!(f, "{sign}{whole}.{}", format!("{fraction:09}").trim_end_matches('0'))
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_i64() {
            Some(whole) => serializer.serialize_i64(whole),
            None => serializer.serialize_f64(self.to_string().parse().map_err(serde::ser::Error::custom)?),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Number(number) => Ok(number),
            Value::Text(text) => Err(de::Error::invalid_type(de::Unexpected::Str(&text), &"a number")),
        }
    }
}

/// What the values of a sensor's file or of an actuator are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `"integer"`: a number without a point.
    Integer,
    /// `"decimal"`: a number, with a point or without.
    Decimal,
    /// `"text"`: a word.
    Text,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "a whole number",
            Self::Decimal => "a number",
            Self::Text => "a word",
        })
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// A number.
    Number(Number),
    /// A word: 1 to 64 printable ASCII characters.
    Text(String),
}

/// Why some text is not a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// Not a number.
    #[error(transparent)]
    Number(#[from] BadNumber),
    /// A number with something after its point, where only whole ones are taken.
    #[error("only whole numbers are taken here")]
    NotWhole,
    /// Not a word.
    #[error("a word is 1 to 64 printable ASCII characters")]
    Text,
}

impl Value {
    /// Reads a value as a payload or the kernel writes it. Total: any text gives a value of that kind or an error.
    ///
    /// # Errors
    /// The text is not of that kind.
    pub fn from_text(kind: Kind, text: &str) -> Result<Self, BadValue> {
        match kind {
            Kind::Text => Self::word(text),
            Kind::Decimal => Ok(Self::Number(text.parse()?)),
            Kind::Integer => {
                let number: Number = text.parse()?;
                number.as_i64().map(|_| Self::Number(number)).ok_or(BadValue::NotWhole)
            }
        }
    }

    fn word(text: &str) -> Result<Self, BadValue> {
        let plain = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        let fits = (1..=MAX_TEXT_VALUE).contains(&text.len()) && plain;
        if fits { Ok(Self::Text(text.to_owned())) } else { Err(BadValue::Text) }
    }

    /// True if it is of this kind.
    #[must_use]
    pub fn is(&self, kind: Kind) -> bool {
        match (self, kind) {
            (Self::Number(number), Kind::Integer) => number.as_i64().is_some(),
            (Self::Number(_), Kind::Decimal) | (Self::Text(_), Kind::Text) => true,
            _ => false,
        }
    }

    /// The whole number, if it is one.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(number) => number.as_i64(),
            Self::Text(_) => None,
        }
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Number(value.into())
    }
}

/// As it is written into a sysfs file.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AValue;
        impl Visitor<'_> for AValue {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a word")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
                Number::whole(value).map(Value::Number).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
                value.to_string().parse().map(Value::Number).map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
                // The shortest decimal that means this float: what was written in the file.
                value.to_string().parse().map(Value::Number).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Value::word(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(AValue)
    }
}

/// Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Least value. Required.
    pub min: Number,
    /// Greatest value. Required; at least `min`.
    pub max: Number,
}

/// A set of values: a list, `[0, 1]`, or a range, `{ min = 0, max = 100 }`. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// These alone; at most [`MAX_VALUES`].
    Values(BTreeSet<Value>),
    /// All numbers from the least to the greatest.
    Range(Range),
}

impl Allowed {
    /// True if this value belongs to it.
    #[must_use]
    pub fn contains(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Values(values), value) => values.contains(value),
            (Self::Range(range), Value::Number(number)) => (range.min..=range.max).contains(number),
            (Self::Range(_), Value::Text(_)) => false,
        }
    }

    /// True if all of `other` belongs to it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Values(values)) => values.iter().all(|value| self.contains(value)),
            (Self::Range(more), Self::Range(less)) => more.min <= less.min && less.max <= more.max,
            (Self::Values(_), Self::Range(one)) => one.min == one.max && self.contains(&Value::Number(one.min)),
        }
    }

    /// True if everything in it is of this kind.
    #[must_use]
    pub fn is(&self, kind: Kind) -> bool {
        match self {
            Self::Values(values) => values.iter().all(|value| value.is(kind)),
            Self::Range(range) => Value::Number(range.min).is(kind) && Value::Number(range.max).is(kind),
        }
    }
}

impl fmt::Display for Allowed {
    /// As a manifest writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values(values) => {
                let word = |value: &Value| match value {
                    Value::Number(number) => number.to_string(),
                    Value::Text(text) => format!("{text:?}"),
                };
                write!(f, "[{}]", values.iter().map(word).collect::<Vec<_>>().join(", "))
            }
            Self::Range(range) => write!(f, "{{ min = {}, max = {} }}", range.min, range.max),
        }
    }
}

impl Serialize for Allowed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Values(values) => values.serialize(serializer),
            Self::Range(range) => range.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ASet;
        impl<'de> Visitor<'de> for ASet {
            type Value = Allowed;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of values such as [0, 1], or a range such as { min = 0, max = 100 }")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Allowed, A::Error> {
                let mut values = BTreeSet::new();
                while let Some(value) = seq.next_element::<Value>()? {
                    values.insert(value);
                    if values.len() > MAX_VALUES {
                        return Err(de::Error::custom(format!("a list has at most {MAX_VALUES} values")));
                    }
                }
                if values.is_empty() {
                    return Err(de::Error::custom("a list has at least one value"));
                }
                Ok(Allowed::Values(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Allowed, A::Error> {
                let range = Range::deserialize(de::value::MapAccessDeserializer::new(map))?;
                if range.min > range.max {
                    return Err(de::Error::custom("the range is empty: its min is greater than its max"));
                }
                Ok(Allowed::Range(range))
            }
        }
        deserializer.deserialize_any(ASet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct One {
        v: Allowed,
    }

    fn allowed(text: &str) -> Result<Allowed, String> {
        toml::from_str::<One>(&format!("v = {text}")).map(|one| one.v).map_err(|err| err.to_string())
    }

    #[test]
    fn numbers_are_exact_and_nothing_else_is_one() {
        for (text, again) in
            [("0", "0"), ("-0", "0"), ("-7.250", "-7.25"), ("0.000000001", "0.000000001"), ("007", "7")]
        {
            assert_eq!(text.parse::<Number>().unwrap().to_string(), again);
        }
        let long = "1".repeat(19);
        for bad in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "+1",
            "1e3",
            "0x10",
            " 1",
            "1 ",
            "1\n",
            "--1",
            "nan",
            "inf",
            "1.0000000001",
            &long,
        ] {
            assert!(bad.parse::<Number>().is_err(), "{bad:?}");
        }
        assert!(allowed("[0.1]").unwrap().contains(&Value::from_text(Kind::Decimal, "0.1").unwrap()));
    }

    #[test]
    fn what_is_no_set_of_values_is_refused_with_a_reason() {
        for (text, why) in [
            ("[]", "at least one"),
            ("{ min = 2, max = 1 }", "empty"),
            ("{ min = 1 }", "max"),
            ("{ min = 1, max = 2, step = 1 }", "step"),
            ("[true]", "boolean"),
            ("[nan]", "digits"),
            ("[inf]", "digits"),
            ("[1e300]", "digits"),
            ("[9223372036854775807]", "digits"),
            ("[\"two\\nlines\"]", "printable"),
            ("[\"\"]", "printable"),
            ("{ min = \"a\", max = \"b\" }", "a number"),
            ("3", "a list of values"),
        ] {
            let err = allowed(text).unwrap_err();
            assert!(err.contains(why), "{text}: {err}");
        }
        let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
        assert!(allowed(&format!("[{}]", many.join(","))).unwrap_err().contains("64"));
    }

    #[test]
    fn sets_cover_their_parts_alone() {
        let set = |text| allowed(text).unwrap();
        for (more, less) in [
            ("{ min = 0, max = 9 }", "[0, 4.5, 9]"),
            ("{ min = 0, max = 9 }", "{ min = 0, max = 9 }"),
            ("[1, 2, 3]", "[2]"),
            ("[1]", "{ min = 1, max = 1 }"),
        ] {
            assert!(set(more).covers(&set(less)), "{more} {less}");
        }
        for (one, other) in [
            ("{ min = 0, max = 9 }", "[9.000000001]"),
            ("{ min = 0, max = 9 }", "[\"a\"]"),
            ("{ min = 0, max = 9 }", "{ min = -1, max = 9 }"),
            ("[0, 1]", "{ min = 0, max = 1 }"),
        ] {
            assert!(!set(one).covers(&set(other)), "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in ".*") {
            for kind in [Kind::Integer, Kind::Decimal, Kind::Text] {
                if let Ok(value) = Value::from_text(kind, &text) {
                    prop_assert!(value.is(kind));
                    prop_assert_eq!(Value::from_text(kind, &value.to_string()), Ok(value));
                }
            }
        }

        #[test]
        fn a_number_survives_being_written_and_read(float in any::<f64>(), whole in any::<i64>()) {
            for text in [format!("[{float:?}]"), format!("[{whole}]")] {
                if let Ok(v) = allowed(&text) {
                    let one = One { v };
                    let again: One = toml::from_str(&toml::to_string(&one).unwrap()).unwrap();
                    prop_assert_eq!(again, one);
                }
            }
        }
    }
}
