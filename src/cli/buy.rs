//! `tradewind buy`: the other side of the market, for trying a node out: asks, takes the cheapest offer, pays.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use tradewind::{
    base::{Clock, money},
    buyer::Buyer,
    chain, config,
    market::{Js, Offer, PaymentOption},
    shutdown::Shutdown,
    store,
    telemetry::{Metrics, Tasks, logs},
};

use super::{
    Failure, out,
    target::load,
    words::{pairs, plain},
};

/// How long a request lives.
const LIFETIME: Duration = Duration::from_secs(600);

/// How long to wait for the first offer, and for one more.
const PATIENCE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub struct Args {
    /// A node's config file: its chain and its coordinators are used.
    #[arg(long, short, value_name = "FILE", env = "TRADEWIND_CONFIG")]
    config: PathBuf,
    /// The file that holds the buyer's private key as hex.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Where the buyer keeps its transactions.
    #[arg(long, value_name = "DIR", default_value = "buyer")]
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
        out::say(format_args!("{told:#}"))
    } else {
        let word = |name: &str| match name {
            "price" => price(&told),
            name => plain(&told[name]),
        };
        let names = [
            "request",
            "offers",
            "deal",
            "price",
            "asset",
            "transaction",
            "voucher",
        ];
        out::print(pairs(names.map(|name| (name, word(name)))))
    }
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
    // Bought it is; a chain that stops answering now only makes the price harder to read.
    let decimals = buyer.contracts().token_decimals(payment.asset).await;
    Ok(json!({
        "request": request.id,
        "offers": offers.good.len(),
        "deal": offer.id,
        "price": payment.price.to_string(),
        "asset": payment.asset,
        "decimals": decimals.ok(),
        "transaction": deal.hash,
        "voucher": format!("0x{}", hex::encode(voucher)),
    }))
}

/// In whole tokens, if it is known what they are.
fn price(told: &Value) -> String {
    let units = plain(&told["price"]);
    let decimals = told["decimals"].as_u64().and_then(|d| d.try_into().ok());
    match (units.parse(), decimals) {
        (Ok(number), Some(decimals)) => money::format_amount(number, decimals),
        _ => format!("{units} base units"),
    }
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
