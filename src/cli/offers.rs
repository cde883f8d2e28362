//! `tradewind offers …`: what was offered, as it was signed.

use alloy::primitives::B256;
use serde_json::Value;

use super::{
    Failure,
    paging::Paging,
    target::{Ask, One},
    words::{more, pairs, plain, rows, short, table, time},
};

const PATH: &str = "/api/v1/admin/offers";

#[derive(clap::Subcommand)]
pub enum Command {
    /// List offers by the time they expire, latest first; those to one request by their ids.
    Ls {
        /// Only the offers to this request.
        #[arg(long, value_name = "ID")]
        request: Option<B256>,
        /// Only offers that expire then or later, for example 2026-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        from: Option<jiff::Timestamp>,
        /// Only offers that expire then or earlier.
        #[arg(long, value_name = "TIME")]
        to: Option<jiff::Timestamp>,
        #[command(flatten)]
        paging: Paging,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show an offer with the message that was published.
    Show(One<B256>),
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls {
            request,
            from,
            to,
            paging,
            ask,
        } => {
            let filters = [
                ("request", request.map(|id| id.to_string())),
                ("expire_from", from.map(|t| t.to_string())),
                ("expire_to", to.map(|t| t.to_string())),
            ];
            let page = paging.walk(&ask.node.connect()?, PATH, &filters).await?;
            ask.tell(&page, |page| listed(page) + &more(page))
        }
        Command::Show(One { id, ask }) => {
            let offer = ask.node.connect()?.get(&format!("{PATH}/{id}")).await?;
            ask.tell(&offer, shown)
        }
    }
}

fn listed(page: &Value) -> String {
    let row = |o: &Value| {
        vec![
            plain(&o["id"]),
            short(&o["request"]),
            time(&o["signed"]),
            time(&o["expires"]),
        ]
    };
    let head = ["OFFER", "REQUEST", "SIGNED", "EXPIRES"];
    table(&head, rows(&page["items"]).iter().map(row))
}

fn shown(o: &Value) -> String {
    let head = pairs([
        ("offer", plain(&o["id"])),
        ("request", plain(&o["request"])),
        ("signed", time(&o["signed"])),
        ("expires", time(&o["expires"])),
    ]);
    format!("{head}\nmessage\n{:#}", o["message"])
}
