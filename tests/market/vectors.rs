//! Every recorded vector: texts, hashes, digests and signatures of the TypeScript peers, byte for byte.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::signers::local::PrivateKeySigner;
use futures::FutureExt as _;
use serde::Deserialize;
use tradewind::market::eip712::{self, DigestSigner, Domain, recover_voucher, sign_voucher};
use tradewind::market::offer::{
    CancelOption, Offer, OfferDraft, OfferError, PaymentOption, cancel_hash, payment_hash,
};
use tradewind::market::request::{Request, RequestError};
use tradewind::market::superjson::{Js, SuperjsonError};

pub const REQUEST: &str = include_str!("../data/market/request.json");
pub const OFFER: &str = include_str!("../data/market/offer.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vectors {
    signer: Signer,
    domain: RecordedDomain,
    domain_separator: B256,
    pub vectors: Vec<Vector>,
    check_in_out: Voucher,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signer {
    private_key: String,
    address: Address,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedDomain {
    chain_id: u64,
    name: String,
    version: String,
    verifying_contract: Address,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vector {
    pub name: String,
    pub request_text: String,
    pub offer_text: String,
    pub request: Hashed,
    pub options: Hashed,
    payment: Options<PaymentOption>,
    cancel: Options<CancelOption>,
    struct_hash: B256,
    digest: B256,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hashed {
    pub hashed_text: String,
    hash: B256,
}

#[derive(Deserialize)]
struct Options<T> {
    items: Vec<T>,
    hash: B256,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Voucher {
    offer_id: B256,
    signer: Address,
    digest: B256,
    signature: String,
}

impl Vectors {
    pub fn load() -> Vectors {
        serde_json::from_str(include_str!("../data/market/offers.json")).unwrap()
    }

    /// All but the one that has no representation here.
    pub fn representable(&self) -> impl Iterator<Item = &Vector> {
        self.vectors
            .iter()
            .filter(|vector| vector.name != "lone_surrogate")
    }

    pub fn domain(&self) -> Domain {
        Domain {
            name: self.domain.name.clone(),
            version: self.domain.version.clone(),
            chain_id: self.domain.chain_id,
            verifying_contract: self.domain.verifying_contract,
        }
    }

    pub fn signer(&self) -> PrivateKeySigner {
        self.signer.private_key.parse().unwrap()
    }
}

/// The part of a superjson text before its annotations.
fn plain_part(text: &str) -> &str {
    text.split_once(",\"meta\":")
        .map_or(text, |(plain, _)| plain)
}

#[test]
fn every_vector_is_there() {
    let vectors = Vectors::load();
    assert_eq!(vectors.vectors.len(), 8);
    assert_eq!(vectors.representable().count(), 7);
    assert_eq!(vectors.signer().address(), vectors.signer.address);
    assert_eq!(vectors.domain().separator(), vectors.domain_separator);
}

#[test]
fn requests_hash_as_the_peers_do() {
    for vector in Vectors::load().representable() {
        let request = Request::parse(&vector.request_text).unwrap();
        assert_eq!(
            request.to_js().json_text(),
            vector.request.hashed_text,
            "{}",
            vector.name
        );
        assert_eq!(request.hash(), vector.request.hash, "{}", vector.name);
        assert_eq!(
            keccak256(&vector.request.hashed_text),
            vector.request.hash,
            "{}",
            vector.name
        );
        let written = request.to_text();
        assert_eq!(
            plain_part(&written),
            plain_part(&vector.request_text),
            "{}",
            vector.name
        );
        assert_eq!(
            Request::parse(&written).unwrap(),
            request,
            "{}",
            vector.name
        );
    }
}

#[test]
fn offers_hash_and_verify_as_the_peers_do() {
    let vectors = Vectors::load();
    let (domain, signer) = (vectors.domain(), vectors.signer.address);
    for vector in vectors.representable() {
        let name = &vector.name;
        let offer = Offer::parse(&vector.offer_text).unwrap();
        assert_eq!(
            offer.options.json_text(),
            vector.options.hashed_text,
            "{name}"
        );
        assert_eq!(offer.options.hash(), vector.options.hash, "{name}");
        assert_eq!(offer.payment, vector.payment.items, "{name}");
        assert_eq!(offer.cancel, vector.cancel.items, "{name}");
        assert_eq!(payment_hash(&offer.payment), vector.payment.hash, "{name}");
        assert_eq!(cancel_hash(&offer.cancel), vector.cancel.hash, "{name}");
        assert_eq!(
            eip712::offer_struct_hash(&offer.payload),
            vector.struct_hash,
            "{name}"
        );
        assert_eq!(
            eip712::offer_digest(&offer.payload, &domain),
            vector.digest,
            "{name}"
        );
        assert_eq!(offer.verify(&domain, signer), Ok(()), "{name}");
        let written = offer.to_text();
        assert_eq!(
            plain_part(&written),
            plain_part(&vector.offer_text),
            "{name}"
        );
        assert_eq!(Offer::parse(&written).unwrap(), offer, "{name}");
    }
}

#[test]
fn offers_are_signed_as_the_peers_sign_them() {
    let vectors = Vectors::load();
    let (domain, signer) = (vectors.domain(), vectors.signer());
    for vector in vectors.representable() {
        let theirs = Offer::parse(&vector.offer_text).unwrap();
        let time = |value: U256| u64::try_from(value).unwrap();
        let draft = OfferDraft {
            options: theirs.options.clone(),
            payment: theirs.payment.clone(),
            cancel: theirs.cancel.clone(),
            check_in: time(theirs.payload.check_in),
            check_out: time(theirs.payload.check_out),
            transferable: theirs.payload.transferable,
        };
        let request = Request::parse(&vector.request_text).unwrap();
        let supplier = theirs.payload.supplier_id;
        let ours = Offer::sign(
            draft,
            &request,
            theirs.id,
            theirs.expire,
            supplier,
            &domain,
            &signer,
        )
        .now_or_never()
        .expect("a key in memory signs at once")
        .unwrap();
        assert_eq!(
            ours.signature.to_string(),
            vector.signature,
            "{}",
            vector.name
        );
        assert_eq!(ours, theirs, "{}", vector.name);
    }
}

#[test]
fn half_a_surrogate_pair_is_refused_by_name() {
    let vectors = Vectors::load();
    let vector = vectors
        .vectors
        .iter()
        .find(|vector| vector.name == "lone_surrogate")
        .unwrap();
    assert!(matches!(
        Request::parse(&vector.request_text),
        Err(RequestError::Text(SuperjsonError::LoneSurrogate { .. }))
    ));
    assert!(matches!(
        Offer::parse(&vector.offer_text),
        Err(OfferError::Text(SuperjsonError::LoneSurrogate { .. }))
    ));
}

#[test]
fn vouchers_are_signed_and_recovered_as_the_peers_do() {
    let vectors = Vectors::load();
    let (domain, voucher) = (vectors.domain(), &vectors.check_in_out);
    let signer: Box<dyn DigestSigner> = Box::new(vectors.signer());
    assert_eq!(
        eip712::voucher_digest(voucher.offer_id, voucher.signer, &domain),
        voucher.digest
    );
    let signature = sign_voucher(voucher.offer_id, signer.as_ref(), &domain)
        .now_or_never()
        .expect("a key in memory signs at once")
        .unwrap();
    assert_eq!(format!("0x{}", hex::encode(signature)), voucher.signature);
    assert_eq!(
        recover_voucher(voucher.offer_id, voucher.signer, &signature, &domain),
        Ok(voucher.signer)
    );
    let other = recover_voucher(B256::ZERO, voucher.signer, &signature, &domain);
    assert_ne!(other, Ok(voucher.signer));
}

#[test]
fn captured_messages_are_read_and_written() {
    let request = Request::parse(REQUEST).unwrap();
    assert_eq!(
        (request.topic.as_str(), request.nonce, request.expire),
        ("hello", 1, 1_795_146_288)
    );
    assert_eq!(request.query.get("guests").and_then(Js::as_u64), Some(2));
    assert_eq!(request.query.get("opt"), Some(&Js::Undefined));
    assert_eq!(
        request.query.get("when").and_then(Js::as_date),
        Some("2023-11-14T22:13:20.000Z")
    );
    assert_eq!(request.query.get("price").and_then(Js::as_f64), Some(10.5));
    assert_eq!(
        Js::parse(&request.to_text()).unwrap(),
        Js::parse(REQUEST).unwrap()
    );

    let offer = Offer::parse(OFFER).unwrap();
    assert_eq!(offer.request, request);
    assert_eq!(offer.payload.request_hash, request.hash());
    assert_eq!(
        Js::parse(&offer.to_text()).unwrap(),
        Js::parse(OFFER).unwrap()
    );
}
