//! Texts from elsewhere, made fit to be kept and shown.

/// The text in one line, control characters replaced by spaces, cut at a character boundary to at most `max` bytes.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::shorten;

    #[test]
    fn short_texts_stay_and_long_ones_end_between_characters() {
        assert_eq!(shorten("a\nb\u{1b}[2J", 64), "a b [2J");
        assert_eq!(shorten("äöü", 5), "äö");
        assert_eq!(shorten("ä", 1), "");
    }

    proptest! {
        #[test]
        fn never_longer_never_a_control_character_and_else_the_same(text in any::<String>(), max in 0usize..40) {
            let short = shorten(&text, max);
            prop_assert!(short.len() <= max && !short.contains(char::is_control));
            // A control character may be two bytes long, and the space for it is one.
            prop_assert!(short.chars().zip(text.chars()).all(|(new, old)| new == old || (new == ' ' && old.is_control())));
        }
    }
}
