//! `tradewind jobs …`: look at the queue of the running node and steer it.

use serde_json::{Value, json};
use tradewind::{
    api::in_path,
    base::{self, Clock, Span},
};
use uuid::Uuid;

use super::{
    Failure,
    paging::{Paging, query},
    target::{Ask, One},
    words::{more, one_line, pairs, plain, rows, table, time},
};

const PATH: &str = "/api/v1/admin/jobs";

const STATES: [&str; 8] = [
    "ready",
    "scheduled",
    "leased",
    "retrying",
    "done",
    "dead",
    "cancelled",
    "expired",
];

#[derive(clap::Subcommand)]
pub enum Command {
    /// List jobs, newest first.
    Ls {
        /// Only jobs in this state.
        #[arg(long, value_parser = STATES)]
        state: Option<String>,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        paging: Paging,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show a job with its payload and all it went through.
    Show(One<Uuid>),
    /// Send a dead, cancelled or expired job off again, or many dead ones.
    Retry {
        /// The job's id, as `ls` shows it; left out: the dead ones that the filter keeps.
        #[arg(conflicts_with_all = ["kind", "key", "older", "newer"])]
        id: Option<Uuid>,
        /// All dead jobs.
        #[arg(long, conflicts_with = "id")]
        all: bool,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        ask: Ask,
    },
    /// Cancel a job that waits or is dead, or many dead ones.
    Cancel {
        /// The job's id, as `ls` shows it.
        #[arg(required_unless_present = "dead", conflicts_with_all = ["kind", "key", "older", "newer"])]
        id: Option<Uuid>,
        /// The dead jobs that the filter keeps; without one, all of them.
        #[arg(long, conflicts_with = "id")]
        dead: bool,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        ask: Ask,
    },
    /// Start no more jobs of a kind, until it is resumed.
    Pause(Kind),
    /// Start jobs of a kind again.
    Resume(Kind),
    /// List the dead jobs with the chain of their reasons, newest first.
    Dead {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        paging: Paging,
        #[command(flatten)]
        ask: Ask,
    },
    /// What runs, what may run, what is stored, and when recurring jobs come next.
    Stats(Ask),
}

#[derive(clap::Args)]
pub struct Kind {
    /// The kind of jobs, as `stats` shows it: request, deal, or one of your own.
    kind: String,
    #[command(flatten)]
    ask: Ask,
}

#[derive(clap::Args)]
pub struct Filter {
    /// Only jobs of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Only jobs whose key begins so.
    #[arg(long)]
    key: Option<String>,
    /// Only jobs enqueued longer ago than this, for example 1h.
    #[arg(long, value_name = "AGE")]
    older: Option<Span>,
    /// Only jobs enqueued no longer ago than this, for example 1h.
    #[arg(long, value_name = "AGE")]
    newer: Option<Span>,
}

impl Filter {
    /// As the API's query has them.
    fn parts(&self, state: Option<&str>) -> [(&'static str, Option<String>); 5] {
        let now = Clock::system().now();
        let ago = |span: Option<Span>| span.map(|s| base::time::before(now, s.0).to_string());
        [
            ("kind", self.kind.clone()),
            ("key", self.key.clone()),
            ("before", ago(self.older)),
            ("since", ago(self.newer)),
            ("state", state.map(str::to_owned)),
        ]
    }
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls {
            state,
            filter,
            paging,
            ask,
        } => {
            let filters = filter.parts(state.as_deref());
            let page = paging.walk(&ask.node.connect()?, PATH, &filters).await?;
            ask.tell(&page, |page| listed(page) + &more(page))
        }
        Command::Dead {
            filter,
            paging,
            ask,
        } => {
            let filters = filter.parts(Some("dead"));
            let page = paging.walk(&ask.node.connect()?, PATH, &filters).await?;
            ask.tell(&page, |page| with_reasons(page) + &more(page))
        }
        Command::Show(One { id, ask }) => {
            let job = ask.node.connect()?.get(&format!("{PATH}/{id}")).await?;
            ask.tell(&job, shown)
        }
        Command::Retry {
            id: Some(id), ask, ..
        } => turn(ask, &format!("{id}/retry"), shown).await,
        Command::Retry {
            id: None,
            all,
            filter,
            ask,
        } => {
            let filters = query(filter.parts(None));
            if filters.is_empty() && !all {
                return Err(Failure::new(
                    "name a job, a filter, or --all for all dead jobs",
                ));
            }
            turn(ask, &format!("retry{filters}"), many).await
        }
        Command::Cancel {
            id: Some(id), ask, ..
        } => turn(ask, &format!("{id}/cancel"), shown).await,
        Command::Cancel {
            id: None,
            filter,
            ask,
            ..
        } => {
            let filters = query(filter.parts(None));
            turn(ask, &format!("cancel{filters}"), many).await
        }
        Command::Pause(kind) => kind.turn("pause").await,
        Command::Resume(kind) => kind.turn("resume").await,
        Command::Stats(ask) => {
            let stats = ask.node.connect()?.get(&format!("{PATH}/stats")).await?;
            ask.tell(&stats, numbers)
        }
    }
}

async fn turn(ask: Ask, what: &str, words: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
    let node = ask.node.connect()?;
    let answer = node.post(&format!("{PATH}/{what}"), &json!({})).await?;
    ask.tell(&answer, words)
}

impl Kind {
    async fn turn(self, verb: &str) -> Result<(), Failure> {
        let path = format!("kinds/{}/{verb}", in_path(&self.kind));
        turn(self.ask, &path, |answer| {
            let now = if answer["paused"] == true {
                "are paused"
            } else {
                "are started"
            };
            let before = if answer["changed"] == true {
                ""
            } else {
                ", as they were before"
            };
            format!("jobs of the kind {} {now}{before}", plain(&answer["kind"]))
        })
        .await
    }
}

fn many(answer: &Value) -> String {
    let done = match answer["cancelled"].as_u64() {
        Some(n) => format!("jobs given up: {n}"),
        None => format!("jobs sent off again: {}", plain(&answer["retried"])),
    };
    let refused = match answer["refused"].as_u64() {
        None | Some(0) => String::new(),
        Some(n) => format!(
            "; {n} refused: another unfinished job has their key, or they changed meanwhile"
        ),
    };
    done + &refused
}

fn listed(page: &Value) -> String {
    let row = |job: &Value| {
        vec![
            plain(&job["id"]),
            plain(&job["state"]),
            plain(&job["kind"]),
            tries(job),
            time(&job["created"]),
            plain(&job["key"]),
        ]
    };
    let head = ["ID", "STATE", "KIND", "TRIES", "MADE", "KEY"];
    table(&head, rows(&page["items"]).iter().map(row))
}

/// The list, and under each job why it got no further.
fn with_reasons(page: &Value) -> String {
    let jobs = rows(&page["items"]);
    let list = listed(page);
    let mut lines = list.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, job) in lines.zip(jobs) {
        text.push_str(&format!("{line}\n"));
        for step in rows(&job["history"]) {
            if let Some(note) = step["note"].as_str() {
                let (at, state) = (time(&step["time"]), plain(&step["state"]));
                text.push_str(&format!("    {at} {state}: {}\n", one_line(note)));
            }
        }
    }
    text
}

fn tries(job: &Value) -> String {
    format!(
        "{} of {}",
        plain(&job["attempts"]),
        plain(&job["max_attempts"])
    )
}

/// When it may run.
fn due(due: &Value) -> String {
    if let Some(at) = due.get("at") {
        return time(at);
    }
    let Some(unix) = due["at_chain_time"].as_u64() else {
        return plain(due);
    };
    let at = base::time::from_unix(unix).map_or_else(|| json!(unix), |at| json!(at));
    format!("{} by the chain's time", time(&at))
}

fn shown(job: &Value) -> String {
    let head = pairs([
        ("job", plain(&job["id"])),
        ("key", plain(&job["key"])),
        ("kind", plain(&job["kind"])),
        ("state", plain(&job["state"])),
        ("priority", plain(&job["priority"])),
        ("made", time(&job["created"])),
        ("due", due(&job["due"])),
        ("deadline", time(&job["deadline"])),
        ("tries", tries(job)),
        ("leased until", time(&job["leased_until"])),
    ]);
    let row = |step: &Value| {
        vec![
            plain(&step["state"]),
            time(&step["time"]),
            plain(&step["note"]),
        ]
    };
    let went = table(
        &["WENT", "TIME", "WHY"],
        rows(&job["history"]).iter().map(row),
    );
    format!("{head}\n{went}\npayload\n{:#}", job["payload"])
}

fn numbers(stats: &Value) -> String {
    let now = &stats["now"];
    let draining = if now["draining"] == true {
        ", draining"
    } else {
        ""
    };
    let head = format!(
        "{} of {} jobs run{draining}\n",
        plain(&now["running"]),
        plain(&now["limit"])
    );
    let nothing = serde_json::Map::new();
    let of = |value: &Value| value.as_object().unwrap_or(&nothing).clone();
    let (kinds, stored) = (of(&now["kinds"]), of(&stats["stored"]));
    let mut names: Vec<&String> = kinds.keys().chain(stored.keys()).collect();
    names.sort();
    names.dedup();
    let row = |name: &String| {
        let (kind, counts) = (&stats["now"]["kinds"][name], &stats["stored"][name]);
        let start = if kind["paused"] == true {
            "paused"
        } else {
            "yes"
        };
        let running = vec![
            name.clone(),
            plain(&kind["running"]),
            plain(&kind["limit"]),
            start.to_owned(),
        ];
        let stored = STATES.map(|state| counts[state].as_u64().unwrap_or_default().to_string());
        running.into_iter().chain(stored).collect()
    };
    let states = STATES.map(str::to_uppercase);
    let columns: Vec<&str> = ["KIND", "RUN", "LIMIT", "START"]
        .into_iter()
        .chain(states.iter().map(String::as_str))
        .collect();
    let mut text = format!("{head}\n{}", table(&columns, names.into_iter().map(row)));
    let recurring = rows(&stats["recurring"]);
    if !recurring.is_empty() {
        let row = |tick: &Value| {
            vec![
                plain(&tick["name"]),
                plain(&tick["kind"]),
                plain(&tick["schedule"]),
                time(&tick["next"]),
            ]
        };
        let head = ["RECURRING", "KIND", "SCHEDULE", "NEXT"];
        text += &format!("\n{}", table(&head, recurring.iter().map(row)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_under_their_jobs() {
        let job = |id: &str, notes: &[&str]| {
            let step = |note: &&str| json!({ "time": "2026-01-01T00:00:00Z", "state": "retrying", "note": note });
            json!({ "id": id, "state": "dead", "kind": "k", "key": "k:1", "attempts": 2, "max_attempts": 20,
                "created": "2026-01-01T00:00:00Z", "history": notes.iter().map(step).collect::<Vec<_>>() })
        };
        let text =
            with_reasons(&json!({ "items": [job("a", &["one\nline", "two"]), job("b", &[])] }));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("a   dead   k     2 of 20"), "{text}");
        assert_eq!(lines[2], "    2026-01-01 00:00:00Z retrying: one line");
        assert_eq!(lines[3], "    2026-01-01 00:00:00Z retrying: two");
        assert!(lines[4].starts_with("b "), "{text}");
        assert_eq!(with_reasons(&json!({ "items": [] })), "none\n");
    }

    #[test]
    fn due_as_one_reads_it() {
        assert_eq!(due(&json!("now")), "now");
        assert_eq!(
            due(&json!({ "at": "2026-01-01T00:00:00Z" })),
            "2026-01-01 00:00:00Z"
        );
        assert_eq!(
            due(&json!({ "at_chain_time": 0 })),
            "1970-01-01 00:00:00Z by the chain's time"
        );
    }
}
