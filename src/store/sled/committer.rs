//! The one thread that writes: group commit, leases, retention.
//!
//! Batches that wait while a group is being synced form the next group. A group is worked out whole
//! ([`Draft`]), written as one `sled::Batch`, flushed, and the `db` file is synced by ourselves, since sled's
//! flush does not reach the disk; only then are its batches answered. Leases are served between groups,
//! from what is synced, and are written without waiting for the disk.
//!
//! A panic or a failing disk ends the thread: the store is failed, and says so to everybody.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    Opened, Shared,
    bytes::Writer as _,
    compaction::Compaction,
    cut::{Cuts, Kept},
    draft::{Died, Draft, Ground, Halt, Layer},
    index::Index,
    keys,
    leases::Patience,
    log,
    mark::Mark,
    open::Identity,
    read,
    retention::{Dropped, SWEEP, sweep},
    rows::BlobRow,
    schema::Schema,
};
use crate::{
    base::Clock,
    config,
    config::Durability,
    store::{
        Batch, CommitError, Committed, JobId, LeaseRequest, Leased, StoreError,
        blobs::{self, BlobWriter},
    },
    telemetry::{Beat, Tasks},
};

/// Batches in one group, at most.
const GROUP: usize = 2_048;
/// The committer beats, sweeps and syncs what is unsynced at least so often.
pub(super) const ROUND: Duration = Duration::from_millis(500);

pub(super) enum Message {
    Commit {
        batch: Batch,
        reply: Reply,
        _permit: OwnedSemaphorePermit,
    },
    Lease {
        request: LeaseRequest,
        reply: oneshot::Sender<Result<Leased, StoreError>>,
        _permit: OwnedSemaphorePermit,
    },
    /// A view of everything as it is now, to be read while commits go on.
    Cut {
        reply: oneshot::Sender<Result<Arc<Kept>, StoreError>>,
        _permit: OwnedSemaphorePermit,
    },
    Stop,
}

pub(super) struct Committer {
    pub shared: Arc<Shared>,
    pub opened: Arc<Opened>,
    pub schema: Schema,
    pub identity: Identity,
    pub options: config::Store,
    pub clock: Clock,
    pub tasks: Tasks,
    pub index: Index,
    pub blobs: BlobWriter,
    /// Bytes of the blobs that rows name, by segment.
    pub live: BTreeMap<u32, u64>,
    /// Finished jobs that retention may drop, oldest first.
    pub finished: VecDeque<(Timestamp, JobId)>,
    /// Dead jobs, the longest dead first.
    pub dead: BTreeSet<Died>,
    /// Numbers of the oldest event kept and of the newest written.
    pub first_event: u64,
    pub event: u64,
    /// The oldest page of the log, once it was looked at: the number and the time of its newest event.
    pub oldest: Option<(u64, Timestamp)>,
    pub sequence: u64,
    pub chain_time: u64,
    /// Whether leases that ran out may be taken for lost.
    pub patience: Patience,
    /// The latest that the wall clock was seen to show.
    pub seen: Timestamp,
    /// Something was written that the disk has not been asked for yet.
    pub dirty: bool,
    pub last_sync: Instant,
    pub mark: Mark,
    pub cuts: Cuts,
    pub compaction: Compaction,
}

type Reply = oneshot::Sender<Result<Committed, CommitError>>;

impl Committer {
    /// The thread's body.
    pub fn run(mut self, inbox: &Receiver<Message>, beat: &Beat) {
        let shared = self.shared.clone();
        let tasks = self.tasks.clone();
        match beat.guard(|| self.serve(inbox, beat)) {
            Ok(Ok(())) => beat.ended(),
            Ok(Err(reason)) | Err(reason) => {
                shared.fail(&reason);
                tasks
                    .shutdown()
                    .fail(format!("the store has failed: {reason}"));
            }
        }
    }

    fn serve(&mut self, inbox: &Receiver<Message>, beat: &Beat) -> Result<(), String> {
        loop {
            beat.tick();
            let first = match inbox.recv_timeout(ROUND) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
            };
            let idle = first.is_none();
            let mut taken = 0;
            let (mut batches, mut leases, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
            let mut stop = false;
            for message in first.into_iter().chain(inbox.try_iter().take(GROUP)) {
                taken += 1;
                match message {
                    Message::Commit {
                        batch,
                        reply,
                        _permit,
                    } => batches.push((batch, reply, _permit)),
                    Message::Lease {
                        request,
                        reply,
                        _permit,
                    } => leases.push((request, reply, _permit)),
                    Message::Cut { reply, _permit } => cuts.push((reply, _permit)),
                    Message::Stop => stop = true,
                }
            }
            self.look_at_clock()?;
            self.patience.look(Instant::now(), taken <= GROUP);
            if !batches.is_empty() {
                self.group(batches).map_err(broken)?;
            }
            for (request, reply, _permit) in leases {
                let leased = self.lease(&request).map_err(broken)?;
                let _ = reply.send(leased);
            }
            for (reply, _permit) in cuts {
                let _ = reply.send(self.cut());
            }
            if idle || stop || (self.dirty && self.last_sync.elapsed() >= ROUND) {
                self.idle().map_err(broken)?;
            }
            if stop || self.mark.is_due() {
                self.sync_mark();
            }
            if stop {
                return Ok(());
            }
            if idle {
                self.compact().map_err(broken)?;
            }
        }
    }

    pub(super) fn ground<'a>(&'a self, opened: &'a Opened) -> Ground<'a> {
        Ground {
            tree: &opened.db,
            schema: &self.schema,
            index: &self.index,
            blob_threshold: self.options.blob_threshold,
            now: self.clock.now(),
            steady: self.clock.steady(),
            chain_time: self.chain_time,
        }
    }

    fn group(&mut self, batches: Vec<(Batch, Reply, OwnedSemaphorePermit)>) -> Result<(), Halt> {
        let opened = self.opened.clone();
        let mut group = Layer::on(self.event, self.sequence);
        let mut answers = Vec::with_capacity(batches.len());
        let ground = self.ground(&opened);
        let mut permits = Vec::with_capacity(batches.len());
        for (batch, reply, permit) in batches {
            permits.push(permit);
            let mut draft = Draft::new(&ground, &group);
            let answer = match draft.batch(&batch) {
                Ok(committed) => {
                    let layer = draft.done();
                    group.join(layer);
                    Ok(committed)
                }
                Err(Halt::Broken(reason)) => return Err(Halt::Broken(reason)),
                Err(halt) => Err(halt.told()),
            };
            answers.push((reply, answer));
        }
        sweep(&ground, &mut group, self.patience.is_over())?;
        let appended = group.event - self.event;
        let dropped = self.retain(&ground, &mut group, 2 * appended as usize + 4)?;
        let committed = answers.iter().filter(|(_, a)| a.is_ok()).count();
        self.write(group, dropped, true)?;
        let counts = &self.tasks.metrics.store;
        counts.add("commits", committed as u64);
        counts.count("groups");
        for (reply, answer) in answers {
            // The caller may have stopped waiting; the commit stands all the same.
            let _ = reply.send(answer);
        }
        Ok(())
    }

    fn lease(&mut self, request: &LeaseRequest) -> Result<Result<Leased, StoreError>, Halt> {
        let opened = self.opened.clone();
        let mut group = Layer::on(self.event, self.sequence);
        self.patience.lent(request.lease);
        sweep(&self.ground(&opened), &mut group, self.patience.is_over())?;
        if !group.is_empty() {
            self.write(group, Dropped::default(), false)?;
            group = Layer::on(self.event, self.sequence);
        }
        let now = self.clock.now();
        let due = self
            .index
            .due(&request.wanted, request.total, now, self.chain_time);
        let ground = self.ground(&opened);
        let mut jobs = Vec::with_capacity(due.len());
        for id in due {
            let mut draft = Draft::new(&ground, &group);
            let Some(row) = draft.take(id, &request.owner, request.lease)? else {
                continue;
            };
            let cannot = match read::payload(&*opened, id, &row) {
                Ok(Some(payload)) => {
                    jobs.push(row.into_job(id, payload));
                    None
                }
                Ok(None) => Some("its payload is gone".to_owned()),
                Err(StoreError::Failed(reason)) => return Err(Halt::Broken(reason)),
                Err(e) => Some(e.to_string()),
            };
            if let Some(reason) = cannot {
                draft = Draft::new(&ground, &group);
                draft.bury(id, &reason)?;
            }
            let layer = draft.done();
            group.join(layer);
        }
        self.write(group, Dropped::default(), false)?;
        self.tasks.metrics.store.add("leases", jobs.len() as u64);
        let lost = self.index.next_lost().map(|at| self.by_wall(at));
        let next_due = self.index.next_due(&request.wanted);
        let next_due = next_due.into_iter().chain(lost).min();
        Ok(Ok(Leased { jobs, next_due }))
    }

    /// No worker of an earlier process lives, so what they held is free again.
    pub fn free_orphans(&mut self, orphans: &[JobId]) -> Result<(), String> {
        let opened = self.opened.clone();
        let mut group = Layer::on(self.event, self.sequence);
        let ground = self.ground(&opened);
        for id in orphans {
            let mut draft = Draft::new(&ground, &group);
            draft
                .free(*id, "the node stopped while it ran")
                .map_err(broken)?;
            let layer = draft.done();
            group.join(layer);
        }
        self.write(group, Dropped::default(), true).map_err(broken)
    }

    /// Nothing to do: what is unsynced is synced, what is overdue or kept too long is seen to.
    fn idle(&mut self) -> Result<(), Halt> {
        let opened = self.opened.clone();
        let mut group = Layer::on(self.event, self.sequence);
        let ground = self.ground(&opened);
        sweep(&ground, &mut group, self.patience.is_over())?;
        let dropped = self.retain(&ground, &mut group, SWEEP)?;
        self.write(group, dropped, true)?;
        if self.dirty {
            self.sync_to_disk()?;
            self.show(true);
        }
        self.say_mark();
        Ok(())
    }

    /// Writes a group whole. With `sync` it is as safe as the durability asks when this returns.
    pub(super) fn write(
        &mut self,
        mut group: Layer,
        dropped: Dropped,
        sync: bool,
    ) -> Result<(), Halt> {
        if group.is_empty() {
            return Ok(());
        }
        self.keep(&group)?;
        let opened = self.opened.clone();
        let writes = group.rows.len() + group.jobs.len() + group.events.len() / 16;
        let mut batch = ::sled::Batch::default();
        self.stage_blobs(&mut group, &mut batch)?;
        for (key, value) in group.rows {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        for (id, row) in &group.jobs {
            let key = keys::job(keys::JOB, *id);
            match row {
                Some(row) => batch.insert(&key, row.encode()),
                None => batch.remove(&key),
            }
        }
        for (key, page) in log::pages(self.event + 1, &group.events) {
            batch.insert(&key, page);
        }
        let mut counters = Vec::with_capacity(16);
        counters.u64(group.sequence);
        counters.u64(group.event);
        batch.insert(keys::meta(COUNTERS), counters);
        if sync {
            // Before the apply: a reader that sees the group must know that it has to wait for it.
            self.shared.applied.fetch_add(1, Ordering::SeqCst);
        }
        opened.db.apply_batch(batch)?;
        collect(writes);
        self.dirty = true;
        if sync && self.options.durability != Durability::Relaxed {
            self.sync_to_disk()?;
        }
        for (id, row) in &group.jobs {
            let unfinished = row.as_ref().filter(|row| !row.state.is_final());
            self.index.set(*id, unfinished);
        }
        self.finished.drain(..dropped.finished);
        self.finished.extend(group.finished);
        self.count_dead(group.dead);
        self.first_event += dropped.events;
        self.oldest = dropped.oldest.or(self.oldest);
        self.event = group.event;
        self.sequence = group.sequence;
        self.chain_time = group.chain_time.unwrap_or(self.chain_time);
        self.show(sync);
        self.say_mark();
        Ok(())
    }

    /// Appends the bodies that are new and counts references; a blob that nothing names loses its row.
    fn stage_blobs(&mut self, group: &mut Layer, batch: &mut ::sled::Batch) -> Result<(), Halt> {
        for (id, change) in group.blobs.drain() {
            let key = keys::blob(&id);
            let row = match self.opened.db.get(key)? {
                None => None,
                Some(bytes) => Some(BlobRow::decode(&bytes).ok_or_else(|| {
                    Halt::Broken("the place of a blob cannot be read".to_owned())
                })?),
            };
            match (row, change.body) {
                (Some(mut row), _) => {
                    row.references = row.references.saturating_add_signed(change.references);
                    if row.references == 0 {
                        batch.remove(&key[..]);
                        if let Some(live) = self.live.get_mut(&row.at.segment) {
                            *live = live.saturating_sub(u64::from(row.at.len));
                        }
                    } else {
                        batch.insert(&key[..], row.encode());
                    }
                }
                (None, Some(body)) if change.references > 0 => {
                    let at = self.blobs.append(&id, &body).map_err(disk)?;
                    *self.live.entry(at.segment).or_default() += u64::from(at.len);
                    let references = change.references.unsigned_abs();
                    batch.insert(&key[..], BlobRow { at, references }.encode());
                }
                _ => {}
            }
        }
        if self.options.durability == Durability::Power && self.blobs.sync().map_err(disk)? {
            self.tasks.metrics.store.count("syncs");
        }
        Ok(())
    }

    /// Everything written is where the durability wants it; what is no longer named may go.
    pub(super) fn sync_to_disk(&mut self) -> Result<(), Halt> {
        self.opened.db.flush()?;
        if self.options.durability != Durability::Process {
            self.blobs.sync().map_err(disk)?;
            self.opened.sync().map_err(disk)?;
            self.tasks.metrics.store.count("syncs");
        }
        self.dirty = false;
        self.last_sync = Instant::now();
        if self.cuts.any() {
            return Ok(());
        }
        let current = self.blobs.current();
        let dead: Vec<u32> = self
            .live
            .iter()
            .filter(|(segment, live)| **live == 0 && **segment != current)
            .map(|(segment, _)| *segment)
            .collect();
        for segment in dead {
            self.live.remove(&segment);
            if let Err(e) = blobs::drop_segment(&self.opened.blobs, segment) {
                tracing::warn!(segment, error = %e, "an unused blob segment could not be removed");
            }
        }
        Ok(())
    }

    /// Writes down how far the tree is on the disk, where the durability has it there.
    fn say_mark(&mut self) {
        if !self.dirty && self.options.durability != Durability::Process {
            self.mark.say(self.sequence);
        }
    }

    /// The mark is on the disk too; with `process` so is the tree, now and then, since a mark above what the disk holds
    /// would shut the store's owner out.
    fn sync_mark(&mut self) {
        if self.options.durability == Durability::Process && !self.dirty {
            match self.opened.sync() {
                Ok(()) => self.mark.say(self.sequence),
                Err(e) => tracing::warn!(error = %e, "the store could not be synced for its mark"),
            }
        }
        self.mark.sync();
    }

    /// Tells everybody how far the store is. Events of leases are shown with the next sync.
    fn show(&self, synced: bool) {
        self.shared.marks.send_modify(|mark| {
            mark.change += 1;
            if synced {
                mark.event = self.event;
            }
        });
        if synced {
            // Last: whoever waited for what it saw finds the newest event's number no older than that.
            let applied = self.shared.applied.load(Ordering::SeqCst);
            self.shared.synced.send_replace(applied);
        }
    }
}

/// Name of the meta row that keeps [`Committer::sequence`] and [`Committer::event`].
pub(super) const COUNTERS: &str = "counters";

/// Lets go of the page versions that `writes` left behind.
///
/// sled pins its epoch once per batch and collects a few bags every 128 pins, so that big batches leave
/// garbage faster than it goes: gigabytes within a minute. It uses the default collector, so we can help.
pub(super) fn collect(writes: usize) {
    /// A round takes 8 bags of up to 64 objects; a write leaves up to a few objects.
    const WRITES_A_ROUND: usize = 64;
    for _ in 0..writes / WRITES_A_ROUND + 1 {
        crossbeam_epoch::pin().flush();
    }
}

pub(super) fn disk(e: std::io::Error) -> Halt {
    Halt::Broken(e.to_string())
}

pub(super) fn broken(halt: Halt) -> String {
    match halt {
        Halt::Broken(reason) => reason,
        halt => halt.told().to_string(),
    }
}
