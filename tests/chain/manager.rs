//! The contracts manager: permits, deal NFTs, configuration; and the alarms of the entity's watch.

use alloy::primitives::{Address, B256, U64, U256};
use serde_json::json;
use tradewind::{
    chain::{
        Call, ChainError, EntityAction, EntityError, EntityKind, Intent, Registrar,
        TransactionState, watch_entity,
    },
    market::{DealStatus, Step},
    store::Batch,
};

use crate::support::{LIMIT, Stage, done, play, submit, until};

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
    let mut names = c.variables().await.unwrap();
    names.sort();
    assert_eq!(
        names,
        [
            "asset",
            "claim_period",
            "fee_recipient",
            "protocol_fee",
            "retailer_fee"
        ]
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
    assert_eq!(c.resolve_token(token).await.unwrap(), Some(offer.id));
    assert_eq!(c.resolve_token(U256::from(99)).await.unwrap(), None);
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

/// Signed by one, sent by another, who pays for it.
#[tokio::test]
async fn a_permit_is_an_allowance() {
    let stage = Stage::new().await;
    let (owner, c) = (&stage.chain.accounts.owner, &stage.contracts);
    let spender = stage.chain.accounts.buyer.address();
    let (value, until) = (U256::from(7), U256::MAX);
    let permit = c.permit(c.token, owner, spender, value, until).await;
    let permit = permit.unwrap().unwrap();
    let parties = (owner.address(), spender);
    let call = |signed: &[u8]| c.permit_call(c.token, parties, value, until, signed);
    assert_eq!(call(&permit[1..]), None);
    let call = call(&permit).unwrap();
    play(&stage, stage.chain.accounts.stranger.address(), &call).await;
    let allowed = c.allowance(c.token, owner.address(), spender).await;
    assert_eq!(allowed.unwrap(), value);
    stage.tasks.stop().await;
}

/// One address is wrong: what does not depend on it is judged all the same, and what does is named.
#[tokio::test]
async fn an_alarm_that_cannot_be_judged_silences_no_other() {
    let stage = Stage::with(|chain| chain.config = Address::repeat_byte(7).to_string()).await;
    let accounts = &stage.chain.accounts;
    let id = stage.chain.supplier_id;
    let (follower, _) = stage.follower(&stage.tasks);
    let (c, signer) = (stage.contracts.clone(), accounts.signer.address());
    let toggle = c.toggle_entity(id);
    play(&stage, accounts.owner.address(), &toggle).await;
    watch_entity(c, id, signer, follower, &stage.config, &stage.tasks);
    for name in ["contracts", "entity", "entity watch"] {
        until(name, || async {
            stage.degraded().iter().any(|d| d == name)
        })
        .await;
    }
    let register = &stage.tasks.register;
    let own = register.degraded().into_iter();
    let own = own.filter(|d| d.name == "entity watch");
    let reasons: Vec<String> = own.map(|d| d.reason).collect();
    assert!(reasons[0].contains("entity deposit"), "{reasons:?}");
    play(&stage, accounts.owner.address(), &toggle).await;
    until("entity", || async {
        stage.degraded().iter().all(|d| d != "entity")
    })
    .await;
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_deposit_that_runs_low_is_named_by_the_margin_that_is_wanted() {
    let stage = Stage::with(|chain| chain.low_deposit_percent = 101).await;
    let accounts = &stage.chain.accounts;
    let (c, id) = (stage.contracts.clone(), stage.chain.supplier_id);
    let (follower, _) = stage.follower(&stage.tasks);
    let signer = accounts.signer.address();
    watch_entity(c.clone(), id, signer, follower, &stage.config, &stage.tasks);
    let named = async |is: bool| {
        until("entity deposit", || async {
            stage.degraded().iter().any(|d| d == "entity deposit") == is
        })
        .await;
    };
    named(true).await;
    let min = c.min_deposit(EntityKind::Supplier).await.unwrap();
    let registrar = Registrar::new(c, stage.sender(&accounts.owner));
    let more = EntityAction::Deposit(min / U256::from(100));
    registrar.act(more, id).await.unwrap();
    named(false).await;
    stage.tasks.stop().await;
}

/// A process that was killed between approval and deposit leaves the approval, which counts; no second one is sent.
#[tokio::test]
async fn a_deposit_goes_on_from_its_approval() {
    let stage = Stage::new().await;
    let (owner, c) = (stage.chain.accounts.owner.address(), &stage.contracts);
    let five = EntityAction::Deposit(U256::from(5));
    let plan = async || {
        let planned = five.plan(c, stage.chain.supplier_id, owner, None, 0).await;
        planned.unwrap()
    };
    let calls = plan().await;
    let names = |calls: &[Call]| calls.iter().map(|c| c.what.clone()).collect::<Vec<_>>();
    assert_eq!(names(&calls), ["approve", "add deposit"]);
    play(&stage, owner, &calls[0]).await;
    let calls = plan().await;
    assert_eq!(names(&calls), ["add deposit"]);
    play(&stage, owner, &calls[0]).await;
    // An endpoint that does not know what was done yet is not asked what is to be done.
    let head = c.head().await.unwrap().number;
    let early = EntityAction::Enable
        .plan(c, stage.chain.supplier_id, owner, None, head + 1)
        .await;
    let is_behind = |e: &EntityError| matches!(e, EntityError::Chain(ChainError::Behind(_)));
    assert!(early.as_ref().is_err_and(is_behind), "{early:?}");
    stage.tasks.stop().await;
}

/// Retried by a caller that was cut off, by another, and by the next run of the process: one transaction.
#[tokio::test]
async fn a_wish_asked_again_while_it_is_under_way_is_carried_out_once() {
    let stage = Stage::new().await;
    let owner = &stage.chain.accounts.owner;
    let (c, id) = (&stage.contracts, stage.chain.supplier_id);
    let registrar = Registrar::new(c.clone(), stage.sender(owner));
    let next_run = Registrar::new(c.clone(), stage.sender(owner));
    registrar.act(EntityAction::Disable, id).await.unwrap();
    let has = c.entity_deposit(id).await.unwrap();
    let five = U256::from(5);
    for action in [
        EntityAction::Enable,
        EntityAction::Deposit(five),
        EntityAction::Withdraw(five),
    ] {
        stage.chain.automine(false).await.unwrap();
        let nonce = nonces(&stage).await.0;
        let start = |r: &Registrar| r.start(action, id, Batch::new());
        let sent = start(&registrar).begun(LIMIT).await.transactions;
        assert_eq!(sent.len(), 1, "{action}");
        let mut again = start(&registrar);
        let mut later = start(&next_run);
        for asked in [&mut again, &mut later] {
            assert_eq!(asked.begun(LIMIT).await.transactions[0].id, sent[0].id);
        }
        stage.chain.automine(true).await.unwrap();
        stage.chain.mine(1).await.unwrap();
        for asked in [&mut again, &mut later] {
            let ended = asked.ended(LIMIT).await;
            assert!(matches!(ended.outcome, Some(Ok(()))), "{action} {ended:?}");
            assert_eq!(ended.transactions.len(), 1);
            assert_eq!(ended.transactions[0].state, TransactionState::Mined);
        }
        assert_eq!(nonces(&stage).await, (nonce + 1, nonce + 1), "{action}");
        let now = c.entity_deposit(id).await.unwrap();
        match action {
            EntityAction::Deposit(_) => assert_eq!(now, has + five),
            _ => assert_eq!(now, has),
        }
        assert!(c.entity(id).await.unwrap().unwrap().enabled);
    }

    // Asked again after its end it is another wish; opposite ones take turns, in the order they were asked in.
    registrar
        .act(EntityAction::Deposit(five), id)
        .await
        .unwrap();
    assert_eq!(c.entity_deposit(id).await.unwrap(), has + five);
    stage.chain.automine(false).await.unwrap();
    let mut off = registrar.start(EntityAction::Disable, id, Batch::new());
    off.begun(LIMIT).await;
    let mut on = registrar.start(EntityAction::Enable, id, Batch::new());
    stage.chain.automine(true).await.unwrap();
    stage.chain.mine(1).await.unwrap();
    for ended in [off.ended(LIMIT).await, on.ended(LIMIT).await] {
        assert!(matches!(ended.outcome, Some(Ok(()))), "{ended:?}");
        assert_eq!(ended.transactions.len(), 1);
    }
    assert!(c.entity(id).await.unwrap().unwrap().enabled);
    stage.tasks.stop().await;
}

/// The owner's transactions: mined, and with those on their way.
async fn nonces(stage: &Stage) -> (u64, u64) {
    let owner = stage.chain.accounts.owner.address();
    let count = async |block: &str| {
        let count: U64 = stage
            .chain
            .rpc("eth_getTransactionCount", json!([owner, block]))
            .await
            .unwrap();
        count.to::<u64>()
    };
    (count("latest").await, count("pending").await)
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
    let registrar = Registrar::new(stage.contracts.clone(), stage.sender(&accounts.owner));
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
