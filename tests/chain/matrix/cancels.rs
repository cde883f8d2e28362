//! What a buyer who cancels a claimed deal gets back.

use alloy::primitives::U256;
use tradewind::market::{CancelOption, DealStatus, cancel_hash};

use super::deal;
use crate::support::{Stage, altered, play};

/// Of the options whose time has come the one with the earliest time counts, whatever stands first and whatever
/// is worse; nobody loses more than the price.
#[tokio::test]
async fn the_earliest_option_that_has_come_is_the_penalty() {
    // Seconds from now until an option's time, its percents; what of 1000 the supplier's owner gets.
    let table: [(&[(u64, u64)], u64); 6] = [
        (&[(500, 10), (1_000, 50)], 100),
        (&[(1_000, 50), (500, 10)], 100),
        (&[(500, 50), (1_000, 10)], 500),
        (&[(500, 150)], 1_000),
        (&[(5_000, 50)], 0),
        (&[(500, 0), (1_000, 100)], 0),
    ];
    let stage = Stage::new().await;
    let a = &stage.chain.accounts;
    let c = &stage.contracts;
    let (buyer, supplier) = (a.buyer.address(), a.signer.address());
    stage.allow(&stage.sender(&a.buyer)).await;
    let now = stage.chain.head_time().await.unwrap();
    let like = stage.late_offer().await;
    let mut offers = Vec::new();
    for (options, _) in &table {
        let offer = altered(&stage, &like, |o| {
            let option = |(after, penalty): &(u64, u64)| CancelOption {
                time: U256::from(now + after),
                penalty: U256::from(*penalty),
            };
            o.cancel = options.iter().map(option).collect();
            o.payload.cancel_hash = cancel_hash(&o.cancel);
        });
        play(&stage, buyer, &deal(&stage, &offer)).await;
        play(&stage, supplier, &c.claim(offer.id)).await;
        offers.push(offer);
    }
    stage.chain.advance_to(now + 2_000).await.unwrap();
    for ((options, penalty), offer) in table.iter().zip(&offers) {
        let (owner, payer) = (a.owner.address(), buyer);
        let had = (stage.tokens_of(owner).await, stage.tokens_of(payer).await);
        play(&stage, buyer, &c.cancel(offer.id, &offer.cancel)).await;
        let has = (stage.tokens_of(owner).await, stage.tokens_of(payer).await);
        assert_eq!(has.0 - had.0, U256::from(*penalty), "{options:?}");
        assert_eq!(has.1 - had.1, U256::from(1_000 - penalty), "{options:?}");
        assert_eq!(stage.status(offer.id).await, Some(DealStatus::Cancelled));
        // Its token is burned, but for the very first one, whose number 0 the market takes for none.
        let token = c.deal_token(offer.id).await.unwrap();
        let holder = token.is_zero().then_some(buyer);
        assert_eq!(c.token_owner(token).await.unwrap(), holder);
    }
    stage.tasks.stop().await;
}
