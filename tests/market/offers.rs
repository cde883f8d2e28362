//! Offers that were tampered with, or signed in ways the contract refuses.

use super::values::{Keys, values};
use super::vectors::Vectors;
use alloy::primitives::{Address, B256, Bytes, U256};
use futures::FutureExt as _;
use proptest::prelude::*;
use tradewind::market::eip712::{Domain, RecoverError};
use tradewind::market::offer::{
    CancelOption, Offer, OfferDraft, PaymentOption, SignOfferError, VerifyError,
};
use tradewind::market::request::Request;
use tradewind::market::superjson::{Js, JsObject};

fn sign(query: Js, options: Js) -> (Offer, Domain, Address) {
    let vectors = Vectors::load();
    let (domain, signer) = (vectors.domain(), vectors.signer());
    let request = Request::new(B256::repeat_byte(1), 100, 1, "topic", query);
    let payment = |n: u8| PaymentOption {
        id: B256::repeat_byte(n),
        price: U256::from(n),
        asset: Address::repeat_byte(n),
    };
    let draft = OfferDraft {
        options,
        payment: vec![payment(2), payment(3)],
        cancel: vec![CancelOption {
            time: U256::from(50),
            penalty: U256::from(10),
        }],
        check_in: 200,
        check_out: 300,
        transferable: true,
    };
    let id = B256::repeat_byte(4);
    let offer = Offer::sign(
        draft,
        &request,
        id,
        150,
        B256::repeat_byte(5),
        &domain,
        &signer,
    )
    .now_or_never()
    .expect("a key in memory signs at once")
    .unwrap();
    (offer, domain, signer.address())
}

/// Every signed field, and a way to change it.
type Change = fn(&mut Offer);
const CHANGES: &[(&str, Change)] = &[
    ("id", |o| o.id.0[0] ^= 1),
    ("both ids", |o| {
        o.id.0[0] ^= 1;
        o.payload.id = o.id;
    }),
    ("expire", |o| o.expire += 1),
    ("both expiries", |o| {
        o.expire += 1;
        o.payload.expire += U256::ONE;
    }),
    ("request.id", |o| o.request.id.0[31] ^= 1),
    ("request.expire", |o| o.request.expire += 1),
    ("request.nonce", |o| o.request.nonce += 1),
    ("request.topic", |o| o.request.topic.push('x')),
    ("request.query", |o| {
        o.request.query = Js::Array(vec![o.request.query.clone()])
    }),
    ("options", |o| {
        o.options = Js::Array(vec![o.options.clone()])
    }),
    ("payment id", |o| o.payment[0].id.0[5] ^= 1),
    ("payment price", |o| o.payment[1].price += U256::ONE),
    ("payment asset", |o| o.payment[1].asset.0[3] ^= 1),
    ("payment order", |o| o.payment.swap(0, 1)),
    ("payment less", |o| o.payment.truncate(1)),
    ("cancel time", |o| o.cancel[0].time -= U256::ONE),
    ("cancel penalty", |o| o.cancel[0].penalty -= U256::ONE),
    ("cancel none", |o| o.cancel.clear()),
    ("payload id", |o| o.payload.id.0[0] ^= 1),
    ("payload expire", |o| o.payload.expire += U256::ONE),
    ("payload supplier", |o| o.payload.supplier_id.0[0] ^= 1),
    ("payload chain", |o| o.payload.chain_id += U256::ONE),
    ("payload request hash", |o| o.payload.request_hash.0[0] ^= 1),
    ("payload options hash", |o| o.payload.options_hash.0[0] ^= 1),
    ("payload payment hash", |o| o.payload.payment_hash.0[0] ^= 1),
    ("payload cancel hash", |o| o.payload.cancel_hash.0[0] ^= 1),
    ("payload transferable", |o| {
        o.payload.transferable = !o.payload.transferable
    }),
    ("payload check-in", |o| o.payload.check_in += U256::ONE),
    ("payload check-out", |o| o.payload.check_out += U256::ONE),
    // A swapped option with its hash made to fit still lacks the signature.
    ("options and their hash", |o| {
        o.options = Js::Array(vec![o.options.clone()]);
        o.payload.options_hash = o.options.hash();
    }),
    ("request and its hash", |o| {
        o.request.nonce += 1;
        o.payload.request_hash = o.request.hash();
    }),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changing_any_signed_field_breaks_verification(query in values(Keys::Wild), options in values(Keys::Wild)) {
        let (offer, domain, signer) = sign(query, options);
        prop_assert_eq!(offer.verify(&domain, signer), Ok(()));
        let travelled = Offer::parse(&offer.to_text()).unwrap();
        prop_assert_eq!(&travelled, &offer);
        prop_assert_eq!(travelled.verify(&domain, signer), Ok(()));
        for (what, change) in CHANGES {
            let mut changed = travelled.clone();
            change(&mut changed);
            prop_assert!(changed.verify(&domain, signer).is_err(), "{} went unnoticed", what);
        }
    }

    #[test]
    fn changing_any_bit_of_the_signature_breaks_verification(at in 0usize..65, bit in 0u8..8) {
        let (mut offer, domain, signer) = sign(Js::Null, Js::Null);
        let mut signature = offer.signature.to_vec();
        signature[at] ^= 1 << bit;
        offer.signature = Bytes::from(signature);
        prop_assert!(offer.verify(&domain, signer).is_err());
    }
}

#[test]
fn an_offer_is_bound_to_its_market() {
    let (offer, domain, signer) = sign(Js::Null, Js::Null);
    let other_chain = Domain {
        chain_id: 1,
        ..domain.clone()
    };
    assert!(matches!(
        offer.verify(&other_chain, signer),
        Err(VerifyError::ChainId { expected: 1, .. })
    ));
    for other in [
        Domain {
            name: "Bazaar".into(),
            ..domain.clone()
        },
        Domain {
            version: "2".into(),
            ..domain.clone()
        },
        Domain {
            verifying_contract: Address::ZERO,
            ..domain.clone()
        },
    ] {
        assert!(matches!(
            offer.verify(&other, signer),
            Err(VerifyError::Signer { .. })
        ));
    }
    assert!(matches!(
        offer.verify(&domain, Address::ZERO),
        Err(VerifyError::Signer { .. })
    ));
}

#[test]
fn signatures_the_contract_refuses_are_refused() {
    let (offer, domain, signer) = sign(Js::Null, Js::Null);
    let verify = |signature: Vec<u8>| {
        let offer = Offer {
            signature: signature.into(),
            ..offer.clone()
        };
        offer.verify(&domain, signer)
    };
    let good = offer.signature.to_vec();
    assert_eq!(verify(good.clone()), Ok(()));
    assert_eq!(
        verify(good[..64].to_vec()),
        Err(RecoverError::Length(64).into())
    );
    assert_eq!(
        verify([good.clone(), vec![0]].concat()),
        Err(RecoverError::Length(66).into())
    );

    let mut short_v = good.clone();
    short_v[64] -= 27;
    assert_eq!(
        verify(short_v.clone()),
        Err(RecoverError::V(short_v[64]).into())
    );

    // The other signature that fits the same digest and key.
    let order = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        .parse::<U256>()
        .unwrap();
    let mut high_s = good.clone();
    let s = U256::from_be_slice(&good[32..64]);
    high_s[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
    high_s[64] = 27 + 28 - high_s[64];
    assert_eq!(verify(high_s), Err(RecoverError::HighS.into()));

    assert!(matches!(
        verify([vec![0; 64], vec![27]].concat()),
        Err(VerifyError::Signature(_))
    ));
    assert!(matches!(
        verify([vec![0xff; 64], vec![27]].concat()),
        Err(VerifyError::Signature(_))
    ));
}

#[test]
fn offers_that_nobody_could_read_are_not_signed() {
    let vectors = Vectors::load();
    let mut deep = Js::Null;
    for _ in 0..200 {
        deep = Js::Array(vec![deep]);
    }
    let unreadable = [
        Js::Date("tomorrow".into()),
        JsObject::new().with("constructor", 1.0).into(),
        Js::Map(vec![(Js::Null, deep.clone())]),
        deep,
    ];
    for options in unreadable {
        let draft = OfferDraft {
            options,
            payment: vec![],
            cancel: vec![],
            check_in: 1,
            check_out: 2,
            transferable: false,
        };
        let request = Request::new(B256::ZERO, 100, 1, "topic", Js::Null);
        let (id, supplier) = (B256::ZERO, B256::ZERO);
        let signer = vectors.signer();
        let domain = vectors.domain();
        let signed = Offer::sign(draft, &request, id, 9, supplier, &domain, &signer);
        let signed = signed
            .now_or_never()
            .expect("a key in memory signs at once");
        assert!(matches!(signed, Err(SignOfferError::Unwritable(_))));
    }
}
