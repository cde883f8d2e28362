//! The event log in pages: a row holds consecutive events, under the number of the first.
//!
//! A row costs the tree the same whether it holds one event or thirty, and a group of commits brings many at once, so
//! that pages are what makes an event cheap. An event is written once, with its group, and never moved. Retention
//! drops whole pages. Rows from before schema step 6 hold one event each, and are read as such.

use jiff::Timestamp;

use super::{
    bytes::{Reader, Writer},
    draft::unreadable,
    keys,
    rows::Body,
};
use crate::store::StoreError;

/// Bytes of a page at which no further event goes in; one event alone may take more.
const PAGE: usize = 4_000;
/// What a page begins with: a time that no event has, since a row of one event begins with its time.
const MARK: i64 = -1;

/// An event as it stands in a page: its time, and its kind, subject and data as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub time: Timestamp,
    pub body: Body,
}

impl Entry {
    /// Bytes it takes in a page.
    fn size(&self) -> usize {
        let body = match &self.body {
            Body::Inline(bytes) => bytes.len(),
            Body::Blob(id) => id.len(),
        };
        4 + 8 + 1 + body
    }
}

/// The rows of consecutive events, the first of which has the number `first`.
pub fn pages(mut first: u64, entries: &[Entry]) -> Vec<([u8; 9], Vec<u8>)> {
    let mut pages = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fit = rest.iter().take_while(|entry| {
            bytes += entry.size();
            bytes <= PAGE
        });
        let (now, later) = rest.split_at(fit.count().max(1));
        let mut page = Vec::with_capacity(8 + bytes.min(PAGE));
        page.i64(MARK);
        for entry in now {
            page.u32((entry.size() - 4) as u32);
            page.i64(entry.time.as_microsecond());
            entry.body.write(&mut page);
        }
        pages.push((keys::event(first), page));
        first += now.len() as u64;
        rest = later;
    }
    pages
}

/// The events of a page with their numbers; `None` if it is not in a known form.
pub fn entries(key: &[u8], page: &[u8]) -> Option<Vec<(u64, Entry)>> {
    let mut number = keys::event_number(key)?;
    let mut rest = Reader(page);
    if rest.i64()? != MARK {
        return Some(vec![(number, entry(page)?)]);
    }
    let mut found = Vec::new();
    while !rest.0.is_empty() {
        found.push((number, entry(rest.bytes()?)?));
        number += 1;
    }
    (!found.is_empty()).then_some(found)
}

/// The same; a page that is not in a known form is named.
pub fn read(key: &[u8], page: &[u8]) -> Result<Vec<(u64, Entry)>, StoreError> {
    entries(key, page).ok_or_else(|| {
        let first = keys::event_number(key).unwrap_or_default();
        unreadable("events", first, "not in a known form")
    })
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    Some(Entry {
        time: Timestamp::from_microsecond(Reader(bytes).i64()?).ok()?,
        body: Body::read(bytes.get(8..)?)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pages_hold_every_event_once_and_stay_small(sizes in prop::collection::vec(0_usize..3_000, 0..40), first in 1_u64..9) {
            let entries: Vec<Entry> = sizes
                .iter()
                .enumerate()
                .map(|(n, size)| Entry {
                    time: Timestamp::from_microsecond(n as i64).unwrap(),
                    body: match size % 7 {
                        0 => Body::Blob([*size as u8; 32]),
                        _ => Body::Inline(vec![7; *size]),
                    },
                })
                .collect();
            let mut found = Vec::new();
            for (key, page) in pages(first, &entries) {
                prop_assert!(page.len() <= 8 + PAGE);
                found.extend(super::entries(&key, &page).unwrap());
            }
            let numbered: Vec<_> = (first..).zip(entries).collect();
            prop_assert_eq!(found, numbered);
        }
    }

    #[test]
    fn an_event_too_big_for_a_page_has_one_of_its_own_and_a_cut_page_is_none() {
        let entry = |bytes| Entry {
            time: Timestamp::UNIX_EPOCH,
            body: Body::Inline(vec![1; bytes]),
        };
        let made = pages(5, &[entry(10), entry(2 * PAGE), entry(10)]);
        let firsts: Vec<_> = made
            .iter()
            .map(|(key, _)| keys::event_number(key))
            .collect();
        assert_eq!(firsts, [Some(5), Some(6), Some(7)]);
        let (key, page) = &made[0];
        assert_eq!(entries(key, &page[..page.len() - 1]), None);
        assert_eq!(entries(key, &[]), None);
    }

    #[test]
    fn a_row_of_one_event_is_read_too() {
        let mut row = Vec::new();
        row.i64(1_000);
        Body::Inline(vec![7]).write(&mut row);
        let found = entries(&keys::event(3), &row).unwrap();
        assert_eq!(found[0].0, 3);
        assert_eq!(found[0].1.time.as_microsecond(), 1_000);
    }
}
