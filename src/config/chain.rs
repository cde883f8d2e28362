//! `[chain]`: which chain and which contracts, how to reach them, and what a transaction may cost.
//!
//! Texts stay texts here; `check` says everything that is wrong with them, and `chain/` parses them.

use alloy::primitives::Address;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::Problems;
use crate::base::Span;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chain {
    /// A public deployment (`hardhat`, `chiado`, `zkevm-testnet`), whose chain id and addresses stand for
    /// what is left out below; empty for none.
    pub network: String,
    /// JSON-RPC endpoints, http or https, the preferred one first. An unhealthy one is skipped and
    /// tried again.
    pub rpc: Vec<String>,
    /// Optional websocket endpoint that only wakes the follower early; empty for none.
    pub ws: String,
    pub chain_id: u64,
    /// Name and version of the market's signing domain (EIP-712).
    pub name: String,
    pub version: String,
    /// Addresses of the contracts. `market` is the proxy, which is also the domain's verifying contract.
    pub config: String,
    pub entities: String,
    pub market: String,
    /// The token that supplier deposits are made in.
    pub token: String,
    /// First block worth reading: the one the market was deployed in, or any later one.
    pub start_block: u64,
    /// Blocks on top of a block before its logs are taken in. 0 reads the newest block at once (right for
    /// a chain that mines on demand); 1 spares most of the one-block reorganisations of public chains.
    /// Reorganisations are healed at any setting.
    pub confirmations: u64,
    /// How many blocks back a reorganisation is undone exactly: logs are remembered this long.
    pub horizon: u64,
    /// Time between two looks at the chain.
    pub poll: Span,
    /// Most blocks asked for in one `eth_getLogs`; shrinks by itself where an endpoint refuses.
    pub chunk: u64,
    /// Longest wait for one answer; under 10 s.
    pub rpc_timeout: Span,
    /// With several endpoints: one that is more than so many blocks behind another is not gone by.
    pub max_lag: u64,
    /// A new block whose time is further than this from our clock is named. 0 for a chain with a clock of its own.
    pub max_drift: Span,
    /// No new block for this long is named. 0 for a chain that mines on demand.
    pub max_quiet: Span,
    /// Most ever offered per gas, in gwei, base fee and tip together. First offers stay a fifth below, so
    /// that a stuck transaction can still be replaced.
    pub max_fee_gwei: u64,
    /// Most ever offered as tip per gas, in gwei, replacements included. First offers stay a fifth below.
    pub max_tip_gwei: u64,
    /// Added to the estimate of a transaction's gas, in percent. Generous, since the state may change before
    /// it is mined (a second claim needs a quarter more than the first), and what is not used costs nothing.
    pub gas_margin_percent: u64,
    /// A transaction estimated above this is not sent.
    pub max_gas: u64,
    /// Not mined for this long: replaced by one that offers at least 12.5 % more, and each time more of it.
    pub stuck_after: Span,
    /// Not mined for this long: the same bytes are sent again.
    pub resend_after: Span,
    /// The signer having less than this to pay for gas is named as degraded, in gwei.
    pub low_gas_gwei: u64,
    /// The supplier's deposit being less than this much of what the market asks for is named as degraded, in
    /// percent. Below 100 it changes nothing: less than the market asks for is named at any setting.
    pub low_deposit_percent: u64,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            network: String::new(),
            rpc: vec!["http://127.0.0.1:8545".to_owned()],
            ws: String::new(),
            chain_id: 31337,
            name: "Market".to_owned(),
            version: "1".to_owned(),
            config: String::new(),
            entities: String::new(),
            market: String::new(),
            token: String::new(),
            start_block: 0,
            confirmations: 1,
            horizon: 64,
            poll: Span::secs(2),
            chunk: 2_000,
            rpc_timeout: Span::secs(5),
            max_lag: 5,
            max_drift: Span::secs(60),
            max_quiet: Span::secs(120),
            max_fee_gwei: 500,
            max_tip_gwei: 50,
            gas_margin_percent: 50,
            max_gas: 3_000_000,
            stuck_after: Span::secs(90),
            resend_after: Span::secs(20),
            low_gas_gwei: 10_000_000,
            low_deposit_percent: 100,
        }
    }
}

impl Chain {
    pub fn check(&self, problems: &mut Problems) {
        const ADDRESS: &str = "a contract address, 0x and 40 hex digits";
        self.check_network(problems);
        problems.check(
            !self.rpc.is_empty(),
            "chain.rpc",
            "is empty",
            "at least one http(s) URL",
        );
        for (n, url) in self.rpc.iter().enumerate() {
            if !has_scheme(url, &["http", "https"]) {
                problems.add(
                    format!("chain.rpc[{n}]"),
                    format!("`{url}` is not an http(s) URL"),
                    "for example http://127.0.0.1:8545",
                );
            }
        }
        problems.check(
            self.ws.is_empty() || has_scheme(&self.ws, &["ws", "wss"]),
            "chain.ws",
            format!("`{}` is not a ws(s) URL", self.ws),
            "empty, or for example ws://127.0.0.1:8546",
        );
        problems.check(
            self.chain_id > 0,
            "chain.chain_id",
            "is 0",
            "the id of the chain, for example 10200",
        );
        for (key, text) in [
            ("chain.config", &self.config),
            ("chain.entities", &self.entities),
            ("chain.market", &self.market),
            ("chain.token", &self.token),
        ] {
            problems.check(
                text.parse::<Address>().is_ok_and(|a| !a.is_zero()),
                key,
                if text.is_empty() {
                    "is missing".to_owned()
                } else {
                    format!("`{text}` is not an address")
                },
                ADDRESS,
            );
        }
        problems.check(
            (1..=4096).contains(&self.horizon),
            "chain.horizon",
            self.horizon,
            "1 to 4096 blocks",
        );
        problems.check(
            self.confirmations <= self.horizon,
            "chain.confirmations",
            format!("{} is above chain.horizon", self.confirmations),
            "0 to chain.horizon",
        );
        problems.check(
            (1..=1_000_000).contains(&self.chunk),
            "chain.chunk",
            self.chunk,
            "1 to 1000000 blocks",
        );
        problems.check(
            self.poll >= Span::millis(10) && self.poll <= Span::secs(3600),
            "chain.poll",
            self.poll,
            "10ms to 1h",
        );
        problems.check(
            self.rpc_timeout >= Span::millis(100) && self.rpc_timeout < Span::secs(10),
            "chain.rpc_timeout",
            self.rpc_timeout,
            "100ms to under 10s",
        );
        problems.check(
            self.max_fee_gwei > 0,
            "chain.max_fee_gwei",
            self.max_fee_gwei,
            "at least 1",
        );
        problems.check(
            (1..=self.max_fee_gwei).contains(&self.max_tip_gwei),
            "chain.max_tip_gwei",
            format!("{} leaves no room for an offer", self.max_tip_gwei),
            "1 to chain.max_fee_gwei (a replacement must offer a higher tip, too)",
        );
        problems.check(
            self.gas_margin_percent <= 400,
            "chain.gas_margin_percent",
            self.gas_margin_percent,
            "0 to 400",
        );
        problems.check(
            self.low_deposit_percent <= 10_000,
            "chain.low_deposit_percent",
            self.low_deposit_percent,
            "0 to 10000",
        );
        problems.check(
            self.max_gas >= 21_000,
            "chain.max_gas",
            self.max_gas,
            "at least 21000",
        );
    }
}

fn has_scheme(text: &str, schemes: &[&str]) -> bool {
    Url::parse(text).is_ok_and(|u| schemes.contains(&u.scheme()) && u.host_str().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_named_at_once() {
        let mut problems = Problems::default();
        Chain {
            rpc: vec!["ftp://somewhere".to_owned()],
            market: "0x12".to_owned(),
            rpc_timeout: Span::secs(60),
            ..Chain::default()
        }
        .check(&mut problems);
        let text = problems.to_string();
        for key in [
            "chain.rpc[0]",
            "chain.market",
            "chain.token",
            "chain.rpc_timeout",
        ] {
            assert!(text.contains(key), "{key} in {text}");
        }
    }
}
