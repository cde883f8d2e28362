//! Floor 5: the other side of the market, for demos, tests and integrators.
//!
//! A buyer asks, checks every offer against the entity's signer on chain, makes a deal through the same
//! transaction sender as the node (on a store of its own), and signs vouchers for check-in.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::primitives::{B256, U256};
use tokio::sync::mpsc;

use crate::{
    base::{Clock, ids},
    chain::{ChainError, Contracts, Intent, Sender, SubmitError, Transaction},
    config,
    market::{
        DigestSigner, Js, Offer, PaymentOption, Request, SignError, Signature65,
        eip712::sign_voucher,
    },
    network::{Inbound, NetworkError, Peer, PublishError},
    store::{Batch, SharedStore, StoreError},
    telemetry::Tasks,
};

pub struct Buyer {
    peer: Peer,
    inbound: mpsc::Receiver<Inbound>,
    contracts: Contracts,
    sender: Sender,
    signer: Arc<dyn DigestSigner>,
    clock: Clock,
}

#[derive(Debug, thiserror::Error)]
pub enum BuyerError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("the request was not published: {0}")]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("not connected to the coordinator within {0:?}")]
    NotConnected(Duration),
    #[error("the transaction of `{step}` did not end well: {reason}")]
    NotMined { step: String, reason: String },
}

/// Offers that arrived: the ones that hold, and how many did not.
#[derive(Debug, Default)]
pub struct Offers {
    pub good: Vec<Offer>,
    pub refused: usize,
    /// When the first good one was there.
    pub first: Option<Instant>,
}

impl Buyer {
    /// Connects to the coordinator and the chain; `store` is the buyer's own.
    pub fn start(
        network: &config::Network,
        chain: &config::Chain,
        signer: Arc<dyn DigestSigner>,
        store: SharedStore,
        data_dir: &Path,
        tasks: &Tasks,
    ) -> Result<Self, BuyerError> {
        let (peer, inbound) = Peer::start(network, data_dir, tasks)?;
        let contracts = Contracts::new(chain, tasks)?;
        let sender = Sender::start(contracts.clone(), store, signer.clone(), chain, tasks);
        Ok(Self {
            peer,
            inbound,
            contracts,
            sender,
            signer,
            clock: Clock::system(),
        })
    }

    /// Publishes a request and listens for its offers.
    pub async fn ask(
        &mut self,
        topic: &str,
        query: Js,
        lifetime: Duration,
    ) -> Result<Request, BuyerError> {
        let patience = Duration::from_secs(30);
        let mut connected = self.peer.connected();
        tokio::time::timeout(patience, connected.wait_for(|up| *up))
            .await
            .map_err(|_| BuyerError::NotConnected(patience))?
            .map_err(|_| BuyerError::NotConnected(patience))?;
        let request = Request::new(
            B256::from(ids::random_bytes32()),
            self.clock.unix() + lifetime.as_secs(),
            1,
            topic,
            query,
        );
        let text = request.to_text();
        self.peer.subscribe(&request.id.to_string()).await;
        self.peer.publish(topic, text.into_bytes()).await?;
        Ok(request)
    }

    /// The offers to a request that arrive until `quiet` passed without one, `limit` at the longest.
    pub async fn offers(
        &mut self,
        request: &Request,
        quiet: Duration,
        limit: Duration,
    ) -> Result<Offers, BuyerError> {
        let topic = request.id.to_string();
        let mut offers = Offers::default();
        let end = tokio::time::Instant::now() + limit;
        loop {
            let until = if offers.good.is_empty() {
                end
            } else {
                end.min(tokio::time::Instant::now() + quiet)
            };
            let Ok(Some(message)) = tokio::time::timeout_at(until, self.inbound.recv()).await
            else {
                break;
            };
            if message.topic != topic {
                continue;
            }
            match self.read(request, &message.data).await? {
                Some(offer) => {
                    offers.first.get_or_insert_with(Instant::now);
                    offers.good.push(offer);
                }
                None => offers.refused += 1,
            }
        }
        self.peer.unsubscribe(&topic).await;
        Ok(offers)
    }

    /// An offer that answers our request and is signed by the entity's signer, or nothing.
    async fn read(&self, request: &Request, data: &[u8]) -> Result<Option<Offer>, BuyerError> {
        let Some(offer) = std::str::from_utf8(data)
            .ok()
            .and_then(|text| Offer::parse(text).ok())
        else {
            return Ok(None);
        };
        if offer.payload.request_hash != request.hash() {
            return Ok(None);
        }
        let Some(entity) = self.contracts.entity(offer.payload.supplier_id).await? else {
            return Ok(None);
        };
        Ok(offer
            .verify(&self.contracts.domain(), entity.signer)
            .is_ok()
            .then_some(offer))
    }

    /// Pays for an offer: allows the market to take the price, then makes the deal. Both are mined when
    /// this returns; the deal's transaction is the answer.
    pub async fn accept(
        &self,
        offer: &Offer,
        payment: &PaymentOption,
    ) -> Result<Transaction, BuyerError> {
        let addresses = self.contracts.addresses();
        let allowed = self
            .contracts
            .allowance(payment.asset, self.signer.address(), addresses.market)
            .await?;
        if allowed < payment.price {
            let call = addresses.approve(payment.asset, addresses.market, payment.price);
            self.send(offer.id, "approve", call).await?;
        }
        let call = addresses.create_deal(offer, payment.id, B256::ZERO);
        self.send(offer.id, "deal", call).await
    }

    async fn send(
        &self,
        deal: B256,
        step: &'static str,
        call: crate::chain::Call,
    ) -> Result<Transaction, BuyerError> {
        let intent = Intent::named(deal, step, call);
        let sent = self.sender.submit(intent, Batch::new()).await?;
        let ended = self.sender.wait(sent.id, Duration::from_secs(60)).await?;
        match ended {
            Some(t) if t.state.succeeded() => Ok(t),
            Some(t) => Err(BuyerError::NotMined {
                step: step.to_owned(),
                reason: t.error.unwrap_or_else(|| format!("{:?}", t.state)),
            }),
            None => Err(BuyerError::NotMined {
                step: step.to_owned(),
                reason: "it is unknown".into(),
            }),
        }
    }

    /// The buyer's half of a check-in.
    pub async fn voucher(&self, deal: B256) -> Result<Signature65, BuyerError> {
        Ok(sign_voucher(deal, &*self.signer, &self.contracts.domain()).await?)
    }

    pub fn contracts(&self) -> &Contracts {
        &self.contracts
    }

    /// What this buyer owns of a token, in base units.
    pub async fn balance(&self, token: alloy::primitives::Address) -> Result<U256, BuyerError> {
        Ok(self
            .contracts
            .token_balance(token, self.signer.address())
            .await?)
    }
}
