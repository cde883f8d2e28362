//! `tradewind deals …`: look at deals, and steer them.

use alloy::primitives::B256;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep, sleep_until};
use tradewind::{api::Control, base::Span, market::DealStatus};

use super::{
    Failure,
    paging::{Paging, query},
    prices::Tokens,
    target::{Ask, One},
    tx,
    words::{more, pairs, plain, rows, short, table, time},
};

const PATH: &str = "/api/v1/admin/deals";

/// The longest that the API waits in one call, and how often a transaction is looked at after that.
const ONE_CALL: Duration = Duration::from_secs(50);
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(clap::Subcommand)]
pub enum Command {
    /// List deals, newest first.
    Ls {
        /// Only deals in this status, for example Claimed.
        #[arg(long, value_parser = status)]
        status: Option<DealStatus>,
        /// Only deals made then or later, for example 2026-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        from: Option<jiff::Timestamp>,
        /// Only deals made then or earlier.
        #[arg(long, value_name = "TIME")]
        to: Option<jiff::Timestamp>,
        #[command(flatten)]
        paging: Paging,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show a deal as the node's records have it.
    Show(One<B256>),
    /// Check a deal in with the buyer's voucher signature.
    CheckIn {
        /// The buyer's signature over Voucher(deal, buyer): 0x and 130 hex digits. May be left out from the deal's
        /// check-in time on, for a buyer who did not come.
        #[arg(long)]
        signature: Option<String>,
        #[command(flatten)]
        step: Step,
    },
    /// Check a deal out by hand (the node does it by itself when its time has come).
    CheckOut(Step),
    /// Refuse a deal that is not claimed yet.
    Reject {
        /// Goes on chain: 32 bytes at most.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        step: Step,
    },
    /// Give the buyer of a claimed deal the full price back.
    Refund {
        /// Stays in the node's own records.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        step: Step,
    },
    /// Read a deal from the chain anew, whether the node knew it or not.
    Seek(One<B256>),
}

/// A step on one deal, which answers with its transaction.
#[derive(clap::Args)]
pub struct Step {
    /// The deal's id, whole, as `ls` shows it (it is its offer's id).
    id: B256,
    /// Wait so long for the transaction to be mined, for example 30s or 10m; it is a failure if it is not by then.
    #[arg(long, value_name = "TIME")]
    wait: Option<Span>,
    #[command(flatten)]
    ask: Ask,
}

fn status(text: &str) -> Result<DealStatus, String> {
    let found = DealStatus::ALL
        .into_iter()
        .find(|s| s.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        let all: Vec<_> = DealStatus::ALL.iter().map(|s| s.as_str()).collect();
        format!("one of {}", all.join(", "))
    })
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls {
            status,
            from,
            to,
            paging,
            ask,
        } => {
            let filters = [
                ("status", status.map(|s| s.to_string())),
                ("from", from.map(|t| t.to_string())),
                ("to", to.map(|t| t.to_string())),
            ];
            let node = ask.node.connect()?;
            let page = paging.walk(&node, PATH, &filters).await?;
            let tokens = tokens(&ask, &node).await;
            ask.tell(&page, |page| listed(page, &tokens) + &more(page))
        }
        Command::Show(One { id, ask }) => {
            let node = ask.node.connect()?;
            let deal = node.get(&format!("{PATH}/{id}")).await?;
            let tokens = tokens(&ask, &node).await;
            ask.tell(&deal, |deal| shown(deal, &tokens))
        }
        Command::Seek(One { id, ask }) => {
            let node = ask.node.connect()?;
            let deal = node.post(&format!("{PATH}/{id}/seek"), &json!({})).await?;
            let tokens = tokens(&ask, &node).await;
            ask.tell(&deal, |deal| shown(deal, &tokens))
        }
        Command::CheckIn { signature, step } => {
            step.take("check-in", &json!({ "signature": signature }))
                .await
        }
        Command::CheckOut(step) => step.take("check-out", &json!({})).await,
        Command::Reject { reason, step } => step.take("reject", &json!({ "reason": reason })).await,
        Command::Refund { reason, step } => step.take("refund", &json!({ "reason": reason })).await,
    }
}

/// What makes prices readable; JSON needs none of it.
async fn tokens(ask: &Ask, node: &Control) -> Tokens {
    match ask.json {
        true => Tokens::default(),
        false => Tokens::of_catalogue(node).await,
    }
}

impl Step {
    async fn take(&self, name: &str, body: &Value) -> Result<(), Failure> {
        let node = self.ask.node.connect()?;
        // A time that the clock cannot reach is waited for as long as the command lives.
        let until = self.wait.map(|w| Instant::now().checked_add(w.0));
        let first = self.wait.map(|w| w.0.min(ONE_CALL));
        let wait = query([("wait", first.map(|w| format!("{}ms", w.as_millis())))]);
        let path = format!("{PATH}/{}/{name}{wait}", self.id);
        let mut sent = node.post(&path, body).await?;
        if let Some(until) = until {
            sent = settled(&node, sent, until).await?;
        }
        let told = self.ask.tell(&sent, words);
        outcome(name, &sent, self.wait).and(told)
    }
}

/// The transaction at its end, or as it is when the time is over.
async fn settled(node: &Control, sent: Value, until: Option<Instant>) -> Result<Value, Failure> {
    let id = plain(&sent["id"]);
    let mut now = sent;
    while now["state"] == "sent" && until.is_none_or(|until| Instant::now() < until) {
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
        }
        now = node.get(&format!("{}/{id}", tx::PATH)).await?;
    }
    Ok(now)
}

/// Whether the transaction did, or may yet do, what it was sent for.
fn outcome(name: &str, sent: &Value, waited: Option<Span>) -> Result<(), Failure> {
    let failed = match (sent["state"].as_str(), waited) {
        (Some("reverted" | "lost" | "cancelled"), _) => {
            format!("the {name} did not take effect: {}", why(sent))
        }
        (Some("sent"), Some(waited)) => format!(
            "the {name} is not mined after {waited}; it goes on: tradewind tx show {}",
            plain(&sent["id"])
        ),
        _ => return Ok(()),
    };
    Err(Failure::new(failed))
}

fn why(sent: &Value) -> String {
    let state = plain(&sent["state"]);
    match sent["error"].as_str() {
        Some(error) => format!("its transaction is {state}: {error}"),
        None => format!("its transaction is {state}"),
    }
}

fn words(sent: &Value) -> String {
    pairs([
        ("step", plain(&sent["step"])),
        ("state", plain(&sent["state"])),
        ("transaction", plain(&sent["hash"])),
        ("block", plain(&sent["block"])),
        ("error", plain(&sent["error"])),
        ("id", plain(&sent["id"])),
    ])
}

fn listed(page: &Value, tokens: &Tokens) -> String {
    let row = |d: &Value| {
        vec![
            plain(&d["id"]),
            plain(&d["status"]),
            short(&d["buyer"]),
            tokens.amount(&d["price"], &d["asset"]),
            short(&d["asset"]),
            time(&d["created"]),
            time(&d["check_in"]),
        ]
    };
    let head = ["DEAL", "STATUS", "BUYER", "PRICE", "OF", "MADE", "CHECK-IN"];
    table(&head, rows(&page["items"]).iter().map(row))
}

fn shown(d: &Value, tokens: &Tokens) -> String {
    let head = pairs([
        ("deal", plain(&d["id"])),
        ("status", plain(&d["status"])),
        ("buyer", plain(&d["buyer"])),
        (
            "price",
            format!(
                "{} of {}",
                tokens.amount(&d["price"], &d["asset"]),
                plain(&d["asset"])
            ),
        ),
        ("made", time(&d["created"])),
        ("check-in", time(&d["check_in"])),
        ("check-out", time(&d["check_out"])),
    ]);
    let row = |s: &Value| {
        vec![
            plain(&s["status"]),
            time(&s["time"]),
            plain(&s["block"]),
            plain(&s["transaction"]),
        ]
    };
    let seen = table(
        &["SEEN", "TIME", "BLOCK", "TRANSACTION"],
        rows(&d["history"]).iter().map(row),
    );
    format!("{head}\n{seen}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{Json, Router, routing::get};

    use super::*;

    /// A wait longer than one call of the API goes on until the transaction is mined, or the time is over.
    #[tokio::test]
    async fn a_long_wait_is_waited() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let look = || async {
            let mined = ASKED.fetch_add(1, Ordering::SeqCst) > 0;
            Json(json!({ "id": "7", "state": if mined { "mined" } else { "sent" } }))
        };
        let routes = Router::new().route(&format!("{}/7", tx::PATH), get(look));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let node = Control::remote(&url, None).unwrap();
        let sent = json!({ "id": "7", "state": "sent" });
        let soon = Some(Instant::now());
        let late = settled(&node, sent.clone(), soon).await.unwrap();
        assert_eq!(late["state"], "sent", "there is no time left");
        let mined = settled(&node, sent, None).await.unwrap();
        assert_eq!(
            (mined["state"].as_str(), ASKED.load(Ordering::SeqCst)),
            (Some("mined"), 2)
        );
    }

    #[test]
    fn a_step_that_took_no_effect_is_a_failure() {
        let sent = |state: &str| json!({ "id": "7", "state": state, "error": "why" });
        let waited = Some(Span::secs(300));
        for state in ["reverted", "lost", "cancelled"] {
            for waited in [None, waited] {
                let failure = outcome("refund", &sent(state), waited).unwrap_err();
                assert_eq!(failure.code, 1, "{state}");
                assert!(failure.message.contains(state), "{}", failure.message);
            }
        }
        for state in ["mined", "confirmed"] {
            assert!(outcome("refund", &sent(state), waited).is_ok(), "{state}");
        }
        assert!(outcome("refund", &sent("sent"), None).is_ok());
        let late = outcome("refund", &sent("sent"), waited).unwrap_err();
        assert!(late.message.contains("tx show 7"), "{}", late.message);
    }
}
