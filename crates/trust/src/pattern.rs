//! Path patterns of delegations (TUF 4.5): `*` is any run of characters, `?` any one; neither matches `/`.
//!
//! All other characters, brackets too, stand for themselves. There is no escape.

/// Whether `path` matches `pattern` as a whole.
pub fn matches(pattern: &str, path: &str) -> bool {
    let mut left = pattern.split('/');
    let mut right = path.split('/');
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if part_matches(pattern, part) => {}
            _ => return false,
        }
    }
}

/// Whether some path matches both patterns. Exact: neither a false yes nor a false no.
pub fn intersects(one: &str, other: &str) -> bool {
    let mut left = one.split('/');
    let mut right = other.split('/');
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if parts_intersect(one, other) => {}
            _ => return false,
        }
    }
}

/// Whether the text has a wildcard at all.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Greedy matching with one point of return: time is at most the product of the lengths.
fn part_matches(pattern: &str, part: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let part: Vec<char> = part.chars().collect();
    let (mut p, mut s) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while s < part.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, s));
                p += 1;
            }
            Some(c) if *c == '?' || *c == part[s] => {
                p += 1;
                s += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    p = after + 1;
                    s = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Row by row over both patterns: `reach[j]` says whether the first i of `one` and the first j of `other` can be the same
/// text so far.
fn parts_intersect(one: &str, other: &str) -> bool {
    let one: Vec<char> = one.chars().collect();
    let other: Vec<char> = other.chars().collect();
    let mut reach = vec![false; other.len() + 1];
    for i in 0..=one.len() {
        let mut row = vec![false; other.len() + 1];
        for j in 0..=other.len() {
            let empty_star = |chars: &[char], at: usize| at > 0 && chars[at - 1] == '*';
            row[j] = (i == 0 && j == 0)
                // A star at the end of one matches nothing more, or swallows whatever the other adds.
                || (empty_star(&one, i) && (reach[j] || (j > 0 && row[j - 1])))
                || (empty_star(&other, j) && (row[j - 1] || (i > 0 && reach[j])))
                || (i > 0 && j > 0 && reach[j - 1] && same(one[i - 1], other[j - 1]));
        }
        reach = row;
    }
    reach[other.len()]
}

fn same(one: char, other: char) -> bool {
    one == other || one == '?' || other == '?'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, without any cleverness.
    fn reference(pattern: &[u8], path: &[u8]) -> bool {
        match pattern.split_first() {
            None => path.is_empty(),
            Some((b'*', rest)) => {
                reference(rest, path) || path.first().is_some_and(|c| *c != b'/' && reference(pattern, &path[1..]))
            }
            Some((b'?', rest)) => path.first().is_some_and(|c| *c != b'/' && reference(rest, &path[1..])),
            Some((c, rest)) => path.first() == Some(c) && reference(rest, &path[1..]),
        }
    }

    /// Every text over {a, b, /} up to a length.
    fn texts(length: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..length {
            let to = all.len();
            for i in from..to {
                for c in ['a', 'b', '/'] {
                    all.push(format!("{}{c}", all[i]));
                }
            }
            from = to;
        }
        all
    }

    #[test]
    fn star_does_not_cross_a_slash() {
        assert!(matches("acme/*/*", "acme/blinky/blinky-1.0.0.wasm"));
        assert!(!matches("acme/*", "acme/blinky/blinky-1.0.0.wasm"));
        assert!(!matches("*", "a/b"));
        assert!(matches("foo-version-?.tgz", "foo-version-a.tgz"));
        assert!(!matches("foo-version-?.tgz", "foo-version-alpha.tgz"));
        assert!(!matches("a?b", "a/b"));
        assert!(!matches("[ab]", "a"));
    }

    #[test]
    fn many_stars_stay_cheap() {
        assert!(!matches(&"*a".repeat(500), &"b".repeat(2000)));
        assert!(!intersects(&"*a".repeat(300), &"*b".repeat(300)));
        assert!(intersects(&"*a".repeat(300), &"b*".repeat(300)));
    }

    proptest! {
        #[test]
        fn matches_agrees_with_the_definition(pattern in "[ab*?/]{0,8}", path in "[ab/]{0,8}") {
            prop_assert_eq!(matches(&pattern, &path), reference(pattern.as_bytes(), path.as_bytes()));
        }

        #[test]
        fn a_common_match_means_intersection(one in "[ab*?/]{0,6}", other in "[ab*?/]{0,6}", path in "[ab/]{0,6}") {
            if matches(&one, &path) && matches(&other, &path) {
                prop_assert!(intersects(&one, &other));
            }
        }

        #[test]
        fn intersection_means_a_common_match(one in "[ab*?/]{0,3}", other in "[ab*?/]{0,3}") {
            // Two patterns of three characters that intersect do so in a text of at most six.
            let common = texts(6).iter().any(|text| matches(&one, text) && matches(&other, text));
            prop_assert_eq!(intersects(&one, &other), common);
        }
    }
}
