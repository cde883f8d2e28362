//! What is to be done next, in memory: unfinished jobs by kind and priority, by time, by chain time, by
//! lease and by deadline, and who holds which key. Rebuilt at open from the unfinished rows.
//!
//! Only the committer touches it, and only after the commit it mirrors was applied and synced, so that no
//! job is handed out that a power cut could take back. Every step costs O(log n).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use super::jobrow::JobRow;
use crate::store::{Due, JobId, JobState};

/// Microseconds.
type Micros = i64;

#[derive(Debug)]
struct Entry {
    kind: usize,
    key: Arc<str>,
    priority: i32,
    place: Place,
    deadline: Option<Micros>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// With the moment it became due: the older one first.
    Ready(Micros),
    Timed(Micros),
    Chained(u64),
    Leased(Micros),
}

#[derive(Debug, Default)]
struct Kind {
    ready: BTreeSet<(Reverse<i32>, Micros, JobId)>,
    timed: BTreeSet<(Micros, JobId)>,
    chained: BTreeSet<(u64, JobId)>,
}

#[derive(Debug, Default)]
pub struct Index {
    names: HashMap<String, usize>,
    kinds: Vec<Kind>,
    jobs: HashMap<JobId, Entry>,
    keys: HashMap<Arc<str>, JobId>,
    leased: BTreeSet<(Micros, JobId)>,
    /// Of jobs that nobody holds.
    deadlines: BTreeSet<(Micros, JobId)>,
}

impl Index {
    /// The unfinished job that holds the key.
    pub fn holder(&self, key: &str) -> Option<JobId> {
        self.keys.get(key).copied()
    }

    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The job is as in `row` now, or unfinished no longer.
    pub fn set(&mut self, id: JobId, row: Option<&JobRow>) {
        let before = self.take(id);
        let Some(row) = row else {
            // Another job may have taken the key meanwhile.
            if let Some(entry) = before
                && self.keys.get(&entry.key) == Some(&id)
            {
                self.keys.remove(&entry.key);
            }
            return;
        };
        let kind = match self.names.get(&row.kind) {
            Some(&n) => n,
            None => {
                self.kinds.push(Kind::default());
                self.names.insert(row.kind.clone(), self.kinds.len() - 1);
                self.kinds.len() - 1
            }
        };
        let place = match (row.state, row.due) {
            (JobState::Leased, _) => {
                Place::Leased(row.leased_until.map_or(0, Timestamp::as_microsecond))
            }
            (_, Due::Now) => Place::Ready(row.created.as_microsecond()),
            (_, Due::At(t)) => Place::Timed(t.as_microsecond()),
            (_, Due::AtChainTime(t)) => Place::Chained(t),
        };
        let key = match before {
            // It never changes.
            Some(entry) => entry.key,
            None => {
                let key: Arc<str> = row.key.as_str().into();
                self.keys.insert(key.clone(), id);
                key
            }
        };
        self.place(
            id,
            Entry {
                kind,
                key,
                priority: row.priority,
                place,
                deadline: row.deadline.map(Timestamp::as_microsecond),
            },
        );
    }

    fn place(&mut self, id: JobId, entry: Entry) {
        let kind = &mut self.kinds[entry.kind];
        match entry.place {
            Place::Ready(at) => kind.ready.insert((Reverse(entry.priority), at, id)),
            Place::Timed(at) => kind.timed.insert((at, id)),
            Place::Chained(at) => kind.chained.insert((at, id)),
            Place::Leased(until) => self.leased.insert((until, id)),
        };
        if let (Some(deadline), false) = (entry.deadline, matches!(entry.place, Place::Leased(_))) {
            self.deadlines.insert((deadline, id));
        }
        self.jobs.insert(id, entry);
    }

    fn take(&mut self, id: JobId) -> Option<Entry> {
        let entry = self.jobs.remove(&id)?;
        let kind = &mut self.kinds[entry.kind];
        match entry.place {
            Place::Ready(at) => kind.ready.remove(&(Reverse(entry.priority), at, id)),
            Place::Timed(at) => kind.timed.remove(&(at, id)),
            Place::Chained(at) => kind.chained.remove(&(at, id)),
            Place::Leased(until) => self.leased.remove(&(until, id)),
        };
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(entry)
    }

    /// Jobs whose time has come are ready from here on.
    fn release(&mut self, kind: usize, now: Micros, chain_time: u64) {
        let k = &self.kinds[kind];
        let due: Vec<(JobId, Micros)> = k
            .timed
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(at, id)| (*id, *at))
            .chain(
                k.chained
                    .iter()
                    .take_while(|(at, _)| *at <= chain_time)
                    .map(|(_, id)| (*id, now)),
            )
            .collect();
        for (id, since) in due {
            if let Some(mut entry) = self.take(id) {
                entry.place = Place::Ready(since);
                self.place(id, entry);
            }
        }
    }

    /// The best due jobs: highest priority first, then the longest due; within the room per kind and in total.
    pub fn due(
        &mut self,
        wanted: &BTreeMap<String, usize>,
        total: usize,
        now: Timestamp,
        chain_time: u64,
    ) -> Vec<JobId> {
        let mut found = Vec::new();
        for (name, &room) in wanted {
            if let Some(&kind) = self.names.get(name) {
                self.release(kind, now.as_microsecond(), chain_time);
                found.extend(self.kinds[kind].ready.iter().take(room.min(total)).copied());
            }
        }
        found.sort_unstable();
        found.truncate(total);
        found.into_iter().map(|(_, _, id)| id).collect()
    }

    /// When the next timed job of a wanted kind is due.
    pub fn next_due(&self, wanted: &BTreeMap<String, usize>) -> Option<Timestamp> {
        wanted
            .keys()
            .filter_map(|name| self.kinds[*self.names.get(name)?].timed.first())
            .map(|(at, _)| *at)
            .min()
            .and_then(|at| Timestamp::from_microsecond(at).ok())
    }

    /// Jobs that wait for a time behind `now`.
    pub fn waiting_behind(&self, now: Timestamp) -> Vec<JobId> {
        let from = (now.as_microsecond() + 1, JobId::nil());
        let timed = self.kinds.iter().flat_map(|kind| kind.timed.range(from..));
        timed.map(|(_, id)| *id).collect()
    }

    /// When the next lease runs out, by the steady clock.
    pub fn next_lost(&self) -> Option<Timestamp> {
        let (at, _) = self.leased.first()?;
        Timestamp::from_microsecond(*at).ok()
    }

    /// Leases that ran out by `now` on the steady clock, at most `limit`.
    pub fn lost_leases(&self, now: Timestamp, limit: usize) -> Vec<JobId> {
        first_up_to(&self.leased, now, limit)
    }

    /// Jobs that nobody holds and whose deadline passed by `now`, at most `limit`.
    pub fn overdue(&self, now: Timestamp, limit: usize) -> Vec<JobId> {
        first_up_to(&self.deadlines, now, limit)
    }
}

fn first_up_to(set: &BTreeSet<(Micros, JobId)>, now: Timestamp, limit: usize) -> Vec<JobId> {
    set.iter()
        .take_while(|(at, _)| *at <= now.as_microsecond())
        .take(limit)
        .map(|(_, id)| *id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::ids::new_id, store::NewJob};

    fn second(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    fn row(key: &str, priority: i32, due: Due) -> JobRow {
        let mut spec = NewJob::new("k", key, serde_json::Value::Null).due(due);
        spec.priority = priority;
        JobRow::new(&spec, second(1))
    }

    #[test]
    fn hands_out_by_priority_then_by_age_and_only_what_is_due() {
        let mut index = Index::default();
        let ids: Vec<_> = (0..4).map(|_| new_id()).collect();
        index.set(ids[0], Some(&row("a", 0, Due::Now)));
        index.set(ids[1], Some(&row("b", 5, Due::At(second(50)))));
        index.set(ids[2], Some(&row("c", 9, Due::AtChainTime(70))));
        index.set(ids[3], Some(&row("d", 0, Due::Now)));
        let wanted = BTreeMap::from([("k".to_owned(), 10)]);
        assert_eq!(index.due(&wanted, 10, second(10), 0), [ids[0], ids[3]]);
        assert_eq!(index.next_due(&wanted), Some(second(50)));
        assert_eq!(
            index.due(&wanted, 10, second(50), 70),
            [ids[2], ids[1], ids[0], ids[3]]
        );
        assert_eq!(index.due(&wanted, 1, second(50), 70), [ids[2]]);
        assert!(index.due(&BTreeMap::new(), 10, second(50), 70).is_empty());
    }

    #[test]
    fn keys_and_places_follow_the_row() {
        let mut index = Index::default();
        let id = new_id();
        let mut r = row("a", 0, Due::Now);
        r.deadline = Some(second(20));
        index.set(id, Some(&r));
        assert_eq!(index.overdue(second(20), 9), [id]);
        r.state = JobState::Leased;
        r.leased_until = Some(second(30));
        index.set(id, Some(&r));
        assert!(index.overdue(second(20), 9).is_empty());
        assert!(index.lost_leases(second(29), 9).is_empty());
        assert_eq!(index.lost_leases(second(30), 9), [id]);
        assert_eq!(index.holder("a"), Some(id));
        index.set(id, None);
        assert_eq!((index.holder("a"), index.len()), (None, 0));
    }
}
