//! The contracts manager: permits, deal NFTs, configuration; and the alarms of the entity's watch.

use alloy::primitives::{B256, U256};
use serde_json::json;
use tradewind::{
    chain::{EntityAction, Intent, Registrar, watch_entity},
    market::{DealStatus, Step},
};

use crate::support::{Stage, done, submit, until};

#[tokio::test]
async fn what_the_contracts_say_is_read() {
    let stage = Stage::new().await;
    let c = &stage.contracts;
    let rules = c.market_rules().await.unwrap();
    assert_eq!(rules.asset, c.token);
    assert_eq!(rules.claim_period, U256::from(60));
    assert_eq!(
        (rules.protocol_fee, rules.retailer_fee),
        (U256::from(1), U256::from(1))
    );
    assert_eq!(
        rules.fee_recipient,
        stage.chain.accounts.fee_recipient.address()
    );
    assert_eq!(c.market_wiring().await.unwrap(), (c.config, c.entities));
    assert_eq!(c.token_symbol(c.token).await.unwrap(), "LIF");
    let owner = stage.chain.accounts.owner.address();
    assert_eq!(
        c.permit_nonce(c.token, owner).await.unwrap(),
        Some(U256::ZERO)
    );
    let plain = stage.chain.tokens[0].address;
    assert_eq!(c.permit_nonce(plain, owner).await.unwrap(), None);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_deal_is_paid_with_a_permit_and_its_token_passed_on() {
    let stage = Stage::new().await;
    let accounts = &stage.chain.accounts;
    let c = &stage.contracts;
    let buyer = stage.sender(&accounts.buyer);
    let supplier = stage.sender(&accounts.signer);
    // Deposit tokens take permits; the owner gives the buyer some to pay with.
    let owner = stage.sender(&accounts.owner);
    let gift = c.transfer(c.token, accounts.buyer.address(), U256::from(5_000));
    let tx = submit(&owner, Intent::named(B256::ZERO, "gift", gift)).await;
    done(&owner, &tx).await;
    let mut offer = stage.late_offer().await;
    offer = stage.offer_in(c.token, &offer);
    let option = &offer.payment[0];
    let permit = c
        .permit(
            c.token,
            &accounts.buyer,
            c.market,
            option.price,
            offer.payload.expire,
        )
        .await
        .unwrap()
        .unwrap();
    let call = c.create_deal_with_permit(&offer, option.id, B256::ZERO, permit);
    let tx = submit(&buyer, Intent::named(offer.id, "deal", call)).await;
    done(&buyer, &tx).await;
    let claim = Intent::step(offer.id, Step::Claim, c.claim(offer.id));
    let tx = submit(&supplier, claim).await;
    done(&supplier, &tx).await;
    assert_eq!(stage.status(offer.id).await, Some(DealStatus::Claimed));

    let token = c.deal_token(offer.id).await.unwrap();
    assert_eq!(c.token_deal(token).await.unwrap(), Some(offer.id));
    assert_eq!(
        c.token_owner(token).await.unwrap(),
        Some(accounts.buyer.address())
    );
    assert_eq!(c.token_owner(U256::from(99)).await.unwrap(), None);
    let stranger = accounts.stranger.address();
    let call = c.transfer_deal(accounts.buyer.address(), stranger, token);
    let tx = submit(&buyer, Intent::named(offer.id, "transfer", call)).await;
    done(&buyer, &tx).await;
    assert_eq!(c.token_owner(token).await.unwrap(), Some(stranger));
    assert_eq!(c.deal(offer.id).await.unwrap().unwrap().buyer, stranger);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn what_keeps_the_entity_from_trading_is_named_and_clears() {
    let stage = Stage::new().await;
    let accounts = &stage.chain.accounts;
    let id = stage.chain.supplier_id;
    let (follower, _) = stage.follower(&stage.tasks);
    watch_entity(
        stage.contracts.clone(),
        id,
        accounts.signer.address(),
        follower,
        &stage.config,
        &stage.tasks,
    );
    let registrar = Registrar {
        contracts: stage.contracts.clone(),
        sender: stage.sender(&accounts.owner),
    };
    let named = async |name: &str, is: bool| {
        until(name, || async {
            stage.degraded().iter().any(|d| d == name) == is
        })
        .await;
    };
    let act = async |action| registrar.act(action, id).await.unwrap();
    named("entity", false).await;
    assert_eq!(act(EntityAction::Disable).await.len(), 1);
    named("entity", true).await;
    act(EntityAction::Enable).await;
    named("entity", false).await;
    act(EntityAction::Withdraw(U256::from(1))).await;
    named("entity deposit", true).await;
    // One transaction: the deposit's token takes permits.
    assert_eq!(act(EntityAction::Deposit(U256::from(1))).await.len(), 1);
    named("entity deposit", false).await;
    act(EntityAction::ChangeSigner(accounts.stranger.address())).await;
    named("entity signer", true).await;
    act(EntityAction::ChangeSigner(accounts.signer.address())).await;
    named("entity signer", false).await;
    for (pause, call) in [(true, "0x8456cb59"), (false, "0x3f4ba83a")] {
        let tx = json!([{"from": accounts.deployer.address(), "to": stage.contracts.market, "data": call}]);
        stage
            .chain
            .rpc::<B256>("eth_sendTransaction", tx)
            .await
            .unwrap();
        named("market", pause).await;
    }
    // Gas alone makes no log: another change has it looked at.
    stage
        .chain
        .fund(accounts.signer.address(), U256::from(1000))
        .await
        .unwrap();
    act(EntityAction::Disable).await;
    named("gas", true).await;
    stage.tasks.stop().await;
}
