//! Who can hold a deal's token, and when it can be passed on.

use alloy::primitives::U256;
use serde_json::json;
use tradewind::{chain::Fault, market::DealStatus};

use super::{Accepted, IMore, Says, deal, expect, fault, raw};
use crate::support::{Stage, altered, play, voucher};

#[tokio::test]
async fn a_token_is_passed_on_only_if_the_offer_allows_it_and_before_check_in() {
    let stage = Stage::new().await;
    let a = &stage.chain.accounts;
    let c = &stage.contracts;
    let (buyer, supplier) = (a.buyer.address(), a.signer.address());
    stage.allow(&stage.sender(&a.buyer)).await;
    let loose = stage.late_offer().await;
    let bound = altered(&stage, &loose, |o| o.payload.transferable = false);
    for (n, offer) in [&loose, &bound].into_iter().enumerate() {
        play(&stage, buyer, &deal(&stage, offer)).await;
        play(&stage, supplier, &c.claim(offer.id)).await;
        assert_eq!(c.deal_token(offer.id).await.unwrap(), U256::from(n));
    }
    let pass = |token: u64| c.transfer_deal(buyer, a.stranger.address(), U256::from(token));
    let refused = fault(Fault::TokenTransferNotAllowed);
    expect(&stage, "a bound token", &pass(1), buyer, refused.clone()).await;
    expect(&stage, "a loose token", &pass(0), buyer, Accepted).await;
    let says = "ERC721: caller is not token owner or approved";
    let stranger = a.stranger.address();
    expect(&stage, "by another", &pass(0), stranger, Says(says)).await;
    let signs = vec![
        voucher(&stage, loose.id, &a.signer),
        voucher(&stage, loose.id, &a.buyer),
    ];
    play(&stage, supplier, &c.check_in(loose.id, signs)).await;
    assert_eq!(stage.status(loose.id).await, Some(DealStatus::CheckedIn));
    expect(&stage, "once checked in", &pass(0), buyer, refused).await;
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
