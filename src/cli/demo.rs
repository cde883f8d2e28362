//! `tradewind demo`: real trades on this machine, told as they happen: one with `--once`, else one after the other
//! until Ctrl-C.

mod live;

use std::{io::IsTerminal, time::Duration};

use tradewind::{
    demo::{Progress, TradeReport, Trader, World, WorldOptions, ms},
    telemetry::logs,
};

use super::{Failure, out};

#[derive(clap::Args)]
pub struct Args {
    /// Trade once and end, moving the chain's clock on.
    #[arg(long)]
    once: bool,
    /// Print one JSON object per trade instead of the story.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    // What the demo's own parts have to say is only of interest when something is wrong.
    logs::init("error", false);
    if !args.once {
        return live::run(args.json).await;
    }
    let trade = trade(&args);
    tokio::select! {
        outcome = trade => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure { message: "interrupted".into(), code: 130 }),
    }
}

async fn trade(args: &Args) -> Result<(), Failure> {
    let mut story = Story {
        quiet: args.json,
        terminal: std::io::stdout().is_terminal(),
    };
    story.say("Tradewind demo: a coordinator, a chain with the market's contracts, a node and a buyer, all on this machine.");
    let world = World::start(WorldOptions::default()).await?;
    story.say(&format!("coordinator  {}", world.coordinator.multiaddr()));
    story.say(&format!(
        "chain        {} (anvil, chain id 31337)",
        world.chain.url()
    ));
    story.say(&format!("supplier     {}", world.chain.supplier_id));
    story.say("");
    let report = once(&world, &mut story).await;
    if report.is_err() {
        let log = std::fs::read_to_string(world.node_log()).unwrap_or_default();
        eprintln!("the node's log:\n{log}");
    }
    let report = report?;
    world.stop().await;
    if args.json {
        out::say(serde_json::to_string(&report)?)?;
    } else {
        story.say("");
        story.say(&format!(
            "The supplier was paid {} {} of {} (the rest is the protocol's fee).",
            report.supplier_paid, report.deal.asset, report.deal.price
        ));
        story.say(&format!(
            "The node was ready in {} ms and uses {} MB.",
            report.ready_ms, report.rss_mb
        ));
    }
    if report.is_settled() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "the deal ended {} on chain and {} in the node's records, not CheckedOut in both",
            report.deal.status, report.node_records_status
        )))
    }
}

/// Starts the node, trades with it, ends it.
async fn once(world: &World, story: &mut Story) -> Result<TradeReport, Failure> {
    let config = world.write_config(&world.node_config())?;
    let mut node = world.spawn_node(&std::env::current_exe()?, &config)?;
    let ready = node.ready(Duration::from_secs(60)).await?;
    story.progress(Progress::Done {
        step: "ready",
        detail: "the node answers".into(),
        took: ready,
    });
    let buyer = world.buyer().await?;
    let mut tell = |progress| story.progress(progress);
    let mut report = Trader::new(world, buyer, &node.control, &mut tell)
        .trade()
        .await?;
    report.ready_ms = ms(ready);
    report.rss_mb = node.rss_mb().unwrap_or_default();
    let exit = node.terminate().await?;
    if exit.success() {
        Ok(report)
    } else {
        Err(Failure::new(format!(
            "the node did not end in order: {exit}"
        )))
    }
}

/// Tells the trade to a person.
struct Story {
    quiet: bool,
    terminal: bool,
}

impl Story {
    fn say(&mut self, line: &str) {
        if !self.quiet {
            // The trade goes to its end, told or not.
            let _ = out::say(line);
        }
    }

    fn progress(&mut self, progress: Progress) {
        match progress {
            // A line that the step's own will replace, where there is a person to see it.
            Progress::Started { step } if self.terminal && !self.quiet => {
                let _ = out::print(format_args!("  … {step}\r"));
            }
            Progress::Started { .. } | Progress::Settled(_) => {}
            Progress::Failed(why) => self.say(&format!("  ✗ {why}")),
            Progress::Done { step, detail, took } => {
                let took = format!("{:.1} ms", took.as_secs_f64() * 1e3);
                let tick = if self.terminal {
                    "\x1b[32m✓\x1b[0m"
                } else {
                    "✓"
                };
                self.say(&format!("  {tick} {step:<10} {took:>10}  {detail}"));
            }
        }
    }
}
