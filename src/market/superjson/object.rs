//! An object's members in JavaScript's own-property order.
//!
//! JavaScript lists keys that are array indices ("0" to "4294967294", canonical) first and ascending, then all others as
//! they were first set. Hashes depend on it, so iteration here follows it whatever the order of insertion was.

use super::Js;
use indexmap::IndexMap;

/// An object: keys are unique; setting one again keeps its place.
#[derive(Debug, Clone, Default)]
pub struct JsObject {
    // Boxed so that a Js, of which a message holds thousands, stays small.
    members: Box<IndexMap<String, Js>>,
    has_index_keys: bool,
}

impl JsObject {
    pub fn new() -> JsObject {
        JsObject::default()
    }

    /// Sets a member; returns what it replaced.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Js>) -> Option<Js> {
        let key = key.into();
        self.has_index_keys |= array_index(&key).is_some();
        self.members.insert(key, value.into())
    }

    /// [`JsObject::insert`] for chains.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Js>) -> JsObject {
        self.insert(key, value);
        self
    }

    pub fn get(&self, key: &str) -> Option<&Js> {
        self.members.get(key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Js> {
        self.members.get_mut(key)
    }

    /// Takes a member out, keeping the others' order.
    pub fn remove(&mut self, key: &str) -> Option<Js> {
        self.members.shift_remove(key)
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members in JavaScript's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Js)> {
        let sorted = self.has_index_keys.then(|| {
            let mut members: Vec<_> = self.members.iter().collect();
            // Stable, and None sorts after every index by the first component.
            members.sort_by_key(|(key, _)| array_index(key).map_or((1, 0), |index| (0, index)));
            members
        });
        let unsorted = sorted.is_none().then(|| self.members.iter());
        sorted
            .into_iter()
            .flatten()
            .chain(unsorted.into_iter().flatten())
            .map(|(key, value)| (key.as_str(), value))
    }
}

impl PartialEq for JsObject {
    fn eq(&self, other: &JsObject) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Into<String>, V: Into<Js>> FromIterator<(K, V)> for JsObject {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> JsObject {
        let mut object = JsObject::new();
        for (key, value) in members {
            object.insert(key, value);
        }
        object
    }
}

impl IntoIterator for JsObject {
    type Item = (String, Js);
    type IntoIter = indexmap::map::IntoIter<String, Js>;

    /// The members as they were inserted.
    fn into_iter(self) -> Self::IntoIter {
        self.members.into_iter()
    }
}

/// The array index that a key stands for, if it is one.
pub(super) fn array_index(key: &str) -> Option<u32> {
    let bytes = key.as_bytes();
    let canonical = matches!(bytes, [b'0'] | [b'1'..=b'9', ..])
        && bytes.len() <= 10
        && bytes.iter().all(u8::is_ascii_digit);
    if !canonical {
        return None;
    }
    // 4294967295 is an array's largest length, so the largest index is one less.
    key.parse::<u32>().ok().filter(|index| *index != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_javascripts_order() {
        let object: JsObject = [
            "b",
            "10",
            "4294967295",
            "2",
            "-1",
            "01",
            "4294967294",
            "",
            "0",
        ]
        .map(|key| (key, true))
        .into_iter()
        .collect();
        let keys: Vec<_> = object.iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "0",
                "2",
                "10",
                "4294967294",
                "b",
                "4294967295",
                "-1",
                "01",
                ""
            ]
        );
    }

    #[test]
    fn setting_a_member_again_keeps_its_place() {
        let object = JsObject::new().with("a", 1.0).with("b", 2.0).with("a", 3.0);
        assert_eq!(
            object.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(object.get("a"), Some(&Js::Number(3.0)));
    }

    #[test]
    fn order_is_part_of_equality() {
        assert_ne!(
            JsObject::new().with("a", 1.0).with("b", 1.0),
            JsObject::new().with("b", 1.0).with("a", 1.0)
        );
        assert_eq!(
            JsObject::new().with("1", 1.0).with("b", 1.0),
            JsObject::new().with("b", 1.0).with("1", 1.0)
        );
    }
}
