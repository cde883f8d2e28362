//! `tradewind events`: the numbered event log, read back or followed as it grows.

use serde_json::Value;
use tradewind::{api::Control, store::EventCursor};

use super::{
    Failure, out,
    paging::query,
    target::Target,
    words::{one_line, plain, time},
};

#[derive(clap::Args)]
pub struct Args {
    /// Only events behind this one's cursor, as every event carries it.
    #[arg(long, value_name = "CURSOR")]
    since: Option<String>,
    /// Only the newest so many (before --types picks among them).
    #[arg(long, value_name = "N", conflicts_with = "since")]
    last: Option<u64>,
    /// Only these types, with commas between, for example deal.claimed,admin.acted.
    #[arg(long, value_name = "TYPES")]
    types: Option<String>,
    /// Stay, and go on with what happens.
    #[arg(long, short)]
    follow: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Target,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let node = args.node.connect()?;
    let since = match args.last {
        Some(n) => Some(before_the_last(&node, n).await?),
        None => args.since,
    };
    let parts = [
        ("since", since),
        ("types", args.types),
        ("follow", args.follow.then(|| "true".to_owned())),
    ];
    let path = format!("/api/v1/events{}", query(parts));
    let mut last = None;
    node.lines(&path, |event| {
        let told = match args.json {
            true => out::say(&event),
            false => out::say(line(&event)),
        };
        last = event["cursor"].as_str().map(str::to_owned);
        told
    })
    .await?;
    if !args.follow {
        return Ok(());
    }
    let again = last.map_or_else(String::new, |at| format!("; go on with --since {at}"));
    Err(Failure::new(format!("the node ended the stream{again}")))
}

/// The cursor that `n` events stand behind.
async fn before_the_last(node: &Control, n: u64) -> Result<String, Failure> {
    let status = node.get("/api/v1/admin/status").await?;
    let newest: EventCursor = plain(&status["events"])
        .parse()
        .map_err(|e: String| Failure::new(e))?;
    let number = newest.number.saturating_sub(n);
    Ok(EventCursor { number, ..newest }.to_string())
}

fn line(event: &Value) -> String {
    one_line(&format!(
        "{}  {:<8} {}  {}  {}",
        time(&event["time"]),
        plain(&event["cursor"]),
        plain(&event["type"]),
        plain(&event["subject"]),
        event["data"]
    ))
}
