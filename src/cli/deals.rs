//! `tradewind deals …`: look at deals and check them in.

use alloy::primitives::B256;
use serde_json::json;
use tradewind::base::Span;

use super::{Failure, target::Target};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show a deal as the node's records have it.
    Show {
        /// The deal's id (its offer's id).
        id: B256,
        #[command(flatten)]
        node: Target,
    },
    /// Check a deal in with the buyer's voucher signature.
    CheckIn {
        /// The deal's id (its offer's id).
        id: B256,
        /// The buyer's signature over Voucher(deal, buyer): 0x and 130 hex digits.
        #[arg(long)]
        signature: String,
        /// Wait for the transaction to be mined, for example 30s.
        #[arg(long)]
        wait: Option<Span>,
        #[command(flatten)]
        node: Target,
    },
}

pub async fn run(command: Command) -> Result<(), Failure> {
    let answer = match command {
        Command::Show { id, node } => {
            let control = node.connect()?;
            control.get(&format!("/api/v1/service/deals/{id}")).await?
        }
        Command::CheckIn {
            id,
            signature,
            wait,
            node,
        } => {
            let control = node.connect()?;
            let query = wait.map_or_else(String::new, |w| format!("?wait={}ms", w.0.as_millis()));
            let path = format!("/api/v1/admin/deals/{id}/check-in{query}");
            control
                .post(&path, &json!({ "signature": signature }))
                .await?
        }
    };
    println!("{answer:#}");
    Ok(())
}
