//! `tradewind explain ID`: why a request, an offer or a deal went the way it went.

use std::fmt::Write;

use alloy::primitives::B256;
use serde_json::Value;

use super::{Failure, target::Target};

#[derive(clap::Args)]
pub struct Args {
    /// The id of a request, of an offer, or of a deal (which is its offer's).
    id: B256,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Target,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let control = args.node.connect()?;
    let path = format!("/api/v1/admin/explain/{}", args.id);
    let explanation = control.get(&path).await?;
    if args.json {
        println!("{explanation:#}");
    } else {
        print!("{}", in_words(&explanation));
    }
    Ok(())
}

/// For people: the answer, then what led to it, oldest first.
fn in_words(e: &Value) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(out, "{}\n{}", text(&e["id"]), text(&e["summary"]));
    section(&mut out, "What was decided", &e["decisions"], |d| {
        let again = match d["again"].as_u64() {
            Some(n) => format!(" (and {n} times more)"),
            None => String::new(),
        };
        let subject = tradewind::base::ids::short(text(&d["subject"]));
        let (at, about, rule) = (text(&d["at"]), text(&d["about"]), text(&d["rule"]));
        let reason = text(&d["reason"]);
        format!("{at:<30} {about:<8} {subject}  {rule}: {reason}{again}")
    });
    for deal in list(&e["deals"]) {
        let title = format!("Transactions of deal {}", text(&deal["id"]));
        section(&mut out, &title, &deal["transactions"], |t| {
            let error = t["error"].as_str().map(|e| format!(": {e}"));
            format!(
                "{:<10} {:<10} {}{}",
                text(&t["step"]),
                text(&t["state"]),
                text(&t["hash"]),
                error.unwrap_or_default()
            )
        });
    }
    section(&mut out, "Jobs", &e["jobs"], |j| {
        let last = list(&j["history"]).last().map_or("", |h| text(&h["note"]));
        let note = match last {
            "" => String::new(),
            note => format!(": {note}"),
        };
        format!("{:<10} {}{note}", text(&j["state"]), text(&j["key"]))
    });
    out
}

fn section(out: &mut String, title: &str, rows: &Value, row: impl Fn(&Value) -> String) {
    let rows = list(rows);
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}");
    for r in rows {
        let _ = writeln!(out, "  {}", row(r));
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_say_what_json_says() {
        let words = in_words(&json!({
            "id": "0xab",
            "summary": "no offer: date.past: yesterday",
            "decisions": [{"at": "2026-01-01T00:00:00Z", "about": "request", "subject": "0xab",
                           "rule": "date.past", "reason": "yesterday", "again": 2}],
            "deals": [{"id": "0xcd", "transactions": [
                {"step": "claim", "state": "reverted", "hash": "0xef", "error": "NotAllowedStatus"}]}],
            "jobs": [{"state": "done", "key": "request:0xab:answer", "history": []}],
        }));
        for expected in [
            "no offer: date.past: yesterday",
            "date.past: yesterday (and 2 times more)",
            "claim      reverted   0xef: NotAllowedStatus",
            "done       request:0xab:answer",
        ] {
            assert!(words.contains(expected), "{expected} is not in:\n{words}");
        }
    }
}
