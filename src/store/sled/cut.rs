//! The store as of one instant, read while commits go on.
//!
//! Promise: what a [`Cut`] shows is what the tree held when it was begun. Before the committer changes a row it keeps
//! what stood there ([`Cuts::keep`]); whoever reads looks at the tree first and then at what was kept, which wins. So a
//! commit waits only for the looking up of the rows it changes, and a copy costs memory only for what changes
//! while it is made: a place that was walked past, and a job or an event that came later, is not kept.
//! Blob segments stay as long as a cut may name them.
//!
//! Failure: past [`MOST`] bytes the cut is given up rather than the memory of the node.

use std::{
    collections::BTreeMap,
    ops::Bound,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use sled::{IVec, Tree};

use super::{
    Opened,
    committer::Committer,
    draft::{Halt, Layer},
    export, keys,
    open::Identity,
    read::View,
};
use crate::{
    base::Clock,
    store::{JobId, StoreError, transfer::Head},
};

/// Bytes of kept rows at which a cut is given up.
const MOST: usize = 512 * 1024 * 1024;
/// What a kept row costs besides its bytes.
const ROW: usize = 96;
/// Rows that are read in one go.
const SLICE: usize = 1_000;

/// The prefixes of what is kept for a job, under its id.
const JOB: [u8; 3] = [keys::JOB, keys::PAYLOAD, keys::HISTORY];

/// What stood in the rows that were changed since the cut.
pub(super) struct Kept {
    pub head: Head,
    /// The newest job of the cut; what comes behind it came later.
    last_job: JobId,
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    rows: BTreeMap<Vec<u8>, Option<IVec>>,
    bytes: usize,
    over: bool,
    /// By prefix: up to where the reader is through.
    passed: BTreeMap<u8, Vec<u8>>,
}

impl Kept {
    /// The tree must not change while this is called.
    pub fn begin(opened: &Opened, identity: &Identity, clock: &Clock) -> Result<Self, StoreError> {
        let (sequence, event) = export::counters(opened)?;
        let newest = opened.db.scan_prefix([keys::JOB]).next_back();
        let last_job = newest.transpose()?.and_then(|(key, _)| keys::job_id(&key));
        Ok(Self {
            head: Head {
                id: identity.id,
                epoch: identity.epoch,
                step: identity.step,
                created: clock.now(),
                sequence,
                event,
            },
            last_job: last_job.unwrap_or_default(),
            most: MOST,
            inner: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a reader may still ask for this row. Index entries are written anew from the records.
    fn wants(&self, inner: &Inner, key: &[u8]) -> bool {
        let Some(prefix) = key.first() else {
            return false;
        };
        let later = match prefix {
            &keys::META | &keys::INDEX => true,
            &keys::EVENT => keys::event_number(key).is_some_and(|n| n > self.head.event),
            prefix if JOB.contains(prefix) => {
                keys::job_id(key).is_some_and(|id| id > self.last_job)
            }
            _ => false,
        };
        let passed = inner.passed.get(prefix);
        !later && !inner.over && passed.is_none_or(|p| p[..] < *key)
    }

    fn keep<'a>(
        &self,
        tree: &Tree,
        keys: impl Iterator<Item = std::borrow::Cow<'a, [u8]>>,
    ) -> Result<(), ::sled::Error> {
        let mut inner = self.lock();
        for key in keys {
            if !self.wants(&inner, &key) || inner.rows.contains_key(&key[..]) {
                continue;
            }
            let was = tree.get(&key)?;
            inner.bytes += ROW + key.len() + was.as_ref().map_or(0, |v| v.len());
            inner.rows.insert(key.into_owned(), was);
        }
        if inner.bytes > self.most {
            inner.over = true;
            inner.rows = BTreeMap::new();
        }
        Ok(())
    }
}

/// The cuts that are being read, as the committer knows them. One that its reader let go is over.
#[derive(Default)]
pub(super) struct Cuts(Vec<Weak<Kept>>);

impl Cuts {
    /// Whether somebody may still read what rows of an earlier time name.
    pub fn any(&mut self) -> bool {
        self.0.retain(|cut| cut.strong_count() > 0);
        !self.0.is_empty()
    }
}

impl Committer {
    /// A cut between two groups.
    pub(super) fn cut(&mut self) -> Result<Arc<Kept>, StoreError> {
        let kept = Arc::new(Kept::begin(&self.opened, &self.identity, &self.clock)?);
        self.cuts.0.push(Arc::downgrade(&kept));
        Ok(kept)
    }

    /// Keeps what a group is about to change, for those who read a cut.
    pub(super) fn keep(&mut self, group: &Layer) -> Result<(), Halt> {
        if !self.cuts.any() {
            return Ok(());
        }
        for cut in self.cuts.0.iter().filter_map(Weak::upgrade) {
            let rows = group.rows.keys().map(|key| key[..].into());
            let jobs = group
                .jobs
                .keys()
                .map(|id| keys::job(keys::JOB, *id).to_vec().into());
            let blobs = group.blobs.keys().map(|id| keys::blob(id).to_vec().into());
            cut.keep(&self.opened.db, rows.chain(jobs).chain(blobs))?;
        }
        Ok(())
    }
}

/// Reads as of the cut. A single row must be asked for before the walk is past it.
pub(super) struct Cut<'a> {
    opened: &'a Opened,
    kept: Arc<Kept>,
}

impl View for Cut<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        // In this order: what is changed is kept before it is changed.
        let now = self.opened.db.get(key)?;
        let inner = self.whole()?;
        Ok(inner.rows.get(key).cloned().unwrap_or(now))
    }

    fn blobs(&self) -> &Path {
        &self.opened.blobs
    }
}

impl<'a> Cut<'a> {
    pub fn new(opened: &'a Opened, kept: Arc<Kept>) -> Self {
        Self { opened, kept }
    }

    pub fn head(&self) -> &Head {
        &self.kept.head
    }

    fn whole(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let inner = self.kept.lock();
        if inner.over {
            return Err(StoreError::Misuse(format!(
                "more than {} MiB were changed while the copy was made; make it in a quieter hour, or on a faster disk",
                self.kept.most >> 20
            )));
        }
        Ok(inner)
    }

    /// Walks all rows of a prefix in order, once; `between` is asked every so often whether to go on.
    pub fn walk<E: From<StoreError>>(
        &self,
        prefix: u8,
        between: &dyn Fn() -> Result<(), StoreError>,
        mut row: impl FnMut(&[u8], &IVec) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = self.end(prefix);
        let mut from = Bound::Included(vec![prefix]);
        loop {
            between()?;
            let (rows, last) = self.slice(&from, &end)?;
            for (key, value) in &rows {
                row(key, value)?;
            }
            let Some(last) = last else { return Ok(()) };
            self.pass(prefix, &last);
            from = Bound::Excluded(last);
        }
    }

    /// The first key behind what the cut holds under the prefix.
    fn end(&self, prefix: u8) -> Vec<u8> {
        match prefix {
            keys::EVENT => keys::event(self.kept.head.event.saturating_add(1)).to_vec(),
            prefix if JOB.contains(&prefix) => {
                let mut end = keys::job(prefix, self.kept.last_job).to_vec();
                end.push(0);
                end
            }
            prefix => keys::successor(&[prefix]),
        }
    }

    /// The next rows as they were, and the key up to which these are all; `None` at the end.
    #[allow(clippy::type_complexity)]
    fn slice(
        &self,
        from: &Bound<Vec<u8>>,
        end: &[u8],
    ) -> Result<(BTreeMap<Vec<u8>, IVec>, Option<Vec<u8>>), StoreError> {
        let mut rows = BTreeMap::new();
        let mut last = None;
        let range = (from.clone(), Bound::Excluded(end.to_vec()));
        for entry in self.opened.db.range(range).take(SLICE) {
            let (key, value) = entry.map_err(StoreError::from)?;
            last = Some(key.to_vec());
            rows.insert(key.to_vec(), value);
        }
        last = last.filter(|_| rows.len() == SLICE);
        let until = match &last {
            Some(last) => Bound::Included(last.clone()),
            None => Bound::Excluded(end.to_vec()),
        };
        let inner = self.whole()?;
        for (key, was) in inner.rows.range((from.clone(), until)) {
            match was {
                Some(was) => rows.insert(key.clone(), was.clone()),
                None => rows.remove(key),
            };
        }
        Ok((rows, last))
    }

    /// Nobody asks for these rows again. What is kept for a job goes by the walk of its payload.
    fn pass(&self, prefix: u8, last: &[u8]) {
        let mut inner = self.kept.lock();
        let prefixes: &[u8] = match prefix {
            keys::PAYLOAD => &JOB,
            _ => &[prefix],
        };
        for prefix in prefixes {
            let mut last = [&[*prefix], &last[1..]].concat();
            if *prefix == keys::HISTORY {
                // All pieces of that job.
                last.extend([0xFF; 4]);
            }
            let range = (
                Bound::Included(vec![*prefix]),
                Bound::Included(last.clone()),
            );
            let gone: Vec<_> = inner
                .rows
                .range::<Vec<u8>, _>(range)
                .map(|(key, was)| (key.clone(), was.as_ref().map_or(0, |v| v.len())))
                .collect();
            for (key, len) in gone {
                inner.bytes = inner.bytes.saturating_sub(ROW + key.len() + len);
                inner.rows.remove(&key);
            }
            inner.passed.insert(*prefix, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        store::sled::{
            open::{self, Upgrade},
            schema::Schema,
        },
    };

    fn opened(dir: &Path) -> (Opened, Identity) {
        let schema = Schema::built_in().unwrap();
        open::open(&config::Store::default(), dir, &schema, Upgrade::Yes).unwrap()
    }

    /// What a committer does: keeps, then changes.
    fn change(opened: &Opened, kept: &Kept, key: &[u8], to: Option<&[u8]>) {
        kept.keep(&opened.db, std::iter::once(key.into())).unwrap();
        match to {
            Some(value) => opened.db.insert(key, value).unwrap(),
            None => opened.db.remove(key).unwrap(),
        };
    }

    #[test]
    fn the_walk_sees_what_was_there_whatever_becomes_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (opened, identity) = opened(dir.path());
        let key = |n: usize| format!("ra\0{n:06}").into_bytes();
        let rows = 2 * SLICE + 10;
        for n in (0..rows).step_by(2) {
            opened.db.insert(key(n), b"old").unwrap();
        }
        let kept = Arc::new(Kept::begin(&opened, &identity, &Clock::system()).unwrap());
        let cut = Cut::new(&opened, kept.clone());
        let mut seen = Vec::new();
        let mut at = 0;
        cut.walk::<StoreError>(keys::RECORD, &|| Ok(()), |found, value| {
            assert_eq!(value, b"old");
            seen.push(found.to_vec());
            // Ahead of the walk and behind it rows change, go and come.
            at += 1;
            let (changed, gone, come) = ((at * 7) % rows, (at * 11) % rows, (at * 13) % rows);
            change(&opened, &kept, &key(changed & !1), Some(b"new"));
            change(&opened, &kept, &key(gone & !1), None);
            change(&opened, &kept, &key(come | 1), Some(b"new"));
            Ok(())
        })
        .unwrap();
        let old: Vec<_> = (0..rows).step_by(2).map(key).collect();
        assert_eq!(seen, old);
    }

    #[test]
    fn a_cut_that_would_take_too_much_memory_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let (opened, identity) = opened(dir.path());
        let mut kept = Kept::begin(&opened, &identity, &Clock::system()).unwrap();
        kept.most = 1_000;
        let kept = Arc::new(kept);
        let cut = Cut::new(&opened, kept.clone());
        let go_on = || Ok(());
        let walk = || cut.walk::<StoreError>(keys::RECORD, &go_on, |_, _| Ok(()));
        for n in 0..20u8 {
            assert_eq!(walk().is_ok(), n < 11);
            change(&opened, &kept, &[keys::CURSOR, n], Some(b"x"));
        }
        assert!(walk().unwrap_err().to_string().contains("quieter hour"));
        assert!(kept.lock().rows.is_empty());
    }
}
