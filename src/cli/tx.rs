//! `tradewind tx …`: the node's transactions, and what to do about one that is stuck.

use serde_json::{Value, json};
use tradewind::api::in_path;
use uuid::Uuid;

use super::{
    Failure,
    target::Ask,
    words::{more, pairs, plain, rows, short, table, time},
};

const PATH: &str = "/api/v1/admin/transactions";

#[derive(clap::Subcommand)]
pub enum Command {
    /// List transactions, newest first.
    Ls {
        /// Only those in this state: sent, mined, confirmed, reverted, lost or cancelled.
        #[arg(long)]
        state: Option<String>,
        /// So many at most, 200 at once.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Go on behind the page that said so.
        #[arg(long)]
        after: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show one transaction.
    Show(One),
    /// Offer more for a transaction that is on its way, at once.
    Bump(One),
    /// Put a transfer of nothing under a transaction's nonce. The step it took is tried again afterwards.
    Cancel(One),
}

#[derive(clap::Args)]
pub struct One {
    /// As `ls` and every step name it.
    id: Uuid,
    #[command(flatten)]
    ask: Ask,
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls {
            state,
            limit,
            after,
            ask,
        } => {
            let mut path = format!("{PATH}?limit={limit}");
            for (name, value) in [("state", state), ("after", after)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", in_path(&value)));
                }
            }
            let page = ask.node.connect()?.get(&path).await?;
            ask.tell(&page, |page| listed(page) + &more(page));
        }
        Command::Show(One { id, ask }) => {
            let answer = ask.node.connect()?.get(&format!("{PATH}/{id}")).await?;
            ask.tell(&answer, shown);
        }
        Command::Bump(one) => one.order("bump").await?,
        Command::Cancel(one) => one.order("cancel").await?,
    }
    Ok(())
}

impl One {
    async fn order(&self, verb: &str) -> Result<(), Failure> {
        let path = format!("{PATH}/{}/{verb}", self.id);
        let answer = self.ask.node.connect()?.post(&path, &json!({})).await?;
        self.ask.tell(&answer, shown);
        Ok(())
    }
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
