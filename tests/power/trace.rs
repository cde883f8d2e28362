//! What a process did to its files (written down by `shim.c`), and the disks that a power cut could leave.
//!
//! A change is on the disk for sure once a sync of its file (for names: of its directory) that began after the
//! change has come back. At any instant before that it may be there, be missing, or be there in part, in
//! pieces of 512 bytes. Creations, renames, removals and truncations are changes like writes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

const SECTOR: usize = 512;

#[derive(Debug)]
pub enum Change {
    Create {
        file: usize,
        path: PathBuf,
    },
    Write {
        file: usize,
        at: usize,
        data: Vec<u8>,
    },
    Truncate {
        file: usize,
        len: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    Mkdir {
        path: PathBuf,
    },
    Rmdir {
        path: PathBuf,
    },
}

#[derive(Debug, Default)]
pub struct Trace {
    root: PathBuf,
    pub changes: Vec<Change>,
    /// When each change was on the disk for sure, in ticks; `u64::MAX`: never.
    safe: Vec<u64>,
    /// The tick of each change.
    made: Vec<u64>,
    /// With the tick at which it was said.
    said: Vec<(u64, String)>,
    pub end: u64,
    pub syncs: usize,
}

/// How much of an unsynced change the power cut left.
#[derive(Clone, Debug)]
pub enum Left {
    All,
    Nothing,
    /// Of a write: the pieces of 512 bytes for which this coin (seed) says so.
    Torn(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    File(usize),
    Folder(PathBuf),
}

struct Record<'a> {
    op: u8,
    inode: u64,
    number: u64,
    data: &'a [u8],
}

fn records(mut bytes: &[u8]) -> Vec<Record<'_>> {
    let mut found = Vec::new();
    while bytes.len() >= 21 {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let len = u32::from_le_bytes(bytes[17..21].try_into().unwrap()) as usize;
        let Some(data) = bytes.get(21..21 + len) else {
            break;
        };
        found.push(Record {
            op: bytes[0],
            inode: number(1),
            number: number(9),
            data,
        });
        bytes = &bytes[21 + len..];
    }
    found
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap().to_owned()
}

impl Trace {
    /// `said` is the file below `root` to which the process wrote what it told the world.
    pub fn read(file: &Path, root: &Path, said: &Path) -> Self {
        let bytes = fs::read(file).unwrap();
        let mut trace = Trace {
            root: root.to_owned(),
            ..Trace::default()
        };
        let mut files: HashMap<u64, usize> = HashMap::new();
        let mut count = 0;
        let mut voice = None;
        // Changes of each target that no finished sync covers, and those that a running sync will cover.
        let mut pending: HashMap<Target, BTreeSet<usize>> = HashMap::new();
        let mut running: HashMap<u64, (Target, BTreeSet<usize>)> = HashMap::new();
        for (tick, r) in (1..).zip(records(&bytes)) {
            trace.end = tick;
            let known = files.get(&r.inode).copied();
            let change = match r.op {
                1 => {
                    let path = PathBuf::from(text(r.data));
                    if path == said {
                        voice = Some(r.inode);
                        continue;
                    }
                    files.insert(r.inode, count);
                    count += 1;
                    Change::Create {
                        file: count - 1,
                        path,
                    }
                }
                2 if voice == Some(r.inode) => {
                    let lines = text(r.data).lines().map(|l| (tick, l.to_owned()));
                    trace.said.extend(lines);
                    continue;
                }
                2 => Change::Write {
                    file: known.expect("a file that was there before the trace"),
                    at: r.number as usize,
                    data: r.data.to_vec(),
                },
                3 => Change::Truncate {
                    file: known.unwrap(),
                    len: r.number as usize,
                },
                4 => {
                    let (from, to) = text(r.data).split_once('\0').unwrap();
                    Change::Rename {
                        from: from.into(),
                        to: to.into(),
                    }
                }
                5 => Change::Unlink {
                    path: text(r.data).into(),
                },
                6 => Change::Mkdir {
                    path: text(r.data).into(),
                },
                7 => {
                    let target = match known {
                        Some(file) => Target::File(file),
                        None => Target::Folder(text(r.data).into()),
                    };
                    let covers = pending.get(&target).cloned().unwrap_or_default();
                    running.insert(r.number, (target, covers));
                    continue;
                }
                8 => {
                    trace.syncs += 1;
                    let (target, covers) = running.remove(&r.number).unwrap();
                    let pending = pending.entry(target).or_default();
                    for n in covers {
                        trace.safe[n] = trace.safe[n].min(tick);
                        pending.remove(&n);
                    }
                    continue;
                }
                9 => Change::Rmdir {
                    path: text(r.data).into(),
                },
                op => panic!("an unknown record {op}"),
            };
            let target = match &change {
                Change::Write { file, .. } | Change::Truncate { file, .. } => Target::File(*file),
                Change::Create { path, .. }
                | Change::Unlink { path }
                | Change::Mkdir { path }
                | Change::Rmdir { path } => Target::Folder(parent(path)),
                Change::Rename { to, .. } => Target::Folder(parent(to)),
            };
            pending
                .entry(target)
                .or_default()
                .insert(trace.changes.len());
            trace.changes.push(change);
            trace.made.push(tick);
            trace.safe.push(u64::MAX);
        }
        trace
    }

    /// What had been said by then.
    pub fn said(&self, by: u64) -> impl Iterator<Item = &str> {
        let until = move |(tick, _): &&(u64, String)| *tick <= by;
        self.said
            .iter()
            .take_while(until)
            .map(|(_, line)| line.as_str())
    }

    /// When this was said.
    pub fn when(&self, line: &str) -> Option<u64> {
        let mut said = self.said.iter();
        said.find(|(_, said)| said == line).map(|(tick, _)| *tick)
    }

    /// The changes made by then that a power cut may take back.
    pub fn unsafe_at(&self, tick: u64) -> Vec<usize> {
        let made = self.made.partition_point(|m| *m <= tick);
        (0..made).filter(|n| self.safe[*n] > tick).collect()
    }

    /// Writes what the disk holds after a power cut at `tick`, where `left` says what became of each
    /// unsynced change, to `to`, which stands for the root.
    pub fn image(&self, tick: u64, left: impl Fn(usize) -> Left, to: &Path) {
        let mut files: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut names: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut folders = BTreeSet::from([self.root.clone()]);
        let made = self.made.partition_point(|m| *m <= tick);
        for n in 0..made {
            let left = if self.safe[n] <= tick {
                Left::All
            } else {
                left(n)
            };
            let coin = match left {
                Left::Nothing => continue,
                Left::All => None,
                Left::Torn(coin) => Some(coin),
            };
            match &self.changes[n] {
                Change::Create { file, path } => {
                    files.entry(*file).or_default();
                    names.insert(path.clone(), *file);
                }
                Change::Write { file, at, data } => {
                    let bytes = files.entry(*file).or_default();
                    let mut from = 0;
                    while from < data.len() {
                        let place = at + from;
                        let len = (SECTOR - place % SECTOR).min(data.len() - from);
                        if coin.is_none_or(|coin| mix(coin ^ (place / SECTOR) as u64) & 1 == 0) {
                            if bytes.len() < place + len {
                                bytes.resize(place + len, 0);
                            }
                            bytes[place..place + len].copy_from_slice(&data[from..from + len]);
                        }
                        from += len;
                    }
                }
                Change::Truncate { file, len } => files.entry(*file).or_default().resize(*len, 0),
                Change::Rename { from, to } => {
                    // A file whose creation did not last has no name to take.
                    if let Some(file) = names.remove(from) {
                        names.insert(to.clone(), file);
                    } else if folders.contains(from) {
                        let moved = |path: &PathBuf| {
                            let inside = path.strip_prefix(from).ok()?;
                            // Joined with nothing a path ends in a slash.
                            Some(to.join(inside).components().collect::<PathBuf>())
                        };
                        folders = folders
                            .iter()
                            .map(|p| moved(p).unwrap_or_else(|| p.clone()))
                            .collect();
                        names = names
                            .iter()
                            .map(|(p, file)| (moved(p).unwrap_or_else(|| p.clone()), *file))
                            .collect();
                    }
                }
                Change::Unlink { path } => {
                    names.remove(path);
                }
                Change::Mkdir { path } => {
                    folders.insert(path.clone());
                }
                Change::Rmdir { path } => {
                    folders.remove(path);
                }
            }
        }
        let there = |path: &Path| {
            path.ancestors()
                .skip(1)
                .take_while(|a| a.starts_with(&self.root))
                .all(|a| folders.contains(a))
        };
        let place = |path: &Path| to.join(path.strip_prefix(&self.root).unwrap());
        for folder in folders.iter().filter(|f| there(f)) {
            fs::create_dir_all(place(folder)).unwrap();
        }
        for (path, file) in names.iter().filter(|(path, _)| there(path)) {
            fs::write(place(path), &files[file]).unwrap();
        }
    }
}

/// One of many numbers that look random.
pub fn mix(n: u64) -> u64 {
    let mut n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

impl Trace {
    /// Which changes wrote over bytes that were written before: files that are used again and again.
    pub fn overwrites(&self) -> Vec<bool> {
        let mut ends: HashMap<usize, usize> = HashMap::new();
        let mut over = |change: &Change| match change {
            Change::Write { file, at, data } => {
                let end = ends.entry(*file).or_default();
                let over = *at < *end;
                *end = (*end).max(at + data.len());
                over
            }
            _ => false,
        };
        self.changes.iter().map(&mut over).collect()
    }
}
