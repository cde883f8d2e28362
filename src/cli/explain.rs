//! `tradewind explain ID`: why a request, an offer or a deal went the way it went.

use std::fmt::Write;

use alloy::primitives::B256;
use serde_json::Value;

use super::{
    Failure,
    target::Ask,
    words::{one_line, plain, rows, short},
};

#[derive(clap::Args)]
pub struct Args {
    /// The id of a request, of an offer, or of a deal (which is its offer's).
    id: B256,
    #[command(flatten)]
    ask: Ask,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let path = format!("/api/v1/admin/explain/{}", args.id);
    let explanation = args.ask.node.connect()?.get(&path).await?;
    args.ask.tell(&explanation, in_words)
}

/// For people: the answer, then what led to it, oldest first.
fn in_words(e: &Value) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "{}\n{}",
        plain(&e["id"]),
        one_line(&plain(&e["summary"]))
    );
    section(&mut out, "What was decided", &e["decisions"], |d| {
        let again = match d["again"].as_u64() {
            Some(n) => format!(" (and {n} times more)"),
            None => String::new(),
        };
        let subject = short(&d["subject"]);
        let (at, about, rule) = (plain(&d["at"]), plain(&d["about"]), plain(&d["rule"]));
        let reason = plain(&d["reason"]);
        format!("{at:<30} {about:<8} {subject}  {rule}: {reason}{again}")
    });
    for deal in rows(&e["deals"]) {
        let title = format!("Transactions of deal {}", plain(&deal["id"]));
        section(&mut out, &title, &deal["transactions"], |t| {
            let error = t["error"].as_str().map(|e| format!(": {e}"));
            format!(
                "{:<10} {:<10} {}{}",
                plain(&t["step"]),
                plain(&t["state"]),
                plain(&t["hash"]),
                error.unwrap_or_default()
            )
        });
    }
    section(&mut out, "Jobs", &e["jobs"], |j| {
        let last = rows(&j["history"]).last();
        let note = last.and_then(|step| step["note"].as_str());
        let note = note.map_or_else(String::new, |note| format!(": {note}"));
        format!("{:<10} {}{note}", plain(&j["state"]), plain(&j["key"]))
    });
    out
}

fn section(out: &mut String, title: &str, entries: &Value, row: impl Fn(&Value) -> String) {
    let entries = rows(entries);
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}");
    for entry in entries {
        let _ = writeln!(out, "  {}", one_line(&row(entry)));
    }
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
