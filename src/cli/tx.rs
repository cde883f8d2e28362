//! `tradewind tx …`: the node's transactions, and what to do about one that is stuck.

use alloy::primitives::B256;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Failure,
    paging::Paging,
    target::{Ask, One},
    words::{more, pairs, plain, rows, short, table, time},
};

pub const PATH: &str = "/api/v1/admin/transactions";

const STATES: [&str; 6] = [
    "sent",
    "mined",
    "confirmed",
    "reverted",
    "lost",
    "cancelled",
];

#[derive(clap::Subcommand)]
pub enum Command {
    /// List transactions, newest first.
    Ls {
        /// Only those in this state.
        #[arg(long, value_parser = STATES)]
        state: Option<String>,
        /// Only those about this deal.
        #[arg(long, value_name = "ID")]
        deal: Option<B256>,
        #[command(flatten)]
        paging: Paging,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show one transaction.
    Show(One<Uuid>),
    /// Offer more for a transaction that is on its way, at once.
    Bump(One<Uuid>),
    /// Put a transfer of nothing under a transaction's nonce. The step it took is tried again afterwards.
    Cancel(One<Uuid>),
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls {
            state,
            deal,
            paging,
            ask,
        } => {
            let filters = [("state", state), ("deal", deal.map(|id| id.to_string()))];
            let page = paging.walk(&ask.node.connect()?, PATH, &filters).await?;
            ask.tell(&page, |page| listed(page) + &more(page))
        }
        Command::Show(One { id, ask }) => {
            let answer = ask.node.connect()?.get(&format!("{PATH}/{id}")).await?;
            ask.tell(&answer, shown)
        }
        Command::Bump(one) => order(one, "bump").await,
        Command::Cancel(one) => order(one, "cancel").await,
    }
}

async fn order(One { id, ask }: One<Uuid>, verb: &str) -> Result<(), Failure> {
    let path = format!("{PATH}/{id}/{verb}");
    let answer = ask.node.connect()?.post(&path, &json!({})).await?;
    ask.tell(&answer, shown)
}

fn listed(page: &Value) -> String {
    let row = |t: &Value| {
        vec![
            plain(&t["id"]),
            plain(&t["nonce"]),
            plain(&t["state"]),
            plain(&t["step"]),
            short(&t["hash"]),
            plain(&t["block"]),
            plain(&t["error"]),
        ]
    };
    let head = ["ID", "NONCE", "STATE", "STEP", "HASH", "BLOCK", "ERROR"];
    table(&head, rows(&page["items"]).iter().map(row))
}

fn shown(t: &Value) -> String {
    let fee = |key: &str| format!("{} wei", plain(&t[key]));
    pairs([
        ("transaction", plain(&t["id"])),
        ("step", plain(&t["step"])),
        ("deal", plain(&t["deal"])),
        ("state", plain(&t["state"])),
        ("cancelling", plain(&t["cancelling"])),
        ("hash", plain(&t["hash"])),
        ("sent as", rows(&t["hashes"]).len().to_string()),
        ("signer", plain(&t["signer"])),
        ("nonce", plain(&t["nonce"])),
        ("made", time(&t["created"])),
        ("block", plain(&t["block"])),
        (
            "gas",
            format!("{} of {}", plain(&t["gas_used"]), plain(&t["gas"])),
        ),
        ("fee", fee("max_fee")),
        ("tip", fee("max_tip")),
        ("error", plain(&t["error"])),
    ])
}
