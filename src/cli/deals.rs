//! `tradewind deals …`: look at deals, and steer them.

use alloy::primitives::B256;
use serde_json::{Value, json};
use tradewind::{api::in_path, base::Span, market::DealStatus};

use super::{
    Failure,
    target::Ask,
    words::{more, pairs, plain, rows, short, table, time},
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// List deals, newest first.
    Ls {
        /// Only deals in this status, for example Claimed.
        #[arg(long, value_parser = status)]
        status: Option<DealStatus>,
        /// Only deals made then or later, for example 2026-01-31T00:00:00Z.
        #[arg(long)]
        from: Option<jiff::Timestamp>,
        /// Only deals made then or earlier.
        #[arg(long)]
        to: Option<jiff::Timestamp>,
        /// So many at most, 200 at once.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Go on behind the page that said so.
        #[arg(long)]
        after: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show a deal as the node's records have it.
    Show(One),
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
    Seek(One),
}

#[derive(clap::Args)]
pub struct One {
    /// The deal's id (its offer's id).
    id: B256,
    #[command(flatten)]
    ask: Ask,
}

/// A step on one deal, which answers with its transaction.
#[derive(clap::Args)]
pub struct Step {
    /// The deal's id (its offer's id).
    id: B256,
    /// Wait for the transaction to be mined, for example 30s.
    #[arg(long)]
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
            limit,
            after,
            ask,
        } => {
            let mut path = format!("/api/v1/admin/deals?limit={limit}");
            let filters = [
                ("status", status.map(|s| s.to_string())),
                ("from", from.map(|t| t.to_string())),
                ("to", to.map(|t| t.to_string())),
                ("after", after),
            ];
            for (name, value) in filters {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", in_path(&value)));
                }
            }
            let page = ask.node.connect()?.get(&path).await?;
            ask.tell(&page, |page| listed(page) + &more(page));
        }
        Command::Show(One { id, ask }) => {
            let path = format!("/api/v1/admin/deals/{id}");
            let deal = ask.node.connect()?.get(&path).await?;
            ask.tell(&deal, shown);
        }
        Command::Seek(One { id, ask }) => {
            let path = format!("/api/v1/admin/deals/{id}/seek");
            let deal = ask.node.connect()?.post(&path, &json!({})).await?;
            ask.tell(&deal, shown);
        }
        Command::CheckIn { signature, step } => {
            step.take("check-in", &json!({ "signature": signature }))
                .await?;
        }
        Command::CheckOut(step) => step.take("check-out", &json!({})).await?,
        Command::Reject { reason, step } => {
            step.take("reject", &json!({ "reason": reason })).await?;
        }
        Command::Refund { reason, step } => {
            step.take("refund", &json!({ "reason": reason })).await?;
        }
    }
    Ok(())
}

impl Step {
    async fn take(&self, name: &str, body: &Value) -> Result<(), Failure> {
        let wait = self
            .wait
            .map_or_else(String::new, |w| format!("?wait={}ms", w.0.as_millis()));
        let path = format!("/api/v1/admin/deals/{}/{name}{wait}", self.id);
        let sent = self.ask.node.connect()?.post(&path, body).await?;
        self.ask.tell(&sent, |t| {
            pairs([
                ("step", plain(&t["step"])),
                ("state", plain(&t["state"])),
                ("transaction", plain(&t["hash"])),
                ("block", plain(&t["block"])),
                ("error", plain(&t["error"])),
                ("id", plain(&t["id"])),
            ])
        });
        match sent["state"].as_str() {
            Some("reverted" | "lost") => Err(Failure::new(format!(
                "the {name} did not take effect: {}",
                plain(&sent["error"])
            ))),
            _ => Ok(()),
        }
    }
}

fn listed(page: &Value) -> String {
    let row = |d: &Value| {
        vec![
            plain(&d["id"]),
            plain(&d["status"]),
            short(&d["buyer"]),
            plain(&d["price"]),
            time(&d["created"]),
            time(&d["check_in"]),
        ]
    };
    let head = ["DEAL", "STATUS", "BUYER", "PRICE", "MADE", "CHECK-IN"];
    table(&head, rows(&page["items"]).iter().map(row))
}

fn shown(d: &Value) -> String {
    let head = pairs([
        ("deal", plain(&d["id"])),
        ("status", plain(&d["status"])),
        ("buyer", plain(&d["buyer"])),
        (
            "price",
            format!("{} of {}", plain(&d["price"]), plain(&d["asset"])),
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
