//! What every benchmark prints: a table for people, or one JSON object.

/// The node's.
#[path = "../../src/cli/allocator.rs"]
mod allocator;

use std::{fmt::Write, fs};

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Quick,
    Normal,
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Higher,
    Lower,
}

#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub ours: f64,
    /// A peer or a raw limit, measured in the same run.
    pub theirs: Option<f64>,
    pub peer: Option<String>,
    /// Above 1: ours is better.
    pub ratio: Option<f64>,
    pub unit: &'static str,
    pub better: Better,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub bench: &'static str,
    pub machine: String,
    pub mode: Mode,
    pub rows: Vec<Row>,
    #[serde(skip)]
    json: bool,
}

impl Report {
    /// Reads the mode from the command line; cargo's own `--bench` is passed over.
    pub fn from_args(bench: &'static str) -> Self {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let has = |name: &str| args.iter().any(|a| a == name);
        let mode = match (has("--quick"), has("--full")) {
            (true, _) => Mode::Quick,
            (_, true) => Mode::Full,
            _ => Mode::Normal,
        };
        Self {
            bench,
            machine: machine(),
            mode,
            rows: Vec::new(),
            json: has("--json"),
        }
    }

    pub fn row(
        &mut self,
        name: impl Into<String>,
        ours: f64,
        theirs: Option<(f64, &str)>,
        unit: &'static str,
        better: Better,
    ) {
        let ratio = theirs.map(|(theirs, _)| match better {
            Better::Higher => ours / theirs,
            Better::Lower => theirs / ours,
        });
        self.rows.push(Row {
            name: name.into(),
            ours: round(ours),
            theirs: theirs.map(|(t, _)| round(t)),
            peer: theirs.map(|(_, peer)| peer.to_owned()),
            ratio: ratio.map(round),
            unit,
            better,
        });
    }

    pub fn print(&self) {
        if self.json {
            // A report of numbers and texts can always be written.
            println!("{}", serde_json::to_string(self).expect("plain data"));
            return;
        }
        println!("{} ({:?}) on {}", self.bench, self.mode, self.machine);
        let show = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        for row in &self.rows {
            let mut line = format!("  {:<24} {:>12} {:<6}", row.name, row.ours, row.unit);
            let _ = write!(
                line,
                " theirs {:>12}  ratio {:>8}  {}",
                show(row.theirs),
                show(row.ratio),
                row.peer.as_deref().unwrap_or("")
            );
            println!("{}", line.trim_end());
        }
    }
}

fn round(n: f64) -> f64 {
    let digits = if n.abs() < 10.0 { 1000.0 } else { 10.0 };
    (n * digits).round() / digits
}

/// Cores, model and memory: enough to compare with one's own.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, model)| model.trim())
        .to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo")
        .lines()
        .find_map(|l| {
            l.strip_prefix("MemTotal:")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0);
    format!("{cores} cores, {model}, {} GB", memory / 1_000_000)
}
