//! What the registry of entities says to its owners and to others.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    signers::local::PrivateKeySigner,
};
use tradewind::chain::{Call, EntityKind, Fault, entity_id};

use super::{Accepted, Answer, IMore, Says, expect, fault, raw};
use crate::support::{Stage, play};

#[tokio::test]
async fn every_refusal_of_the_registry_has_its_name() {
    let stage = Stage::new().await;
    let a = &stage.chain.accounts;
    let c = &stage.contracts;
    let id = stage.chain.supplier_id;
    let (owner, stranger) = (a.owner.address(), a.stranger.address());
    let salt = B256::repeat_byte(7);
    let unknown = B256::repeat_byte(8);
    let one = U256::from(1);
    let new = |kind, salt, key: &PrivateKeySigner| c.register_entity(kind, salt, key.address());
    let bad_kind = raw(
        c.entities,
        &IMore::registerCall {
            kind: unknown,
            salt,
            signer: stranger,
        },
        "register",
    );
    play(
        &stage,
        stranger,
        &new(EntityKind::Supplier, salt, &a.stranger),
    )
    .await;
    let poor = entity_id(stranger, salt);
    let allow = c.approve(c.token, c.entities, U256::MAX);
    play(&stage, stranger, &allow).await;
    let short = raw(
        c.entities,
        &IMore::addDepositCall {
            id,
            value: one,
            deadline: U256::MAX,
            sign: Bytes::from(vec![1; 10]),
        },
        "deposit",
    );
    let min = c.min_deposit(EntityKind::Supplier).await.unwrap();
    let again = raw(
        c.token,
        &IMore::initializeCall {
            name: "x".into(),
            symbol: "x".into(),
            owner: stranger,
        },
        "initialize",
    );
    let table: Vec<(&str, Call, Address, Answer)> = vec![
        (
            "register a bad kind",
            bad_kind,
            stranger,
            fault(Fault::InvalidKind),
        ),
        (
            "register twice",
            new(EntityKind::Supplier, salt, &a.stranger),
            stranger,
            fault(Fault::EntityExists),
        ),
        (
            "register another",
            new(EntityKind::Supplier, unknown, &a.stranger),
            stranger,
            Accepted,
        ),
        (
            "toggle, not the owner",
            c.toggle_entity(id),
            stranger,
            fault(Fault::NotEntityOwner),
        ),
        (
            "toggle, by the signer",
            c.toggle_entity(id),
            a.signer.address(),
            fault(Fault::NotEntityOwner),
        ),
        (
            "toggle, unknown",
            c.toggle_entity(unknown),
            owner,
            fault(Fault::EntityNotFound),
        ),
        ("toggle", c.toggle_entity(id), owner, Accepted),
        (
            "no signer",
            c.change_signer(id, Address::ZERO),
            owner,
            fault(Fault::InvalidSigner),
        ),
        (
            "change the signer, not the owner",
            c.change_signer(id, stranger),
            stranger,
            fault(Fault::NotEntityOwner),
        ),
        (
            "deposit too little",
            c.add_deposit(poor, min - one),
            stranger,
            fault(Fault::DepositTooSmall),
        ),
        (
            "deposit, not the owner",
            c.add_deposit(id, one),
            stranger,
            fault(Fault::NotEntityOwner),
        ),
        (
            "deposit, short permit",
            short,
            owner,
            fault(Fault::InvalidSignature),
        ),
        (
            "withdraw too much",
            c.withdraw_deposit(id, min + one),
            owner,
            fault(Fault::DepositNotEnough),
        ),
        (
            "withdraw, not the owner",
            c.withdraw_deposit(id, one),
            stranger,
            fault(Fault::NotEntityOwner),
        ),
        ("withdraw", c.withdraw_deposit(id, one), owner, Accepted),
        (
            "initialize again",
            again,
            stranger,
            Says("Initializable: contract is already initialized"),
        ),
    ];
    for (what, call, from, wanted) in table {
        expect(&stage, what, &call, from, wanted).await;
    }
    assert_eq!(c.entity(unknown).await.unwrap(), None);
    assert!(!c.entity_enabled(unknown).await.unwrap());
    stage.tasks.stop().await;
}
