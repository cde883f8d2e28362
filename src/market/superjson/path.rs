//! The paths of superjson 2.2.1's annotations: keys joined by ".", a "." within a key written "\.".
//!
//! superjson 2.2.1 has two faults here. It does not escape the backslash, so a key that ends in one runs into the next
//! separator; and it leaves the last key of a path unescaped, so a bigint under "a.b" is annotated as if under "a" -> "b".
//! Reading follows it, faults included, because the hashes depend on what its reader makes of a text. Writing escapes
//! every key, and lets the tree branch after a backslash: its reader then finds what its own writer would have lost.

/// The keys of a path.
pub(super) fn parse(path: &str, keys: &mut Vec<String>) {
    let mut key = String::new();
    let mut rest = path.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' if rest.peek() == Some(&'.') => {
                rest.next();
                key.push('.');
            }
            '.' => keys.push(std::mem::take(&mut key)),
            c => key.push(c),
        }
    }
    keys.push(key);
}

/// Appends a key to a path that is being written.
pub(super) fn push_escaped(path: &mut String, key: &str) {
    for c in key.chars() {
        if c == '.' {
            path.push('\\');
        }
        path.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(path: &str) -> Vec<String> {
        let mut keys = Vec::new();
        parse(path, &mut keys);
        keys
    }

    #[test]
    fn paths_are_read_as_superjson_does() {
        assert_eq!(keys("a.b"), ["a", "b"]);
        assert_eq!(keys(r"a\.b"), ["a.b"]);
        assert_eq!(keys(r"a\\.b"), [r"a\.b"]);
        assert_eq!(keys(r"a\"), [r"a\"]);
        assert_eq!(keys(""), [""]);
        assert_eq!(keys(".x"), ["", "x"]);
    }

    #[test]
    fn escaped_keys_are_read_back() {
        for key in ["", "a", "a.b", r"a\.b", r"\", "..", r"a\\.b."] {
            let mut path = String::new();
            push_escaped(&mut path, key);
            assert_eq!(keys(&path), [key]);
        }
    }
}
