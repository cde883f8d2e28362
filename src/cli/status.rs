//! `tradewind status`, `pause` and `resume`.

use serde_json::{Value, json};

use super::{
    Failure,
    target::Ask,
    topics,
    words::{pairs, plain, rows, table, time},
};

pub async fn status(ask: Ask) -> Result<(), Failure> {
    let status = ask.node.connect()?.get("/api/v1/admin/status").await?;
    ask.tell(&status, in_words)
}

#[derive(clap::Args)]
pub struct PauseArgs {
    /// For people: shown in the status, and in why a request got no offer.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

pub async fn pause(args: PauseArgs) -> Result<(), Failure> {
    let control = args.ask.node.connect()?;
    let body = json!({ "reason": args.reason });
    let stands = control.post("/api/v1/admin/answering/pause", &body).await?;
    args.ask.tell(&stands, answering)
}

pub async fn resume(ask: Ask) -> Result<(), Failure> {
    let control = ask.node.connect()?;
    let path = "/api/v1/admin/answering/resume";
    let stands = control.post(path, &json!({})).await?;
    ask.tell(&stands, answering)
}

fn answering(s: &Value) -> String {
    let Some(pause) = s["pause"].as_object() else {
        return "requests are answered".to_owned();
    };
    let why = pause["reason"].as_str().map(|r| format!(": {r}"));
    format!(
        "paused since {} by {}{}",
        time(&pause["since"]),
        plain(&pause["by"]),
        why.unwrap_or_default()
    )
}

fn in_words(s: &Value) -> String {
    let chain = &s["chain"];
    let trouble = chain["trouble"].as_str().map(|t| format!(", {t}"));
    let mut text = pairs([
        (
            "node",
            format!("{}, version {}", plain(&s["phase"]), plain(&s["version"])),
        ),
        ("started", time(&s["started"])),
        ("supplier", plain(&s["supplier"])),
        ("signer", plain(&s["signer"])),
        ("answering", answering(&s["answering"])),
        (
            "chain",
            format!(
                "id {}, block {} taken in, head {}, {} behind{}",
                plain(&s["chain_id"]),
                plain(&chain["cursor"]),
                plain(&chain["head"]),
                plain(&chain["lag"]),
                trouble.unwrap_or_default()
            ),
        ),
        (
            "queue",
            format!(
                "{} of {} jobs run",
                plain(&s["queue"]["running"]),
                plain(&s["queue"]["limit"])
            ),
        ),
        ("events", plain(&s["events"])),
    ]);
    let hub = |c: &Value| {
        let up = if c["connected"] == true {
            "connected"
        } else {
            "away"
        };
        vec![
            plain(&c["address"]),
            up.to_owned(),
            time(&c["since"]),
            plain(&c["messages_in"]),
            plain(&c["messages_out"]),
        ]
    };
    let head = ["COORDINATOR", "STATE", "SINCE", "IN", "OUT"];
    text += &format!(
        "\n{}",
        table(&head, rows(&s["coordinators"]).iter().map(hub))
    );
    text += &format!("\n{}", topics::listed(&s["topics"]));
    let troubles = rows(&s["degraded"]);
    if !troubles.is_empty() {
        let row = |d: &Value| vec![plain(&d["name"]), time(&d["since"]), plain(&d["reason"])];
        text += &format!(
            "\n{}",
            table(&["TROUBLE", "SINCE", "REASON"], troubles.iter().map(row))
        );
    }
    let row = |l: &Value| {
        vec![
            plain(&l["name"]),
            plain(&l["state"]),
            time(&l["since"]),
            plain(&l["restarts"]),
            plain(&l["waits_for"]),
        ]
    };
    let head = ["LOOP", "STATE", "SINCE", "RESTARTS", "WAITS FOR"];
    text + &format!("\n{}", table(&head, rows(&s["loops"]).iter().map(row)))
}
