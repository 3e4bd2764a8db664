//! Messages in a buffer of fixed size: what is too long is cut, never refused, and never in the middle of a character.

use core::fmt::{self, Display, Write};

/// Longest message that is sent, in bytes; what is longer is cut and ends in `…`. The host would take 4096, but a message
/// is one line in a journal, and it is put together on the payload's stack.
pub const MAX_MESSAGE: usize = 512;

const CUT: &str = "…";

/// A message of at most `N` bytes.
pub(crate) struct Message<const N: usize = MAX_MESSAGE> {
    bytes: [u8; N],
    length: u16,
    cut: bool,
}

impl<const N: usize> Message<N> {
    pub(crate) fn of(value: impl Display) -> Self {
        let mut message = Self { bytes: [0; N], length: 0, cut: false };
        // Writing stops with an error once the buffer is full: the message is then cut, which is what we want.
        let _ = write!(message, "{value}");
        message
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl<const N: usize> Write for Message<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.cut {
            return Err(fmt::Error);
        }
        let from = usize::from(self.length);
        let free = N - from;
        let (end, result) = if text.len() <= free {
            self.bytes[from..from + text.len()].copy_from_slice(text.as_bytes());
            (from + text.len(), Ok(()))
        } else {
            self.cut = true;
            self.bytes[from..].copy_from_slice(&text.as_bytes()[..free]);
            let at = boundary(&self.bytes, N - CUT.len());
            self.bytes[at..at + CUT.len()].copy_from_slice(CUT.as_bytes());
            (at + CUT.len(), Err(fmt::Error))
        };
        // Both sizes of message are far below 64 KiB.
        self.length = end as u16;
        result
    }
}

/// The last place at or before `at` where a character of the UTF-8 text in `bytes` begins.
fn boundary(bytes: &[u8], mut at: usize) -> usize {
    while at > 0 && bytes[at] & 0b1100_0000 == 0b1000_0000 {
        at -= 1;
    }
    at
}

/// Longest message of a [`Failure`], in bytes. Shorter than others, because it travels in every `Result` of a self-test.
pub const MAX_FAILURE: usize = 120;

/// Why a self-test failed.
///
/// Made from any error with `?`, or from words with [`fail!`](crate::fail).
pub struct Failure(Message<MAX_FAILURE>);

impl Failure {
    /// A failure with these words.
    pub fn new(message: impl Display) -> Self {
        Self(Message::of(message))
    }

    /// The words, in UTF-8.
    #[must_use]
    pub fn message(&self) -> &str {
        core::str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }
}

impl<E: core::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failure").field(&self.message()).finish()
    }
}

/// Ends a self-test with a failure: `fail!("the sensor reads {reading}, which no room has")`.
#[macro_export]
macro_rules! fail {
    ($($words:tt)*) => {
        return ::core::result::Result::Err($crate::Failure::new(::core::format_args!($($words)*)))
    };
}

#[cfg(test)]
mod tests {
    use super::{MAX_FAILURE, MAX_MESSAGE, Message};

    #[test]
    fn a_message_that_fits_is_unchanged() {
        let text = "x".repeat(MAX_MESSAGE);
        assert_eq!(Message::<MAX_MESSAGE>::of(&text).as_bytes(), text.as_bytes());
        assert_eq!(Message::<MAX_MESSAGE>::of("").as_bytes(), b"");
    }

    #[test]
    fn a_message_too_long_is_cut_between_two_characters() {
        for lead in 0..4 {
            let text = format!("{}{}", "x".repeat(lead), "🦀".repeat(MAX_MESSAGE));
            let message = Message::<MAX_MESSAGE>::of(&text);
            let cut = std::str::from_utf8(message.as_bytes()).unwrap();
            assert!(cut.len() <= MAX_MESSAGE && cut.len() > MAX_MESSAGE - 8, "{} bytes", cut.len());
            assert!(text.starts_with(cut.strip_suffix('…').unwrap()));
        }
    }

    #[test]
    fn nothing_is_added_after_the_cut() {
        let long = "y".repeat(MAX_MESSAGE);
        let message = Message::<MAX_FAILURE>::of(format_args!("{long}{long} tail"));
        assert!(message.as_bytes().ends_with("y…".as_bytes()));
    }
}
