//! A strict JSON reader (RFC 8259) that sees what JavaScript's `JSON.parse` sees.
//!
//! Why not serde_json's `Value`: with the features this crate needs it turns the foreign object
//! `{"$serde_json::private::Number":"1"}` into a number, so two different texts would hash alike; it refuses numbers that
//! JavaScript reads as Infinity; and its error for half a surrogate pair has no name.
//! Promises: numbers are the nearest double; of equal keys the last value wins in the first one's place.
//! On failure: an error with the byte where reading stopped. Nesting is bounded, so a hostile text cannot exhaust the stack.

use super::error::{SuperjsonError, excerpt};
use super::{Js, JsObject};

type Read<T> = Result<T, SuperjsonError>;

/// Reads one JSON text whose containers nest at most `limit` deep.
pub(super) fn parse(text: &str, limit: usize) -> Read<Js> {
    let mut reader = Reader { text, at: 0, limit };
    let value = reader.value(0)?;
    reader.skip_space();
    if reader.at < text.len() {
        Err(reader.fail("text goes on after the value"))
    } else {
        Ok(value)
    }
}

/// Keys that superjson refuses on either side of the wire.
pub(super) fn is_forbidden(key: &str) -> bool {
    matches!(key, "__proto__" | "constructor" | "prototype")
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    limit: usize,
}

impl Reader<'_> {
    fn fail(&self, what: &'static str) -> SuperjsonError {
        SuperjsonError::Json { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Steps over `byte` if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn value(&mut self, depth: usize) -> Read<Js> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(self.deeper(depth)?),
            Some(b'[') => self.array(self.deeper(depth)?),
            Some(b'"') => Ok(Js::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Js::Bool(true)),
            Some(b'f') => self.word("false", Js::Bool(false)),
            Some(b'n') => self.word("null", Js::Null),
            Some(_) => Err(self.fail("expected a value")),
            None => Err(self.fail("the text ends where a value was expected")),
        }
    }

    fn deeper(&self, depth: usize) -> Read<usize> {
        if depth < self.limit {
            Ok(depth + 1)
        } else {
            Err(SuperjsonError::TooDeep { limit: self.limit })
        }
    }

    fn word(&mut self, word: &str, value: Js) -> Read<Js> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.fail("expected a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Read<Js> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Js::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Js::Array(items));
            }
            if !self.take(b',') {
                return Err(self.fail("expected , or ] in an array"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Read<Js> {
        self.at += 1;
        let mut object = JsObject::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Js::Object(object));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.fail("expected a key in quotes"));
            }
            let key = self.string()?;
            if is_forbidden(&key) {
                return Err(SuperjsonError::ForbiddenKey { key: excerpt(&key) });
            }
            self.skip_space();
            if !self.take(b':') {
                return Err(self.fail("expected : after a key"));
            }
            let value = self.value(depth)?;
            object.insert(key, value);
            self.skip_space();
            if self.take(b'}') {
                return Ok(Js::Object(object));
            }
            if !self.take(b',') {
                return Err(self.fail("expected , or } in an object"));
            }
        }
    }

    fn digits(&mut self) -> Read<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.fail("expected a digit"))
        } else {
            Ok(())
        }
    }

    fn number(&mut self) -> Read<Js> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        // Out of range becomes infinity or zero, as in JavaScript.
        let value = self.text[start..self.at]
            .parse::<f64>()
            .map_err(|_| self.fail("expected a number"))?;
        Ok(Js::Number(value))
    }

    fn string(&mut self) -> Read<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
                .ok_or_else(|| self.fail("the text ends within a string"))?;
            // Both ends stand next to ASCII bytes, so this never cuts a character.
            out.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match rest[plain] {
                b'"' => {
                    self.at += 1;
                    return Ok(out);
                }
                b'\\' => {
                    let c = self.escape()?;
                    out.push(c);
                }
                _ => return Err(self.fail("control characters in a string must be escaped")),
            }
        }
    }

    /// Reads one escape, standing on its backslash.
    fn escape(&mut self) -> Read<char> {
        let start = self.at;
        self.at += 1;
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape(start);
            }
            _ => return Err(self.fail("unknown escape in a string")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self, start: usize) -> Read<char> {
        let lone = SuperjsonError::LoneSurrogate { at: start };
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !(self.take(b'\\') && self.take(b'u')) {
                    return Err(lone);
                }
                let second = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(lone);
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            code => code,
        };
        // What is left that is no character is a low surrogate by itself.
        char::from_u32(code).ok_or(lone)
    }

    fn hex4(&mut self) -> Read<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code =
                code * 16 + digit.ok_or_else(|| self.fail("expected four hex digits after \\u"))?;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Read<Js> {
        parse(text, 16)
    }

    #[test]
    fn reads_what_json_allows() {
        let value =
            read(" { \"a\" : [ 1 , -0.5e+1 , true , false , null , \"x\" ] , \"b\" : { } } ")
                .unwrap();
        assert_eq!(
            value.json_text(),
            r#"{"a":[1,-5,true,false,null,"x"],"b":{}}"#
        );
        let escapes = read(r#""\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00""#).unwrap();
        assert_eq!(escapes, Js::from("\"\\/\u{8}\u{c}\n\r\tAé😀"));
    }

    #[test]
    fn refuses_what_json_does_not_allow() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "\"",
            "tru",
            "nul",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "1 2",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\u{feff}1",
            "NaN",
            "Infinity",
            "'a'",
            "[1}",
            "undefined",
            "1n",
        ] {
            assert!(
                matches!(read(text), Err(SuperjsonError::Json { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn numbers_are_javascripts() {
        assert_eq!(read("1e999").unwrap(), Js::Number(f64::INFINITY));
        assert_eq!(read("-0").unwrap(), Js::Number(-0.0));
        assert_eq!(
            read("9007199254740993").unwrap(),
            Js::Number(9_007_199_254_740_992.0)
        );
    }

    #[test]
    fn foreign_keys_have_no_magic() {
        let text = r#"{"$serde_json::private::Number":"1","$serde_json::private::RawValue":"2"}"#;
        assert_eq!(read(text).unwrap().json_text(), text);
    }

    #[test]
    fn equal_keys_are_one() {
        assert_eq!(
            read(r#"{"a":1,"b":2,"a":3}"#).unwrap().json_text(),
            r#"{"a":3,"b":2}"#
        );
    }

    #[test]
    fn lone_surrogates_have_a_name() {
        for text in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            r#""\ud800\ud800""#,
        ] {
            assert!(
                matches!(read(text), Err(SuperjsonError::LoneSurrogate { at: 1 })),
                "{text}"
            );
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(read(&format!("{}{}", "[".repeat(16), "]".repeat(16))).is_ok());
        assert_eq!(
            read(&"[".repeat(1_000_000)),
            Err(SuperjsonError::TooDeep { limit: 16 })
        );
        assert_eq!(
            read(&"{\"a\":".repeat(1_000_000)),
            Err(SuperjsonError::TooDeep { limit: 16 })
        );
    }

    #[test]
    fn prototype_keys_are_refused() {
        for key in ["__proto__", "constructor", "prototype"] {
            assert!(matches!(
                read(&format!("{{\"{key}\":1}}")),
                Err(SuperjsonError::ForbiddenKey { .. })
            ));
        }
    }
}
