//! `tradewind buy`: the other side of the market, for trying a node out: asks, takes the cheapest offer, pays.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tradewind::{
    base::Clock,
    buyer::Buyer,
    chain, config,
    market::{Js, Offer, PaymentOption},
    shutdown::Shutdown,
    store,
    telemetry::{Metrics, Tasks, logs},
};

use super::{Failure, target::load, words::pairs};

/// How long a request lives.
const LIFETIME: Duration = Duration::from_secs(600);

/// How long to wait for the first offer, and for one more.
const PATIENCE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub struct Args {
    /// A node's config file: its chain and its coordinators are used.
    #[arg(long, short, env = "TRADEWIND_CONFIG")]
    config: PathBuf,
    /// The file that holds the buyer's private key as hex.
    #[arg(long)]
    key_file: PathBuf,
    /// Where the buyer keeps its transactions.
    #[arg(long, default_value = "buyer")]
    data_dir: PathBuf,
    /// The topic to ask on.
    #[arg(long, default_value = "hello")]
    topic: String,
    /// What to ask for, as JSON, for example '{"date":"2026-12-24T10:00:00Z"}'.
    #[arg(long)]
    query: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    // What is not connected yet is waited for; what goes wrong is the command's own answer.
    logs::init("error", false);
    let query: Value = serde_json::from_str(&args.query)
        .map_err(|e| Failure::new(format!("--query is not JSON: {e}")))?;
    let config = load(&args.config)?;
    let signer = chain::load_signer(&config::Signer {
        key_file: args.key_file.display().to_string(),
        ..Default::default()
    })?;
    std::fs::create_dir_all(&args.data_dir)
        .map_err(|e| Failure::new(format!("{}: {e}", args.data_dir.display())))?;
    let tasks = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
    let store = tokio::task::block_in_place(|| {
        store::open(&config.store, &args.data_dir, Clock::system(), &tasks)
    })?;
    let network = config::Network {
        topics: Vec::new(),
        ..config.network
    };
    let buyer = Buyer::start(
        &network,
        &config.chain,
        signer,
        store.clone(),
        &args.data_dir,
        &tasks,
    )?;
    let outcome = trade(buyer, &args.topic, query).await;
    // In order also when it failed: what was sent is in the journal.
    let _ = tokio::time::timeout(Duration::from_secs(10), tasks.stop()).await;
    let _ = store.close().await;
    let told = outcome?;
    if args.json {
        println!("{told:#}");
    } else {
        let word = |name: &str| super::words::plain(&told[name]);
        let names = [
            "request",
            "offers",
            "deal",
            "price",
            "asset",
            "transaction",
            "voucher",
        ];
        print!("{}", pairs(names.map(|name| (name, word(name)))));
    }
    Ok(())
}

async fn trade(mut buyer: Buyer, topic: &str, query: Value) -> Result<Value, Failure> {
    let request = buyer.ask(topic, Js::from(query), LIFETIME).await?;
    let offers = buyer.offers(&request, QUIET, PATIENCE).await?;
    let Some((offer, payment)) = cheapest(&offers.good) else {
        return Err(Failure::new(format!(
            "no offer that holds came to request {} within {PATIENCE:?}",
            request.id
        )));
    };
    let deal = buyer.accept(offer, payment).await?;
    let voucher = buyer.voucher(offer.id).await?;
    Ok(json!({
        "request": request.id,
        "offers": offers.good.len(),
        "deal": offer.id,
        "price": payment.price.to_string(),
        "asset": payment.asset,
        "transaction": deal.hash,
        "voucher": format!("0x{}", hex::encode(voucher)),
    }))
}

/// By the asset that the first offer names first: what another one is worth is not known here.
fn cheapest(offers: &[Offer]) -> Option<(&Offer, &PaymentOption)> {
    let asset = offers.first()?.payment.first()?.asset;
    let all = offers
        .iter()
        .flat_map(|o| o.payment.iter().map(move |p| (o, p)));
    all.filter(|(_, p)| p.asset == asset)
        .min_by_key(|(_, p)| p.price)
}
