//! `tradewind jobs …`: look at the queue of the running node and steer it.

use jiff::Timestamp;
use serde_json::{Value, json};
use tradewind::{api::Control, base::Span};
use uuid::Uuid;

use super::{Failure, target::Target};

const PATH: &str = "/api/v1/admin/jobs";

#[derive(clap::Subcommand)]
pub enum Command {
    /// List jobs, newest first.
    Ls {
        #[command(flatten)]
        filter: Filter,
        /// Jobs at most.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Go on behind this job, the last one of the list before.
        #[arg(long)]
        after: Option<Uuid>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: Target,
    },
    /// Show a job with its payload and all it went through.
    Show {
        id: Uuid,
        #[command(flatten)]
        node: Target,
    },
    /// Send a dead, cancelled or expired job off again, or many dead ones.
    Retry {
        /// The job; left out: the dead ones that the filter keeps.
        id: Option<Uuid>,
        /// All dead jobs.
        #[arg(long, conflicts_with = "id")]
        all: bool,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        node: Target,
    },
    /// Cancel a job that waits or is dead, or all the dead ones.
    Cancel {
        #[arg(required_unless_present = "dead")]
        id: Option<Uuid>,
        /// The dead jobs that the filter keeps; without one, all of them.
        #[arg(long, conflicts_with = "id")]
        dead: bool,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        node: Target,
    },
    /// Start no more jobs of a kind, until it is resumed.
    Pause {
        kind: String,
        #[command(flatten)]
        node: Target,
    },
    /// Start jobs of a kind again.
    Resume {
        kind: String,
        #[command(flatten)]
        node: Target,
    },
    /// List the dead jobs with the chain of their reasons.
    Dead {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        node: Target,
    },
    /// What runs, what may run, what is stored, and when recurring jobs come next.
    Stats {
        #[command(flatten)]
        node: Target,
    },
}

#[derive(clap::Args, Default)]
pub struct Filter {
    /// Only jobs of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Only jobs in this state: ready, scheduled, leased, retrying, done, dead, cancelled or expired.
    #[arg(long)]
    state: Option<String>,
    /// Only jobs whose key begins so.
    #[arg(long)]
    key: Option<String>,
    /// Only jobs enqueued longer ago than this, for example 1h.
    #[arg(long)]
    older: Option<Span>,
    /// Only jobs enqueued no longer ago than this, for example 1h.
    #[arg(long)]
    newer: Option<Span>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        let texts = [&self.kind, &self.state, &self.key];
        texts.iter().all(|t| t.is_none()) && self.older.is_none() && self.newer.is_none()
    }

    /// As a query, with a `?` in front.
    fn query(&self) -> Result<String, Failure> {
        let now = tradewind::base::Clock::system().now();
        let ago = |span: Option<Span>| -> Result<Option<String>, Failure> {
            let Some(span) = span else { return Ok(None) };
            let by = jiff::SignedDuration::try_from(span.0)?;
            Ok(Some(
                now.checked_sub(by).unwrap_or(Timestamp::MIN).to_string(),
            ))
        };
        let mut query = String::from("?");
        let parts = [
            ("kind", self.kind.clone()),
            ("state", self.state.clone()),
            ("key", self.key.clone()),
            ("before", ago(self.older)?),
            ("since", ago(self.newer)?),
        ];
        for (name, value) in parts {
            if let Some(value) = value {
                query.push_str(&format!("{name}={}&", escaped(&value)));
            }
        }
        Ok(query)
    }
}

/// Percent-encoded, for a query or a path.
fn escaped(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.~".contains(b);
    text.bytes()
        .map(|b| match plain(&b) {
            true => char::from(b).to_string(),
            false => format!("%{b:02X}"),
        })
        .collect()
}

pub async fn run(command: Command) -> Result<(), Failure> {
    let nothing = json!({});
    match command {
        Command::Ls {
            filter,
            limit,
            after,
            json,
            node,
        } => {
            let control = node.connect()?;
            walk(&control, &filter, limit, after, |job| match json {
                true => println!("{job}"),
                false => println!("{}", line(job)),
            })
            .await
        }
        Command::Dead { mut filter, node } => {
            filter.state = Some("dead".to_owned());
            let control = node.connect()?;
            walk(&control, &filter, usize::MAX, None, |job| {
                println!("{}", line(job));
                for step in job["history"].as_array().into_iter().flatten() {
                    if let Some(note) = step["note"].as_str() {
                        println!(
                            "    {} {}: {note}",
                            text(&step["time"]),
                            text(&step["state"])
                        );
                    }
                }
            })
            .await
        }
        Command::Show { id, node } => print(node.connect()?.get(&format!("{PATH}/{id}")).await?),
        Command::Retry {
            id: Some(id), node, ..
        } => print(
            node.connect()?
                .post(&format!("{PATH}/{id}/retry"), &nothing)
                .await?,
        ),
        Command::Retry {
            id: None,
            all,
            filter,
            node,
        } => {
            if filter.is_empty() && !all {
                return Err(Failure::new(
                    "name a job, a filter, or --all for all dead jobs",
                ));
            }
            let path = format!("{PATH}/retry{}", filter.query()?);
            print(node.connect()?.post(&path, &nothing).await?)
        }
        Command::Cancel {
            id: Some(id),
            filter,
            node,
            ..
        } => {
            if !filter.is_empty() {
                return Err(Failure::new("a filter goes with --dead, not with a job"));
            }
            let path = format!("{PATH}/{id}/cancel");
            print(node.connect()?.post(&path, &nothing).await?)
        }
        Command::Cancel {
            id: None,
            filter,
            node,
            ..
        } => {
            let path = format!("{PATH}/cancel{}", filter.query()?);
            print(node.connect()?.post(&path, &nothing).await?)
        }
        Command::Pause { kind, node } => turn(node, &kind, "pause").await,
        Command::Resume { kind, node } => turn(node, &kind, "resume").await,
        Command::Stats { node } => print(node.connect()?.get(&format!("{PATH}/stats")).await?),
    }
}

async fn turn(node: Target, kind: &str, how: &str) -> Result<(), Failure> {
    let path = format!("{PATH}/kinds/{}/{how}", escaped(kind));
    print(node.connect()?.post(&path, &json!({})).await?)
}

fn print(answer: Value) -> Result<(), Failure> {
    println!("{answer:#}");
    Ok(())
}

/// Shows up to `limit` jobs, page by page.
async fn walk(
    control: &Control,
    filter: &Filter,
    limit: usize,
    after: Option<Uuid>,
    mut show: impl FnMut(&Value),
) -> Result<(), Failure> {
    let query = filter.query()?;
    let mut after = after.map(|id| id.to_string());
    let mut left = limit;
    while left > 0 {
        let mut path = format!("{PATH}{query}limit={}", left.min(200));
        if let Some(after) = &after {
            path.push_str(&format!("&after={after}"));
        }
        let page = control.get(&path).await?;
        for job in page["items"].as_array().into_iter().flatten() {
            show(job);
            left -= 1;
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    Ok(())
}

fn line(job: &Value) -> String {
    format!(
        "{}  {:<9} {:<10} {:>3} of {:<3} {}  {}",
        text(&job["id"]),
        text(&job["state"]),
        text(&job["kind"]),
        job["attempts"],
        job["max_attempts"],
        text(&job["created"]),
        text(&job["key"]),
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
