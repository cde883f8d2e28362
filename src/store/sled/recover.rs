//! What the committer knows, read back from the rows at open: the scheduling index, where the counters
//! stand, which blobs are named. Orphaned leases are freed before anybody can ask.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::resume_unwind,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use super::{
    Opened, Shared,
    bytes::Reader,
    committer::{COUNTERS, Committer},
    compaction::Compaction,
    cut::Cuts,
    index::Index,
    jobrow::JobRow,
    keys,
    leases::Patience,
    log,
    mark::Mark,
    open::Identity,
    read,
    rows::BlobRow,
    schema::Schema,
    set_back,
};
use crate::{
    base::Clock,
    config,
    store::{JobId, JobState, blobs, blobs::BlobWriter},
    telemetry::Tasks,
};

pub(super) fn committer(
    shared: Arc<Shared>,
    opened: Arc<Opened>,
    schema: Schema,
    identity: Identity,
    options: &config::Store,
    clock: Clock,
    tasks: &Tasks,
) -> Result<Committer, String> {
    let tree = &opened.db;
    let mut index = Index::default();
    let (mut orphans, mut far) = (Vec::new(), Vec::new());
    let now = clock.now();
    let mut finished = Vec::new();
    let mut dead = BTreeSet::new();
    jobs(tree, |id, row| {
        match (row.history.last(), row.state) {
            (Some(last), JobState::Dead) => drop(dead.insert((last.time, id))),
            (Some(last), _) => finished.push((last.time, id)),
            (None, _) => {}
        }
        if row.state.is_final() {
            return;
        }
        if set_back::is_too_far(&row, now) {
            far.push(id);
        }
        if row.state == JobState::Leased {
            orphans.push(id);
        }
        index.set(id, Some(&row));
    })?;
    finished.sort_unstable();
    let (sequence, counted) = match tree.get(keys::meta(COUNTERS)).map_err(text)? {
        Some(bytes) => {
            let mut r = Reader(&bytes);
            r.u64()
                .zip(r.u64())
                .ok_or("the counters are not in a known form")?
        }
        None => (0, 0),
    };
    let (first, last) = event_bounds(tree)?;
    // Retention may have taken every event; their numbers are never given again.
    let event = counted.max(last.unwrap_or(0));
    let first_event = first.unwrap_or(event + 1);
    let chain_time = read::cursor(&*opened, super::CHAIN_CURSOR)
        .map_err(text)?
        .and_then(|c| c.head_time)
        .unwrap_or(0);
    let writer = BlobWriter::open(&opened.blobs).map_err(text)?;
    let live = live_blobs(&opened)?;
    shared.marks.send_modify(|mark| mark.event = event);
    tracing::info!(
        unfinished_jobs = index.len(),
        orphaned_leases = orphans.len(),
        events = event,
        "store opened"
    );
    let mut committer = Committer {
        shared,
        opened: opened.clone(),
        schema,
        identity,
        options: options.clone(),
        clock,
        tasks: tasks.clone(),
        index,
        blobs: writer,
        live,
        finished: VecDeque::from(finished),
        dead,
        first_event,
        event,
        oldest: None,
        sequence,
        chain_time,
        seen: now,
        patience: Patience::new(Instant::now()),
        dirty: false,
        last_sync: Instant::now(),
        mark: Mark::of(opened.dir()),
        cuts: Cuts::default(),
        compaction: Compaction::default(),
    };
    committer.free_orphans(&orphans)?;
    committer.bring_near(&far)?;
    committer.name_dead();
    Ok(committer)
}

/// Hands over every job, the finished ones with their history. The rows are read and decoded by a thread of their own,
/// since with a million jobs that takes as long as what is made of them.
fn jobs(tree: &::sled::Tree, mut each: impl FnMut(JobId, JobRow)) -> Result<(), String> {
    const PIECE: usize = 1_000;
    let (give, take) = mpsc::sync_channel::<Vec<(JobId, JobRow)>>(4);
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut piece = Vec::with_capacity(PIECE);
            for entry in tree.scan_prefix([keys::JOB]) {
                piece.push(job(&entry.map_err(text)?)?);
                if piece.len() == PIECE {
                    // Whoever takes goes on to the end.
                    let _ = give.send(std::mem::replace(&mut piece, Vec::with_capacity(PIECE)));
                }
            }
            let _ = give.send(piece);
            Ok(())
        });
        for (id, row) in take.into_iter().flatten() {
            each(id, row);
        }
        // sled panics on what it cannot read; the open is where that is caught.
        reader.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn job((key, bytes): &(::sled::IVec, ::sled::IVec)) -> Result<(JobId, JobRow), String> {
    let row = match JobRow::decode_head(bytes) {
        Some(head) if head.state.is_final() => JobRow::decode(bytes),
        head => head,
    };
    keys::job_id(key)
        .zip(row)
        .ok_or_else(|| format!("the row of job {} is not in a known form", hex::encode(key)))
}

/// The numbers of the oldest and of the newest event that are there.
fn event_bounds(tree: &::sled::Tree) -> Result<(Option<u64>, Option<u64>), String> {
    let first = tree.scan_prefix([keys::EVENT]).next().transpose();
    let last = tree.scan_prefix([keys::EVENT]).next_back().transpose();
    let first = first.map_err(text)?;
    let last = match last.map_err(text)? {
        Some((key, page)) => {
            let events = log::entries(&key, &page);
            let events = events.ok_or("the newest page of the log is not in a known form")?;
            events.last().map(|(number, _)| *number)
        }
        None => None,
    };
    Ok((first.and_then(|(key, _)| keys::event_number(&key)), last))
}

/// Bytes of the blobs that rows name, by segment. A segment that none names is left over from a crash, and goes.
fn live_blobs(opened: &Opened) -> Result<BTreeMap<u32, u64>, String> {
    let mut live = BTreeMap::new();
    for entry in opened.db.scan_prefix([keys::BLOB]) {
        let (_, bytes) = entry.map_err(text)?;
        let row = BlobRow::decode(&bytes).ok_or("the place of a blob is not in a known form")?;
        *live.entry(row.at.segment).or_default() += u64::from(row.at.len);
    }
    for segment in blobs::segments(&opened.blobs).map_err(text)? {
        if !live.contains_key(&segment) {
            blobs::drop_segment(&opened.blobs, segment).map_err(text)?;
        }
    }
    Ok(live)
}

fn text(e: impl ToString) -> String {
    e.to_string()
}
