//! `tradewind entity …`: from nothing to an enabled supplier, and back.
//!
//! Speaks to the chain itself, with the owner's key (`[owner]`) and a ledger of its own in
//! `<data_dir>/owner`; needs no running node. `--unsigned` prints the calls to be signed elsewhere instead.

use std::{path::PathBuf, sync::Arc};

use alloy::primitives::{Address, B256, U256};
use serde_json::json;
use tradewind::{
    base::{Clock, ids, money},
    chain::{Contracts, EntityAction, EntityStatus, Registrar, Sender, load_owner, load_signer},
    config::Config,
    market::DigestSigner,
    shutdown::Shutdown,
    store,
    telemetry::{Metrics, Tasks, logs},
};

use super::{Failure, out};

#[derive(clap::Args)]
pub struct Common {
    /// The node's config file: [chain], [owner], and [supplier] once there is an id.
    #[arg(long, short, env = "TRADEWIND_CONFIG")]
    config: PathBuf,
    /// The entity, instead of the config's.
    #[arg(long)]
    id: Option<B256>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct Signing {
    /// Print the calls for the owner to sign elsewhere, and send nothing.
    #[arg(long)]
    unsigned: bool,
    /// The owner's address, for unsigned calls without the owner's key.
    #[arg(long, requires = "unsigned")]
    owner: Option<Address>,
}

#[derive(clap::Subcommand)]
pub enum Command {
    /// How the entity stands, and what keeps it from trading.
    Status {
        #[command(flatten)]
        common: Common,
    },
    /// Register a new supplier.
    Register {
        /// 32 bytes that with the owner's address make the id; random if left out.
        #[arg(long)]
        salt: Option<B256>,
        /// The key that signs offers and claims deals; the config's [signer] if left out.
        #[arg(long)]
        signer: Option<Address>,
        #[command(flatten)]
        signing: Signing,
        #[command(flatten)]
        common: Common,
    },
    /// Let deals be made with it.
    Enable {
        #[command(flatten)]
        signing: Signing,
        #[command(flatten)]
        common: Common,
    },
    /// Let no more deals be made with it. Deals there are go on.
    Disable {
        #[command(flatten)]
        signing: Signing,
        #[command(flatten)]
        common: Common,
    },
    /// Name another signer. Voids every outstanding offer.
    Signer {
        /// The new signer's address.
        address: Address,
        #[command(flatten)]
        signing: Signing,
        #[command(flatten)]
        common: Common,
    },
    /// Add to the deposit, in whole tokens.
    Deposit {
        /// In whole tokens, for example 100.5.
        amount: String,
        #[command(flatten)]
        signing: Signing,
        #[command(flatten)]
        common: Common,
    },
    /// Take from the deposit, in whole tokens.
    Withdraw {
        /// In whole tokens, for example 100.5.
        amount: String,
        #[command(flatten)]
        signing: Signing,
        #[command(flatten)]
        common: Common,
    },
}

/// What all of them need.
struct Desk {
    config: Config,
    contracts: Contracts,
    tasks: Tasks,
    json: bool,
    id: Option<B256>,
}

impl Desk {
    fn open(common: Common) -> Result<Self, Failure> {
        logs::init("error", false);
        // A supplier that does not exist yet has no whole config.
        let sections = ["chain", "owner", "node", "store"];
        let config = Config::load_partly(&common.config, std::env::vars(), &sections)
            .map_err(|e| Failure::config(e.to_string()))?;
        let tasks = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
        let contracts = Contracts::new(&config.chain, &tasks)?;
        let held = config.supplier.id;
        Ok(Self {
            id: common.id.or((!held.is_zero()).then_some(held)),
            config,
            contracts,
            tasks,
            json: common.json,
        })
    }

    fn id(&self) -> Result<B256, Failure> {
        self.id.ok_or_else(|| {
            Failure::config("which entity? Set supplier.id in the config, or give --id; `tradewind entity register` makes one")
        })
    }

    async fn units(&self, amount: &str) -> Result<U256, Failure> {
        let decimals = self.contracts.token_decimals(self.contracts.token).await?;
        Ok(money::parse_amount(amount, decimals)?)
    }

    fn owner_key(&self) -> Result<Option<Arc<dyn DigestSigner>>, Failure> {
        load_owner(&self.config.owner).map_err(|e| Failure::config(e.to_string()))
    }

    async fn act(&self, action: EntityAction, signing: &Signing) -> Result<(), Failure> {
        let key = self.owner_key()?;
        let is_new = matches!(action, EntityAction::Register { .. });
        let id = if is_new { B256::ZERO } else { self.id()? };
        if signing.unsigned {
            let owner = signing.owner.or(key.as_ref().map(|k| k.address()));
            let owner = owner.ok_or_else(|| {
                Failure::new("who is the owner? Give --owner ADDRESS, or configure [owner]")
            })?;
            let calls = action.plan(&self.contracts, id, owner, None, 0).await?;
            let chain = self.contracts.chain_id();
            let calls: Vec<_> = calls.iter().map(|c| c.unsigned(chain, owner)).collect();
            // The calls alone on stdout, for a file or a pipe; the rest is for whoever sends them.
            out::say(format_args!("{:#}", json!(calls)))?;
            if let EntityAction::Register { salt, .. } = action {
                eprintln!("salt: {salt}");
                eprintln!("the entity's id once it is registered, for supplier.id in the config:");
                eprintln!("{}", action.subject(id, owner));
            }
            return Ok(());
        }
        let key = key.ok_or_else(|| {
            Failure::config(format!(
                "no owner's key: set {}, or name a file in [owner]; or print the calls with --unsigned",
                self.config.owner.key_env
            ))
        })?;
        let home = self.config.node.data_dir.join("owner");
        std::fs::create_dir_all(&home)?;
        let ledger = tokio::task::block_in_place(|| {
            store::open(&self.config.store, &home, Clock::system(), &self.tasks)
        })?;
        let sender = Sender::start(
            self.contracts.clone(),
            ledger.clone(),
            key,
            &self.config.chain,
            &self.tasks,
        );
        let registrar = Registrar::new(self.contracts.clone(), sender);
        let outcome = registrar.act(action, id).await;
        let owner = registrar.owner();
        self.tasks.stop().await;
        ledger.close().await?;
        let sent = outcome?;
        let id = action.subject(id, owner);
        if self.json {
            let sent: Vec<_> = sent
                .iter()
                .map(|t| json!({"what": t.call.what, "hash": t.hash, "block": t.block, "gas_used": t.gas_used}))
                .collect();
            out::say(format_args!(
                "{:#}",
                json!({"entity": id, "owner": owner, "transactions": sent})
            ))?;
            return Ok(());
        }
        if sent.is_empty() {
            out::say("it is so already; nothing was sent")?;
        }
        for tx in &sent {
            out::say(format_args!(
                "{}: {} in block {}",
                tx.call.what,
                tx.hash,
                tx.block.unwrap_or_default()
            ))?;
        }
        if is_new {
            out::say("the entity's id, for supplier.id in the config:")?;
            out::say(id)?;
        }
        Ok(())
    }

    async fn status(&self) -> Result<(), Failure> {
        // Not needed to look; with it, what the registry has is compared.
        let signer = load_signer(&self.config.signer).ok().map(|k| k.address());
        let status = EntityStatus::read(&self.contracts, self.id()?, signer).await?;
        if self.json {
            out::say(format_args!("{:#}", serde_json::to_value(&status)?))?;
            return Ok(());
        }
        let token = self.contracts.token;
        let decimals = self.contracts.token_decimals(token).await?;
        let symbol = self.contracts.token_symbol(token).await?;
        let amount = |units: &str| {
            let units = units.parse().unwrap_or(U256::ZERO);
            format!("{} {symbol}", money::format_amount(units, decimals))
        };
        let or_none = |a: Option<Address>| a.map_or_else(|| "-".to_owned(), |a| a.to_string());
        out::say(format_args!("entity    {}", status.id))?;
        out::say(format_args!("owner     {}", or_none(status.owner)))?;
        out::say(format_args!("signer    {}", or_none(status.signer)))?;
        out::say(format_args!(
            "deposit   {} (the market asks for {})",
            amount(&status.deposit),
            amount(&status.min_deposit)
        ))?;
        out::say(format_args!(
            "enabled   {}",
            if status.enabled { "yes" } else { "no" }
        ))?;
        if status.problems.is_empty() {
            out::say("it can trade")?;
        } else {
            out::say("it cannot trade:")?;
        }
        for problem in &status.problems {
            out::say(format_args!("- {problem}"))?;
        }
        Ok(())
    }
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Status { common } => Desk::open(common)?.status().await,
        Command::Register {
            salt,
            signer,
            signing,
            common,
        } => {
            let desk = Desk::open(common)?;
            let signer = match signer {
                Some(signer) => signer,
                None => load_signer(&desk.config.signer)
                    .map_err(|e| Failure::config(format!("{e}; or give --signer ADDRESS")))?
                    .address(),
            };
            let salt = salt.unwrap_or_else(|| ids::random_bytes32().into());
            desk.act(EntityAction::Register { salt, signer }, &signing)
                .await
        }
        Command::Enable { signing, common } => {
            Desk::open(common)?
                .act(EntityAction::Enable, &signing)
                .await
        }
        Command::Disable { signing, common } => {
            Desk::open(common)?
                .act(EntityAction::Disable, &signing)
                .await
        }
        Command::Signer {
            address,
            signing,
            common,
        } => {
            let desk = Desk::open(common)?;
            desk.act(EntityAction::ChangeSigner(address), &signing)
                .await
        }
        Command::Deposit {
            amount,
            signing,
            common,
        } => {
            let desk = Desk::open(common)?;
            let units = desk.units(&amount).await?;
            desk.act(EntityAction::Deposit(units), &signing).await
        }
        Command::Withdraw {
            amount,
            signing,
            common,
        } => {
            let desk = Desk::open(common)?;
            let units = desk.units(&amount).await?;
            desk.act(EntityAction::Withdraw(units), &signing).await
        }
    }
}
