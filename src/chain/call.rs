//! What can be asked of the contracts, as data: to whom, which bytes, and what it is in words.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::SolCall,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    chain::{
        Addresses,
        abi::{Cancellation, IEntities, IErc20, IMarket, OfferPayload, Payment},
    },
    market::{CancelOption, Offer, Payload},
};

/// A state-changing call, not yet signed by anyone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub to: Address,
    pub data: Bytes,
    /// For people: `claim`, `check-in`, …
    pub what: String,
}

impl Call {
    pub fn new(to: Address, call: &impl SolCall, what: impl Into<String>) -> Self {
        Self {
            to,
            data: call.abi_encode().into(),
            what: what.into(),
        }
    }

    /// As a wallet elsewhere takes it, for `from` to sign.
    pub fn unsigned(&self, chain_id: u64, from: Address) -> Value {
        json!({
            "what": self.what,
            "chainId": chain_id,
            "from": from,
            "to": self.to,
            "value": "0x0",
            "data": self.data,
        })
    }
}

/// The kind of an entity, as the registry knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntityKind {
    Supplier,
    Retailer,
}

impl EntityKind {
    /// The name in bytes, padded with zeros to 32.
    pub fn word(self) -> B256 {
        let name: &[u8] = match self {
            Self::Supplier => b"supplier",
            Self::Retailer => b"retailer",
        };
        B256::right_padding_from(name)
    }
}

/// A reason of more than 32 bytes does not fit the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reason has at most 32 bytes, `{0}` has more")]
pub struct ReasonTooLong(pub String);

/// Every call the node or its owner makes.
impl Addresses {
    pub fn claim(&self, deal: B256) -> Call {
        Call::new(self.market, &IMarket::claimCall { offerId: deal }, "claim")
    }

    /// The buyer gets everything back. The reason is only found in the transaction's data.
    pub fn reject(&self, deal: B256, reason: &str) -> Result<Call, ReasonTooLong> {
        if reason.len() > 32 {
            return Err(ReasonTooLong(reason.to_owned()));
        }
        let reason = B256::right_padding_from(reason.as_bytes());
        let call = IMarket::rejectCall {
            offerId: deal,
            reason,
        };
        Ok(Call::new(self.market, &call, "reject"))
    }

    pub fn refund(&self, deal: B256) -> Call {
        Call::new(
            self.market,
            &IMarket::refundCall { offerId: deal },
            "refund",
        )
    }

    /// `signs`: the sender's own voucher signature first, then the other side's where it is needed.
    pub fn check_in(&self, deal: B256, signs: Vec<Bytes>) -> Call {
        let call = IMarket::checkInCall {
            offerId: deal,
            signs,
        };
        Call::new(self.market, &call, "check-in")
    }

    pub fn check_out(&self, deal: B256) -> Call {
        Call::new(
            self.market,
            &IMarket::checkOutCall { offerId: deal },
            "check-out",
        )
    }

    /// The buyer's acceptance of an offer; the market must be allowed to take the price first.
    pub fn create_deal(&self, offer: &Offer, payment: B256, retailer: B256) -> Call {
        self.deal_with(offer, payment, retailer, vec![offer.signature.clone()])
    }

    /// The same without an allowance: `permit` is the buyer's, for the market as spender, the price as value
    /// and the offer's expiry as deadline.
    pub fn create_deal_with_permit(
        &self,
        offer: &Offer,
        payment: B256,
        retailer: B256,
        permit: Bytes,
    ) -> Call {
        let signs = vec![offer.signature.clone(), permit];
        self.deal_with(offer, payment, retailer, signs)
    }

    fn deal_with(&self, offer: &Offer, payment: B256, retailer: B256, signs: Vec<Bytes>) -> Call {
        let call = IMarket::dealCall {
            offer: payload(&offer.payload),
            paymentOptions: offer
                .payment
                .iter()
                .map(|p| Payment {
                    id: p.id,
                    price: p.price,
                    asset: p.asset,
                })
                .collect(),
            paymentId: payment,
            retailerId: retailer,
            signs,
        };
        Call::new(self.market, &call, "deal")
    }

    pub fn cancel(&self, deal: B256, options: &[CancelOption]) -> Call {
        let call = IMarket::cancelCall {
            offerId: deal,
            options: options
                .iter()
                .map(|o| Cancellation {
                    time: o.time,
                    penalty: o.penalty,
                })
                .collect(),
        };
        Call::new(self.market, &call, "cancel")
    }

    /// Passes the deal on: its NFT goes to another buyer.
    pub fn transfer_deal(&self, from: Address, to: Address, token_id: U256) -> Call {
        let call = IMarket::safeTransferFromCall {
            from,
            to,
            tokenId: token_id,
        };
        Call::new(self.market, &call, "transfer")
    }

    /// Sets (does not add to) what `spender` may take of the sender's tokens.
    pub fn approve(&self, token: Address, spender: Address, amount: U256) -> Call {
        Call::new(token, &IErc20::approveCall { spender, amount }, "approve")
    }

    /// Sets what `spender` may take by the owner's signature (see [`crate::chain::Contracts::permit`]), sent by
    /// anybody. `None`: a signature is 65 bytes.
    pub fn permit_call(
        &self,
        token: Address,
        (owner, spender): (Address, Address),
        value: U256,
        deadline: U256,
        permit: &[u8],
    ) -> Option<Call> {
        let permit: &[u8; 65] = permit.try_into().ok()?;
        let (r, rest) = permit.split_at(32);
        let (s, v) = rest.split_at(32);
        let call = IErc20::permitCall {
            owner,
            spender,
            value,
            deadline,
            v: v[0],
            r: B256::from_slice(r),
            s: B256::from_slice(s),
        };
        Some(Call::new(token, &call, "permit"))
    }

    /// Gives tokens away, in base units.
    pub fn transfer(&self, token: Address, to: Address, amount: U256) -> Call {
        Call::new(token, &IErc20::transferCall { to, amount }, "transfer")
    }

    /// By the entity's owner, like all calls below.
    pub fn register_entity(&self, kind: EntityKind, salt: B256, signer: Address) -> Call {
        let call = IEntities::registerCall {
            kind: kind.word(),
            salt,
            signer,
        };
        Call::new(self.entities, &call, "register entity")
    }

    pub fn toggle_entity(&self, id: B256) -> Call {
        Call::new(
            self.entities,
            &IEntities::toggleEntityCall { id },
            "toggle entity",
        )
    }

    pub fn change_signer(&self, id: B256, signer: Address) -> Call {
        Call::new(
            self.entities,
            &IEntities::changeSignerCall { id, signer },
            "change signer",
        )
    }

    /// The registry (not the market) must be allowed to take the amount first.
    pub fn add_deposit(&self, id: B256, value: U256) -> Call {
        Call::new(
            self.entities,
            &IEntities::addDeposit_0Call { id, value },
            "add deposit",
        )
    }

    /// The same without an allowance: `permit` is the owner's, for the registry as spender.
    pub fn add_deposit_with_permit(
        &self,
        id: B256,
        value: U256,
        deadline: U256,
        permit: Bytes,
    ) -> Call {
        let call = IEntities::addDeposit_1Call {
            id,
            value,
            deadline,
            sign: permit,
        };
        Call::new(self.entities, &call, "add deposit")
    }

    pub fn withdraw_deposit(&self, id: B256, value: U256) -> Call {
        Call::new(
            self.entities,
            &IEntities::withdrawDepositCall { id, value },
            "withdraw deposit",
        )
    }
}

/// The id that the registry gives an entity.
pub fn entity_id(owner: Address, salt: B256) -> B256 {
    alloy::primitives::keccak256([owner.as_slice(), salt.as_slice()].concat())
}

fn payload(p: &Payload) -> OfferPayload {
    OfferPayload {
        id: p.id,
        expire: p.expire,
        supplierId: p.supplier_id,
        chainId: p.chain_id,
        requestHash: p.request_hash,
        optionsHash: p.options_hash,
        paymentHash: p.payment_hash,
        cancelHash: p.cancel_hash,
        transferable: p.transferable,
        checkIn: p.check_in,
        checkOut: p.check_out,
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::hex;

    use super::*;
    use crate::chain::abi::IConfig;

    #[test]
    fn selectors_are_the_deployed_contracts() {
        for (selector, ours) in [
            ("d56f7bcc", IMarket::dealCall::SELECTOR),
            ("bd66528a", IMarket::claimCall::SELECTOR),
            ("04f999c7", IMarket::rejectCall::SELECTOR),
            ("7249fbb6", IMarket::refundCall::SELECTOR),
            ("042bc95b", IMarket::cancelCall::SELECTOR),
            ("4246c1b7", IMarket::checkInCall::SELECTOR),
            ("08122cc7", IMarket::checkOutCall::SELECTOR),
            ("81cd872a", IMarket::dealsCall::SELECTOR),
            ("42842e0e", IMarket::safeTransferFromCall::SELECTOR),
            ("15d7bf44", IEntities::registerCall::SELECTOR),
            ("5cd2256a", IEntities::toggleEntityCall::SELECTOR),
            ("70528312", IEntities::changeSignerCall::SELECTOR),
            ("6e700a7f", IEntities::addDeposit_0Call::SELECTOR),
            ("d42190c4", IEntities::addDeposit_1Call::SELECTOR),
            ("aaf741e4", IMarket::offerTokensCall::SELECTOR),
            ("ca034527", IMarket::tokenOffersCall::SELECTOR),
            ("f2ca5dc5", IMarket::resolveTokenIdCall::SELECTOR),
            ("5c975abb", IMarket::pausedCall::SELECTOR),
            ("79502c55", IMarket::configCall::SELECTOR),
            ("1615fd03", IMarket::entitiesCall::SELECTOR),
            ("2ecb0d64", IConfig::getNumberCall::SELECTOR),
            ("21f8a721", IConfig::getAddressCall::SELECTOR),
            ("73ba10af", IConfig::getMinDepositCall::SELECTOR),
            ("be45a26f", IConfig::variablesCall::SELECTOR),
            ("d505accf", IErc20::permitCall::SELECTOR),
            ("7ecebe00", IErc20::noncesCall::SELECTOR),
            ("254352da", IEntities::withdrawDepositCall::SELECTOR),
            ("53b66f36", IEntities::getEntityCall::SELECTOR),
            ("ee8a1168", IEntities::balanceOfEntityCall::SELECTOR),
            ("a241f54d", IEntities::isEntityEnabledCall::SELECTOR),
        ] {
            assert_eq!(hex::encode(ours), selector);
        }
        assert!(hex::encode(EntityKind::Supplier.word()).starts_with("737570706c69657200"));
    }

    #[test]
    fn a_reason_that_does_not_fit_is_refused() {
        let at = Addresses {
            config: Address::ZERO,
            entities: Address::ZERO,
            market: Address::ZERO,
            token: Address::ZERO,
        };
        assert!(at.reject(B256::ZERO, "no aircraft left").is_ok());
        assert!(at.reject(B256::ZERO, &"x".repeat(33)).is_err());
    }
}
