//! `tradewind topics …`: which topics the node hears requests on.

use serde_json::{Value, json};
use tradewind::api::in_path;

use super::{
    Failure,
    target::Ask,
    words::{plain, rows, table, time},
};

const TOPICS: &str = "/api/v1/admin/topics";

#[derive(clap::Subcommand)]
pub enum Command {
    /// List the topics: the config's, and those turned on or off since.
    Ls(Ask),
    /// Hear a topic, from now on and after every restart.
    Add(Topic),
    /// Stop hearing a topic, also one of the config's.
    Rm(Topic),
}

#[derive(clap::Args)]
pub struct Topic {
    /// The topic as buyers write it, for example hello.
    topic: String,
    #[command(flatten)]
    ask: Ask,
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls(ask) => {
            let all = ask.node.connect()?.get(TOPICS).await?;
            ask.tell(&all, |all| listed(&all["topics"]))
        }
        Command::Add(Topic { topic, ask }) => {
            let path = format!("{TOPICS}/{}", in_path(&topic));
            let turned = ask.node.connect()?.put(&path, &json!({})).await?;
            ask.tell(&turned, |_| format!("{topic} is heard"))
        }
        Command::Rm(Topic { topic, ask }) => {
            let path = format!("{TOPICS}/{}", in_path(&topic));
            let turned = ask.node.connect()?.delete(&path).await?;
            ask.tell(&turned, |_| format!("{topic} is not heard any more"))
        }
    }
}

pub fn listed(topics: &Value) -> String {
    let row = |t: &Value| {
        let heard = if t["on"] == true { "yes" } else { "no" };
        let by = match t["by"].as_str() {
            Some(by) => by.to_owned(),
            None => "config".to_owned(),
        };
        vec![
            plain(&t["topic"]),
            heard.to_owned(),
            by,
            time(&t["changed"]),
        ]
    };
    table(
        &["TOPIC", "HEARD", "BY", "SINCE"],
        rows(topics).iter().map(row),
    )
}
