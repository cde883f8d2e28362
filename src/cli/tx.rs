//! `tradewind tx …`: the node's transactions, and what to do about one that is stuck.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Failure, target::Target};

#[derive(clap::Subcommand)]
pub enum Command {
    /// List transactions, newest first.
    Ls {
        /// Only those in this state: sent, mined, confirmed, reverted, lost or cancelled.
        #[arg(long)]
        state: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Print the node's JSON instead of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: Target,
    },
    /// Show one transaction.
    Show {
        id: Uuid,
        #[command(flatten)]
        node: Target,
    },
    /// Offer more for a transaction that is on its way, at once.
    Bump {
        id: Uuid,
        #[command(flatten)]
        node: Target,
    },
    /// Put a transfer of nothing under a transaction's nonce. The step it took is tried again afterwards.
    Cancel {
        id: Uuid,
        #[command(flatten)]
        node: Target,
    },
}

pub async fn run(command: Command) -> Result<(), Failure> {
    const PATH: &str = "/api/v1/admin/transactions";
    let answer = match command {
        Command::Ls {
            state,
            limit,
            json,
            node,
        } => {
            let state = state.map_or_else(String::new, |s| format!("&state={s}"));
            let path = format!("{PATH}?limit={limit}{state}");
            let answer = node.connect()?.get(&path).await?;
            if !json {
                table(&answer);
                return Ok(());
            }
            answer
        }
        Command::Show { id, node } => node.connect()?.get(&format!("{PATH}/{id}")).await?,
        Command::Bump { id, node } => {
            let path = format!("{PATH}/{id}/bump");
            node.connect()?.post(&path, &json!({})).await?
        }
        Command::Cancel { id, node } => {
            let path = format!("{PATH}/{id}/cancel");
            node.connect()?.post(&path, &json!({})).await?
        }
    };
    println!("{answer:#}");
    Ok(())
}

fn table(answer: &Value) {
    println!(
        "{:<36}  {:>6}  {:<10} {:<12} {:<18} error",
        "id", "nonce", "state", "step", "hash"
    );
    for tx in answer["items"].as_array().into_iter().flatten() {
        let text = |key: &str| tx[key].as_str().unwrap_or_default();
        let hash: String = text("hash").chars().take(18).collect();
        println!(
            "{:<36}  {:>6}  {:<10} {:<12} {hash:<18} {}",
            text("id"),
            tx["nonce"],
            text("state"),
            text("step"),
            text("error")
        );
    }
}
