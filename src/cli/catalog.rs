//! `tradewind catalog …`: the items that offers are made of.

use std::{io::Read as _, path::PathBuf};

use serde_json::Value;
use tradewind::api::in_path;

use super::{
    Failure,
    paging::Paging,
    target::{Ask, One},
    words::{more, plain, rows, table, time},
};

const ITEMS: &str = "/api/v1/admin/items";

#[derive(clap::Subcommand)]
pub enum Command {
    /// List the items, by their ids.
    Ls {
        #[command(flatten)]
        paging: Paging,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show an item, as TOML that `add` and `set` take.
    Show(One<String>),
    /// Add an item.
    Add {
        /// The item, as TOML or JSON (as in the config's [[catalog.items]]); - reads standard input.
        file: PathBuf,
        #[command(flatten)]
        ask: Ask,
    },
    /// Replace an item whole.
    Set {
        /// The item's id, as `ls` shows it.
        id: String,
        /// The item, as TOML or JSON; - reads standard input.
        file: PathBuf,
        /// Only if the item is still at this version.
        #[arg(long)]
        if_version: Option<u64>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Take an item out. Offers made already stay binding.
    Rm(One<String>),
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls { paging, ask } => {
            let page = paging.walk(&ask.node.connect()?, ITEMS, &[]).await?;
            ask.tell(&page, |page| listed(page) + &more(page))
        }
        Command::Show(One { id, ask }) => {
            let held = ask.node.connect()?.get(&at(&id)).await?;
            ask.tell(&held, shown)
        }
        Command::Add { file, ask } => {
            let item = read(&file)?;
            let held = ask.node.connect()?.post(ITEMS, &item).await?;
            ask.tell(&held, written)
        }
        Command::Set {
            id,
            file,
            if_version,
            ask,
        } => {
            let item = read(&file)?;
            let control = ask.node.connect()?;
            let held = match if_version {
                Some(version) => control.put_if(&at(&id), version, &item).await?,
                None => control.put(&at(&id), &item).await?,
            };
            ask.tell(&held, written)
        }
        Command::Rm(One { id, ask }) => {
            let gone = ask.node.connect()?.delete(&at(&id)).await?;
            ask.tell(&gone, |_| format!("{id} is gone"))
        }
    }
}

fn at(id: &str) -> String {
    format!("{ITEMS}/{}", in_path(id))
}

/// JSON if it is that, TOML otherwise: no text is both.
fn read(file: &PathBuf) -> Result<Value, Failure> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|t| text = t)
    };
    let named = |e: &dyn std::fmt::Display| Failure::new(format!("{}: {e}", file.display()));
    read.map_err(|e| named(&e))?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).map_err(|e| named(&e));
    }
    toml::from_str(&text).map_err(|e| named(&e))
}

fn written(held: &Value) -> String {
    format!(
        "{} is at version {}",
        plain(&held["item"]["id"]),
        plain(&held["version"])
    )
}

fn listed(page: &Value) -> String {
    let row = |held: &Value| {
        let item = &held["item"];
        let prices = rows(&item["price"]).iter();
        vec![
            plain(&item["id"]),
            plain(&item["name"]),
            format!(
                "{} to {} h",
                plain(&item["min_time"]),
                plain(&item["max_time"])
            ),
            prices
                .map(|p| plain(&p["per_hour"]))
                .collect::<Vec<_>>()
                .join(", "),
            plain(&held["version"]),
            time(&held["updated"]),
        ]
    };
    let head = ["ITEM", "NAME", "LET FOR", "PER HOUR", "VERSION", "CHANGED"];
    table(&head, rows(&page["items"]).iter().map(row))
}

fn shown(held: &Value) -> String {
    let head = format!(
        "# version {}, made {}, changed {}\n",
        plain(&held["version"]),
        time(&held["created"]),
        time(&held["updated"])
    );
    match toml::to_string(&held["item"]) {
        Ok(item) => head + &item,
        Err(_) => format!("{head}{:#}", held["item"]),
    }
}
