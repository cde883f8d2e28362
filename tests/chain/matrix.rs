//! Every transition of a deal and every refusal that the contracts' failure matrix lists, by table.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    signers::{SignerSync, local::PrivateKeySigner},
    sol,
    sol_types::SolCall,
};
use serde_json::json;
use tradewind::{
    base::ids,
    chain::{Call, ChainError, EntityKind, Fault, Intent, Revert, entity_id},
    market::{DealStatus, Offer, Step, eip712::offer_digest},
};

use crate::support::{Stage, done, submit, until, voucher};

sol! {
    interface IMore {
        function register(bytes32 kind, bytes32 salt, address signer) external;
        function initialize(string name, string symbol, address owner) external;
        function pause() external;
        function unpause() external;
        function mint(address to, uint256 amount) external;
        function addDeposit(bytes32 id, uint256 value, uint256 deadline, bytes sign) external;
    }
}

/// What a call answers.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Accepted,
    Fault(Fault),
    Says(&'static str),
    Panics,
    Silent,
}

use Answer::{Accepted, Panics, Says, Silent};

fn fault(f: Fault) -> Answer {
    Answer::Fault(f)
}

/// Asks the contracts, and compares.
async fn expect(stage: &Stage, what: &str, call: &Call, from: Address, wanted: Answer) {
    let answer = stage.contracts.simulate(call, from).await;
    let is = match (&answer, &wanted) {
        (Ok(()), Accepted) => true,
        (Err(ChainError::Revert { revert, .. }), wanted) => match (revert, wanted) {
            (Revert::Fault(is), Answer::Fault(wanted)) => is == wanted,
            (Revert::Reason(is), Says(wanted)) => is == wanted,
            (Revert::Panic(code), Panics) => *code == U256::from(0x32),
            (Revert::Silent, Silent) => true,
            _ => false,
        },
        _ => false,
    };
    assert!(is, "{what}: wanted {wanted:?}, got {answer:?}");
}

/// From an account that anvil plays, mined at once.
async fn play(stage: &Stage, from: Address, call: &Call) {
    let tx = json!([{"from": from, "to": call.to, "data": call.data, "gas": "0x2dc6c0"}]);
    let hash: B256 = stage.chain.rpc("eth_sendTransaction", tx).await.unwrap();
    until(&call.what, || async {
        let receipt: serde_json::Value = stage
            .chain
            .rpc("eth_getTransactionReceipt", json!([hash]))
            .await
            .unwrap();
        assert_ne!(receipt["status"], "0x0", "{}", call.what);
        receipt["status"] == "0x1"
    })
    .await;
}

fn raw(to: Address, call: &impl SolCall, what: &str) -> Call {
    Call {
        to,
        data: call.abi_encode().into(),
        what: what.to_owned(),
    }
}

/// The same offer with a changed payload, signed again.
fn altered(stage: &Stage, offer: &Offer, change: impl FnOnce(&mut Offer)) -> Offer {
    let mut offer = offer.clone();
    offer.payload.id = ids::random_bytes32().into();
    change(&mut offer);
    let digest = offer_digest(&offer.payload, &stage.contracts.domain());
    let signer = &stage.chain.accounts.signer;
    offer.signature = signer.sign_hash_sync(&digest).unwrap().as_bytes().into();
    offer
}

fn deal(stage: &Stage, offer: &Offer) -> Call {
    stage
        .contracts
        .create_deal(offer, offer.payment[0].id, B256::ZERO)
}

/// One deal in every status. The last one of a pair says by which offer.
struct Deals {
    all: Vec<(DealStatus, Offer)>,
}

impl Deals {
    fn get(&self, status: DealStatus) -> &Offer {
        &self.all.iter().find(|(s, _)| *s == status).unwrap().1
    }
}

fn check_in(stage: &Stage, offer: &Offer) -> Call {
    let a = &stage.chain.accounts;
    let id = offer.id;
    let signs = vec![voucher(stage, id, &a.signer), voucher(stage, id, &a.buyer)];
    stage.contracts.check_in(id, signs)
}

fn step(stage: &Stage, offer: &Offer, step: Step) -> (Call, Address) {
    let a = &stage.chain.accounts;
    let c = &stage.contracts;
    let supplier = a.signer.address();
    match step {
        Step::Claim => (c.claim(offer.id), supplier),
        Step::Reject => (c.reject(offer.id, "no").unwrap(), supplier),
        Step::Refund => (c.refund(offer.id), supplier),
        Step::CheckIn => (check_in(stage, offer), supplier),
        Step::CheckOut => (c.check_out(offer.id), supplier),
        Step::Cancel => (c.cancel(offer.id, &offer.cancel), a.buyer.address()),
    }
}

/// Takes every transition there is, through the senders, and checks the status it leads to.
async fn one_of_each(stage: &Stage) -> Deals {
    let a = &stage.chain.accounts;
    let buyer = stage.sender(&a.buyer);
    let supplier = stage.sender(&a.signer);
    stage.allow(&buyer).await;
    let now = stage.chain.head_time().await.unwrap();
    let mut all = Vec::new();
    use DealStatus as S;
    use Step as T;
    let ways: [(S, &[T]); 7] = [
        (S::Created, &[]),
        (S::Claimed, &[T::Claim]),
        (S::Rejected, &[T::Reject]),
        (S::Refunded, &[T::Claim, T::Refund]),
        (S::Cancelled, &[T::Cancel]),
        (S::CheckedIn, &[T::Claim, T::CheckIn]),
        (S::CheckedOut, &[T::Claim, T::CheckIn, T::CheckOut]),
    ];
    let mut late = Vec::new();
    for (status, way) in ways {
        let soon = status == S::CheckedOut;
        let (first, last) = if soon { (50, 100) } else { (10_000, 20_000) };
        let offer = stage.offer(now + first, now + last, now + 5_000);
        stage.deal(&buyer, &offer).await;
        for (n, one) in way.iter().enumerate() {
            // Cancelling and checking out need time to pass.
            if matches!(one, T::Cancel | T::CheckOut) {
                late.push((offer.clone(), *one));
                continue;
            }
            let (call, _) = step(stage, &offer, *one);
            let tx = submit(
                &supplier,
                Intent::named(offer.id, format!("{one}-{n}"), call),
            )
            .await;
            done(&supplier, &tx).await;
            assert_eq!(stage.status(offer.id).await, Some(one.leads_to()));
        }
        all.push((status, offer));
    }
    stage.chain.advance_to(now + 200).await.unwrap();
    for (offer, one) in late {
        let (call, from) = step(stage, &offer, one);
        let sender = if from == buyer.address() {
            &buyer
        } else {
            &supplier
        };
        let tx = submit(sender, Intent::named(offer.id, one.as_str(), call)).await;
        done(sender, &tx).await;
    }
    for (status, offer) in &all {
        assert_eq!(stage.status(offer.id).await, Some(*status));
    }
    // What changes hands with a refund of a deal that was checked in, and a claimed one cancelled: the two
    // transitions not on the ways above.
    for (way, end) in [
        (&[T::Claim, T::CheckIn, T::Refund][..], S::Refunded),
        (&[T::Claim, T::Cancel][..], S::Cancelled),
    ] {
        let offer = stage.offer(now + 10_000, now + 20_000, now + 5_000);
        stage.deal(&buyer, &offer).await;
        for one in way {
            if *one == T::Cancel {
                let time = stage.chain.head_time().await.unwrap();
                stage.chain.advance_to(time + 61).await.unwrap();
            }
            let (call, from) = step(stage, &offer, *one);
            let sender = if from == buyer.address() {
                &buyer
            } else {
                &supplier
            };
            let tx = submit(sender, Intent::named(offer.id, one.as_str(), call)).await;
            done(sender, &tx).await;
        }
        assert_eq!(stage.status(offer.id).await, Some(end));
    }
    Deals { all }
}

#[tokio::test]
async fn every_step_in_every_status_is_answered_as_the_rules_say() {
    let stage = Stage::new().await;
    let a = &stage.chain.accounts;
    let deals = one_of_each(&stage).await;
    for (status, offer) in &deals.all {
        for one in Step::ALL {
            let (call, from) = step(&stage, offer, one);
            let what = format!("{one} of a deal that is {status}");
            let wanted = match (status.allows(one), one) {
                (true, Step::CheckOut) => fault(Fault::NotAllowedTime),
                (true, _) => Accepted,
                (false, _) => fault(Fault::NotAllowedStatus),
            };
            expect(&stage, &what, &call, from, wanted).await;
            // The supplier's owner is not its signer, nor is anybody else.
            if status.allows(one) && one != Step::CheckOut {
                for stranger in [a.owner.address(), a.stranger.address()] {
                    let wanted = fault(Fault::NotAllowedAuth);
                    expect(
                        &stage,
                        &format!("{what}, by {stranger}"),
                        &call,
                        stranger,
                        wanted,
                    )
                    .await;
                }
            }
        }
    }
    let mut unknown = stage.late_offer().await;
    unknown.id = ids::random_bytes32().into();
    for one in Step::ALL {
        let (call, from) = step(&stage, &unknown, one);
        let wanted = fault(Fault::DealNotFound);
        expect(&stage, &format!("{one} of no deal"), &call, from, wanted).await;
    }
    assert_eq!(stage.status(unknown.id).await, None);

    let (claimed, created) = (
        deals.get(DealStatus::Claimed),
        deals.get(DealStatus::Created),
    );
    let (buyer, supplier) = (a.buyer.address(), a.signer.address());
    let c = &stage.contracts;
    // Options count once it is claimed, and are ignored before.
    let other = [tradewind::market::CancelOption {
        time: U256::from(1),
        penalty: U256::from(1),
    }];
    expect(
        &stage,
        "cancel, other options",
        &c.cancel(claimed.id, &other),
        buyer,
        fault(Fault::InvalidCancelOptions),
    )
    .await;
    expect(
        &stage,
        "cancel Created, other options",
        &c.cancel(created.id, &other),
        buyer,
        Accepted,
    )
    .await;
    // Vouchers.
    let wrong = c.check_in(
        claimed.id,
        vec![
            voucher(&stage, claimed.id, &a.stranger),
            voucher(&stage, claimed.id, &a.buyer),
        ],
    );
    expect(
        &stage,
        "check-in, wrong voucher",
        &wrong,
        supplier,
        fault(Fault::InvalidOfferSignature),
    )
    .await;
    let alone = c.check_in(claimed.id, vec![voucher(&stage, claimed.id, &a.signer)]);
    expect(
        &stage,
        "check-in without the buyer's voucher",
        &alone,
        supplier,
        Panics,
    )
    .await;
    let by_buyer = c.check_in(
        claimed.id,
        vec![
            voucher(&stage, claimed.id, &a.buyer),
            voucher(&stage, claimed.id, &a.signer),
        ],
    );
    expect(&stage, "check-in by the buyer", &by_buyer, buyer, Accepted).await;

    // Time: a fresh deal cannot be cancelled yet; a claimed one not any more; what was too early is right.
    let sender = stage.sender(&a.buyer);
    let fresh = stage.late_offer().await;
    stage.deal(&sender, &fresh).await;
    expect(
        &stage,
        "cancel at once",
        &c.cancel(fresh.id, &fresh.cancel),
        buyer,
        fault(Fault::NotAllowedTime),
    )
    .await;
    let time = claimed.payload.check_in.to::<u64>();
    stage.chain.advance_to(time + 1).await.unwrap();
    expect(
        &stage,
        "cancel after check-in time",
        &c.cancel(claimed.id, &claimed.cancel),
        buyer,
        fault(Fault::NotAllowedStatus),
    )
    .await;
    expect(
        &stage,
        "check-in alone, after its time",
        &alone,
        supplier,
        Accepted,
    )
    .await;
    let checked_in = deals.get(DealStatus::CheckedIn);
    stage
        .chain
        .advance_to(checked_in.payload.check_out.to())
        .await
        .unwrap();
    expect(
        &stage,
        "check-out in time",
        &c.check_out(checked_in.id),
        supplier,
        Accepted,
    )
    .await;
    // Not checked by the chain: an offer's expiry at the claim, a supplier disabled after the deal.
    expect(
        &stage,
        "claim, long expired",
        &c.claim(created.id),
        supplier,
        Accepted,
    )
    .await;
    play(
        &stage,
        a.owner.address(),
        &c.toggle_entity(stage.chain.supplier_id),
    )
    .await;
    expect(
        &stage,
        "claim, supplier disabled",
        &c.claim(created.id),
        supplier,
        Accepted,
    )
    .await;
    // Another signer.
    let change = c.change_signer(stage.chain.supplier_id, a.stranger.address());
    play(&stage, a.owner.address(), &change).await;
    expect(
        &stage,
        "claim by the old signer",
        &c.claim(created.id),
        supplier,
        fault(Fault::NotAllowedAuth),
    )
    .await;
    expect(
        &stage,
        "claim by the new signer",
        &c.claim(created.id),
        a.stranger.address(),
        Accepted,
    )
    .await;
    // The whole market stands still.
    let pause = raw(c.market, &IMore::pauseCall {}, "pause");
    expect(
        &stage,
        "pause by a stranger",
        &pause,
        buyer,
        Says("Ownable: caller is not the owner"),
    )
    .await;
    play(&stage, a.deployer.address(), &pause).await;
    for (what, call) in [
        ("claim", c.claim(created.id)),
        ("reject", c.reject(created.id, "").unwrap()),
    ] {
        expect(
            &stage,
            what,
            &call,
            a.stranger.address(),
            Says("Pausable: paused"),
        )
        .await;
    }
    assert!(c.market_paused().await.unwrap());
    stage.tasks.stop().await;
}

#[tokio::test]
async fn every_refusal_of_a_new_deal_has_its_name() {
    let stage = Stage::new().await;
    let a = &stage.chain.accounts;
    let c = &stage.contracts;
    let buyer = a.buyer.address();
    let sender = stage.sender(&a.buyer);
    let good = stage.late_offer().await;
    expect(
        &stage,
        "no allowance",
        &deal(&stage, &good),
        buyer,
        Says("ERC20: insufficient allowance"),
    )
    .await;
    stage.allow(&sender).await;
    expect(
        &stage,
        "a good offer",
        &deal(&stage, &good),
        buyer,
        Accepted,
    )
    .await;

    let now = stage.chain.head_time().await.unwrap();
    let far = U256::from(now + 5_000);
    let nobody = B256::repeat_byte(9);
    type Change = Box<dyn Fn(&mut Offer)>;
    let table: Vec<(&str, Change, Answer)> = vec![
        // What only the node can refuse.
        (
            "expired",
            Box::new(move |o| o.payload.expire = U256::from(now - 10)),
            Accepted,
        ),
        (
            "for another chain",
            Box::new(|o| o.payload.chain_id = U256::from(999)),
            Accepted,
        ),
        (
            "in the past",
            Box::new(|o| {
                o.payload.check_in = U256::from(1);
                o.payload.check_out = U256::from(2);
            }),
            Accepted,
        ),
        (
            "of an unknown supplier",
            Box::new(move |o| o.payload.supplier_id = nobody),
            fault(Fault::EntityNotFound),
        ),
        (
            "with altered payment",
            Box::new(|o| o.payment[0].price += U256::from(1)),
            fault(Fault::InvalidPaymentOptions),
        ),
        (
            "still good",
            Box::new(move |o| o.payload.expire = far),
            Accepted,
        ),
    ];
    for (what, change, wanted) in table {
        let offer = altered(&stage, &good, change);
        expect(
            &stage,
            &format!("an offer {what}"),
            &deal(&stage, &offer),
            buyer,
            wanted,
        )
        .await;
    }
    let mut forged = good.clone();
    forged.payload.check_out += U256::from(1);
    expect(
        &stage,
        "a forged offer",
        &deal(&stage, &forged),
        buyer,
        fault(Fault::InvalidOfferSignature),
    )
    .await;
    let wrong = c.create_deal(&good, nobody, B256::ZERO);
    expect(
        &stage,
        "an unknown payment id",
        &wrong,
        buyer,
        fault(Fault::InvalidPaymentId),
    )
    .await;
    let retailer = c.create_deal(&good, good.payment[0].id, nobody);
    expect(
        &stage,
        "an unknown retailer",
        &retailer,
        buyer,
        fault(Fault::EntityNotFound),
    )
    .await;
    let salt = B256::repeat_byte(3);
    let register = c.register_entity(EntityKind::Retailer, salt, a.stranger.address());
    play(&stage, a.stranger.address(), &register).await;
    let retailer = entity_id(a.stranger.address(), salt);
    play(&stage, a.stranger.address(), &c.toggle_entity(retailer)).await;
    if c.entity(retailer).await.unwrap().unwrap().enabled {
        play(&stage, a.stranger.address(), &c.toggle_entity(retailer)).await;
    }
    let call = c.create_deal(&good, good.payment[0].id, retailer);
    expect(
        &stage,
        "a disabled retailer",
        &call,
        buyer,
        fault(Fault::DisabledRetailer),
    )
    .await;

    // Permits.
    let bad = Bytes::from(vec![1u8; 65]);
    let plain = c.create_deal_with_permit(&good, good.payment[0].id, B256::ZERO, bad.clone());
    // An allowance makes the permit needless for a token that was approved; take it away.
    let none = c.approve(stage.chain.tokens[0].address, c.market, U256::ZERO);
    play(&stage, buyer, &none).await;
    expect(
        &stage,
        "a permit for a token without",
        &plain,
        buyer,
        Silent,
    )
    .await;
    let permitted = stage.offer_in(c.token, &good);
    let id = permitted.payment[0].id;
    let call = c.create_deal_with_permit(&permitted, id, B256::ZERO, bad.clone());
    expect(
        &stage,
        "a bad permit",
        &call,
        buyer,
        Says("ERC20Permit: invalid signature"),
    )
    .await;
    let late = altered(&stage, &permitted, |o| {
        o.payload.expire = U256::from(now - 10)
    });
    let call = c.create_deal_with_permit(&late, id, B256::ZERO, bad);
    expect(
        &stage,
        "a permit past its time",
        &call,
        buyer,
        Says("ERC20Permit: expired deadline"),
    )
    .await;
    stage.chain.mine(1).await.unwrap();

    // The same id a second time, whatever became of the first.
    let allow = c.approve(stage.chain.tokens[0].address, c.market, U256::MAX);
    play(&stage, buyer, &allow).await;
    stage.deal(&sender, &good).await;
    expect(
        &stage,
        "the same offer again",
        &deal(&stage, &good),
        buyer,
        fault(Fault::DealExists),
    )
    .await;
    play(
        &stage,
        a.signer.address(),
        &c.reject(good.id, "no").unwrap(),
    )
    .await;
    expect(
        &stage,
        "and after a rejection",
        &deal(&stage, &good),
        buyer,
        fault(Fault::DealExists),
    )
    .await;

    let fresh = stage.late_offer().await;
    play(
        &stage,
        a.owner.address(),
        &c.toggle_entity(stage.chain.supplier_id),
    )
    .await;
    expect(
        &stage,
        "a disabled supplier",
        &deal(&stage, &fresh),
        buyer,
        fault(Fault::DisabledSupplier),
    )
    .await;
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_buyer_that_cannot_hold_the_token_can_only_be_rejected() {
    let stage = Stage::new().await;
    let a = &stage.chain.accounts;
    let c = &stage.contracts;
    let token = stage.chain.tokens[0].address;
    // A contract that knows nothing of tokens handed to it: the other token will do.
    let buyer = stage.chain.tokens[1].address;
    let mint = raw(
        token,
        &IMore::mintCall {
            to: buyer,
            amount: U256::from(5_000),
        },
        "mint",
    );
    play(&stage, a.deployer.address(), &mint).await;
    stage
        .chain
        .fund(buyer, U256::from(10).pow(U256::from(19)))
        .await
        .unwrap();
    stage
        .chain
        .rpc::<serde_json::Value>("anvil_impersonateAccount", json!([buyer]))
        .await
        .unwrap();
    play(&stage, buyer, &c.approve(token, c.market, U256::MAX)).await;
    let offer = stage.late_offer().await;
    play(&stage, buyer, &deal(&stage, &offer)).await;
    let supplier = a.signer.address();
    let says = "ERC721: transfer to non ERC721Receiver implementer";
    expect(&stage, "claim", &c.claim(offer.id), supplier, Says(says)).await;
    let reject = c.reject(offer.id, "buyer cannot hold it").unwrap();
    expect(&stage, "reject", &reject, supplier, Accepted).await;
    stage.tasks.stop().await;
}

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
