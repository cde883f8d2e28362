//! The demo that stays: a market that goes on trading in real time, to look at and to log in to, until Ctrl-C.
//!
//! The chain mines every second and keeps wall time; every flight leaves a few seconds after it was asked for. On
//! Ctrl-C (or SIGTERM) trading stops, then the node ends in order, then the rest. A second one ends at once.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tradewind::{
    api::Control,
    base::ids,
    demo::{NodeProcess, Progress, TradeReport, Trader, World, WorldOptions, ms},
    devchain,
};

use super::{Failure, out};

/// How far ahead a flight is: long enough for deal, claim and check-in at a block a second.
const AHEAD_SECS: u64 = 5;

/// How long everything may take to end.
const GRACE: Duration = Duration::from_secs(40);

/// The signals that end the demo.
struct Signals {
    int: Signal,
    term: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
        })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}

pub async fn run(json: bool) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let mut view = View::new(json);
    view.say("Tradewind demo: a coordinator, a chain with the market's contracts, a node and a buyer, all on this machine.");
    let options = WorldOptions {
        chain: devchain::Options {
            block_time: Some(1),
            ..Default::default()
        },
        apart: true,
    };
    let world = tokio::select! {
        world = World::start(options) => world?,
        () = signals.told() => return Err(interrupted()),
    };
    let config = world.write_config(&world.node_config())?;
    let mut node = world.spawn_node(&std::env::current_exe()?, &config)?;
    let outcome = tokio::select! {
        outcome = market(&world, &mut node, &config, &mut view) => outcome,
        () = signals.told() => Ok(()),
    };
    view.leave();
    let ended = tokio::select! {
        ended = tokio::time::timeout(GRACE, end(world, node, &mut view)) => {
            ended.unwrap_or_else(|_| Err(Failure::new(format!("not everything ended within {GRACE:?}"))))
        }
        () = signals.told() => Err(interrupted()),
    };
    // What went wrong first is what counts.
    outcome.and(ended)?;
    view.summary();
    Ok(())
}

fn interrupted() -> Failure {
    Failure {
        message: "interrupted".into(),
        code: 130,
    }
}

/// Trades until something fails for good.
async fn market(
    world: &World,
    node: &mut NodeProcess,
    config: &std::path::Path,
    view: &mut View,
) -> Result<(), Failure> {
    let ready = node.ready(Duration::from_secs(60)).await?;
    let (_, probe) = node.control.ask("/ready").await?;
    let api = probe["details"]["api"].as_str().unwrap_or_default();
    let metrics = probe["details"]["metrics"].as_str().unwrap_or_default();
    view.say(&format!("The node was ready in {} ms.", ms(ready)));
    view.say("");
    view.say(&format!(
        "  API          http://{api}  (/openapi.json says what it can do)"
    ));
    view.say(&format!("  metrics      http://{metrics}/metrics"));
    view.say(&format!(
        "  chain        {}  (anvil, chain id 31337)",
        world.chain.url()
    ));
    view.say(&format!("  coordinator  {}", world.coordinator.multiaddr()));
    view.say(&format!("  node's log   {}", world.node_log().display()));
    view.say("");
    view.say("On this machine the node's commands need no login:");
    view.say(&format!("  tradewind status --config {}", config.display()));
    view.say("From anywhere else, the entity's owner logs in:");
    view.say(&format!(
        "  tradewind login --url http://{api} --key-file {} --out {}",
        world.owner_key_file().display(),
        world.dir().join("owner.token").display(),
    ));
    view.say(&format!(
        "  tradewind deals ls --url http://{api} --token-file {}",
        world.dir().join("owner.token").display()
    ));
    view.say("");
    view.say("A trade every few seconds, in real time; Ctrl-C ends all of it in order.");
    let buyer = tokio::time::timeout(Duration::from_secs(60), world.buyer())
        .await
        .map_err(|_| Failure::new("the buyer did not start"))??;
    let control = Control::at(world.node_data_dir().join("control.sock"))?;
    let mut tell = |progress| view.progress(progress);
    let trader = Trader::new(world, buyer, &control, &mut tell).in_real_time(AHEAD_SECS);
    tokio::select! {
        outcome = trade_on(trader) => outcome,
        exit = node.exit() => Err(Failure::new(format!("the node ended by itself: {}", exit?))),
    }
}

async fn trade_on(mut trader: Trader<'_>) -> Result<(), Failure> {
    let mut failures = 0;
    while !out::reader_gone() {
        // The view is lent to the trader; what ends a trade is told the same way.
        match trader.trade().await {
            Ok(report) => {
                failures = 0;
                trader.say(Progress::Settled(Box::new(report)));
            }
            // Somebody may have paused the node, or taken a topic away: that is what the demo is for.
            Err(e) if failures < 20 => {
                failures += 1;
                trader.say(Progress::Failed(e.to_string()));
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The node first, in order; then what it was connected to.
async fn end(world: World, mut node: NodeProcess, view: &mut View) -> Result<(), Failure> {
    let exit = node.terminate().await?;
    if !exit.success() {
        let log = std::fs::read_to_string(world.node_log()).unwrap_or_default();
        eprintln!("the node's log:\n{log}");
        return Err(Failure::new(format!(
            "the node did not end in order: {exit}"
        )));
    }
    view.say("The node ended in order.");
    world.stop().await;
    view.say("Buyer, coordinator and chain ended.");
    Ok(())
}

/// Tells the trades, a line each; on a terminal the line of the one under way is written as it goes.
struct View {
    json: bool,
    terminal: bool,
    trades: usize,
    started: Instant,
    steps: Vec<&'static str>,
}

impl View {
    fn new(json: bool) -> Self {
        Self {
            json,
            terminal: !json && std::io::stdout().is_terminal(),
            trades: 0,
            started: Instant::now(),
            steps: Vec::new(),
        }
    }

    fn say(&self, line: &str) {
        if !self.json {
            // Nobody reading ends the demo, between two trades (`trade_on`).
            let _ = out::say(line);
        }
    }

    fn progress(&mut self, progress: Progress) {
        match progress {
            Progress::Started { step } => {
                if step == "offers" {
                    self.steps.clear();
                    self.started = Instant::now();
                }
                self.line(&format!("{} …", self.so_far(Some(step))));
            }
            Progress::Done { step, .. } => {
                self.steps.push(step);
                self.line(&self.so_far(None));
            }
            Progress::Settled(report) => self.settled(&report),
            Progress::Failed(why) => {
                self.line("");
                self.say(&format!(
                    "  {:>4}  no trade: {why}; trying again",
                    self.trades + 1
                ));
            }
        }
    }

    fn so_far(&self, now: Option<&'static str>) -> String {
        let steps: Vec<_> = self.steps.iter().copied().chain(now).collect();
        format!("  {:>4}  {}", self.trades + 1, steps.join(" · "))
    }

    /// Writes over the line under way.
    fn line(&self, text: &str) {
        if self.terminal {
            let _ = out::print(format_args!("\r\x1b[2K{text}"));
        }
    }

    fn settled(&mut self, report: &TradeReport) {
        self.trades += 1;
        if self.json {
            if let Ok(text) = serde_json::to_string(report) {
                let _ = out::say(text);
            }
            return;
        }
        self.line("");
        self.say(&format!(
            "  {:>4}  {}  {:<32} {:>9} {}  {} in {:.1} s, supplier got {}",
            self.trades,
            ids::short(&report.offer_id.to_string()),
            report.item,
            report.deal.price,
            report.deal.asset,
            report.deal.status,
            self.started.elapsed().as_secs_f64(),
            report.supplier_paid,
        ));
    }

    fn leave(&self) {
        self.line("");
        self.say("\nEnding: no more trades.");
    }

    fn summary(&self) {
        self.say(&format!("{} trades were settled.", self.trades));
    }
}
