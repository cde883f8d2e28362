//! Our peer and our coordinator on loopback: the ordinary day, and the bad ones.

#[path = "network/proxy.rs"]
mod proxy;
#[path = "network/raw.rs"]
mod raw;
#[path = "network/support.rs"]
mod support;

use support::{Hub, IMPATIENT, eventually, far, heard, nothing_more, peer, text};
use tradewind::network::PublishError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_reaches_every_other_subscriber_once_and_not_its_author() {
    let hub = Hub::start().await;
    let mut buyer = peer(&hub.address(), &["hello"]).await;
    let mut supplier = peer(&hub.address(), &["hello"]).await;
    let mut other = peer(&hub.address(), &["else"]).await;

    buyer.publish("hello", "a request").await;
    let got = heard(&mut supplier).await;
    assert_eq!((got.topic.as_str(), text(&got)), ("hello", "a request"));
    assert_eq!(Some(got.from), buyer.peer.status()[0].peer_id);
    assert_eq!(got.coordinator, hub.address());

    buyer.peer.subscribe("request-1").await;
    supplier.publish("request-1", "an offer").await;
    assert_eq!(text(&heard(&mut buyer).await), "an offer");
    buyer.peer.unsubscribe("request-1").await;

    nothing_more(&mut supplier).await;
    nothing_more(&mut other).await;
    nothing_more(&mut buyer).await;
    eventually("an announced topic count", || {
        supplier.peer.status()[0].topics == 1
    })
    .await;
    assert_eq!(supplier.tasks.metrics.messages.get("accepted"), 1);
    assert!(*supplier.peer.connected().borrow());
    assert_eq!(supplier.peer.status()[0].tradewind, Some(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_late_gets_what_was_said_of_its_topics_and_nothing_twice() {
    let hub = Hub::start().await;
    let buyer = peer(&hub.address(), &[]).await;
    for n in 0..300 {
        buyer.publish("hello", &format!("early {n}")).await;
    }
    buyer.publish("private", "not for all").await;
    eventually("the hub to have all", || hub.hub.stats().accepted == 301).await;

    let mut late = peer(&hub.address(), &["hello"]).await;
    for n in 0..300 {
        assert_eq!(text(&heard(&mut late).await), format!("early {n}"));
    }
    buyer.publish("hello", "live").await;
    assert_eq!(text(&heard(&mut late).await), "live");
    // Wanting it again brings what was missed meanwhile, and only that.
    late.peer.unsubscribe("hello").await;
    eventually("the end of the subscription", || {
        late.peer.status()[0].topics == 0
    })
    .await;
    late.publish("marker", "after it").await;
    eventually("the hub to have the marker", || {
        hub.hub.stats().accepted == 303
    })
    .await;
    buyer.publish("hello", "missed").await;
    eventually("the hub to have it", || hub.hub.stats().accepted == 304).await;
    late.peer.subscribe("hello").await;
    assert_eq!(text(&heard(&mut late).await), "missed");
    nothing_more(&mut late).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_killed_and_started_again_is_found_again() {
    let mut hub = Hub::start().await;
    let mut supplier = peer(&hub.address(), &["hello"]).await;
    let buyer = peer(&hub.address(), &[]).await;
    let own_id = supplier.peer.status()[0].peer_id.clone();
    for round in 0..3 {
        hub.stop().await;
        supplier.until_disconnected().await;
        buyer.until_disconnected().await;
        let lost = buyer.peer.publish("hello", b"x".to_vec()).await;
        assert_eq!(lost, Err(PublishError::NotConnected));
        eventually("the coordinator to be named", || {
            let degraded = supplier.tasks.register.degraded();
            degraded
                .iter()
                .any(|d| d.name.starts_with("coordinator /ip4/"))
        })
        .await;

        hub.restart().await;
        supplier.until_connected().await;
        buyer.until_connected().await;
        eventually("nothing to be degraded", || {
            supplier.tasks.register.degraded().is_empty()
        })
        .await;
        buyer.publish("hello", &format!("round {round}")).await;
        assert_eq!(text(&heard(&mut supplier).await), format!("round {round}"));
    }
    assert_eq!(supplier.peer.status()[0].peer_id, own_id, "a lasting id");
    assert_eq!(supplier.peer.status()[0].connections, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn something_else_on_the_coordinators_port_is_waited_out() {
    let mut hub = Hub::start().await;
    let mut supplier = peer(&hub.address(), &["hello"]).await;
    hub.stop().await;
    let garbage = proxy::Garbage::listen(hub.port()).await;
    eventually("visits to the wrong listener", || garbage.visits() >= 3).await;
    assert!(!*supplier.peer.connected().borrow());
    garbage.stop().await;
    hub.restart().await;
    supplier.until_connected().await;
    let buyer = peer(&hub.address(), &[]).await;
    buyer.publish("hello", "well").await;
    assert_eq!(text(&heard(&mut supplier).await), "well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_is_not_there_yet_is_named_and_waited_for() {
    let mut hub = Hub::start().await;
    hub.stop().await;
    let supplier = support::start_peer(&hub.address(), &["hello"]);
    eventually("the reason", || {
        supplier
            .tasks
            .register
            .degraded()
            .iter()
            .any(|d| d.reason.contains("refused"))
    })
    .await;
    hub.restart().await;
    supplier.until_connected().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_peer_id_in_the_address_is_told_with_the_right_one() {
    let hub = Hub::start().await;
    let address = hub.address();
    let (place, right) = address.rsplit_once('/').unwrap();
    let wrong = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
    let supplier = support::start_peer(&format!("{place}/{wrong}"), &["hello"]);
    eventually("the reason", || {
        supplier.peer.status()[0].last_error.is_some()
    })
    .await;
    let why = supplier.peer.status()[0].last_error.clone().unwrap();
    assert!(
        why.contains(right) && why.contains(wrong) && why.contains("Qm…"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_peers_are_dropped_and_the_others_notice_nothing() {
    let hub = Hub::start().await;
    let mut supplier = peer(&hub.address(), &["hello"]).await;
    let buyer = peer(&hub.address(), &[]).await;

    let huge_varint = vec![0xff; 32];
    let too_long = raw::varint(1 << 40);
    let mut hostile = Vec::new();
    for junk in [
        huge_varint,
        too_long,
        [5, 0xff, 0xff, 0xff, 0xff, 0xff].repeat(50),
    ] {
        let mut client = raw::Client::connect(&hub.address()).await;
        client.write(&junk).await;
        hostile.push(client);
    }
    let mut forger = raw::Client::connect(&hub.address()).await;
    for n in 0..50 {
        forger
            .write(&raw::frame(&raw::unsigned(n, "hello", b"forged")))
            .await;
    }
    hostile.push(forger);
    let mut greedy = raw::Client::connect(&hub.address()).await;
    for n in 0..200 {
        greedy
            .write(&raw::frame(&raw::subscription(&format!("t{n}"))))
            .await;
    }
    hostile.push(greedy);

    for client in &mut hostile {
        client.until_closed().await;
    }
    buyer.publish("hello", "still here").await;
    assert_eq!(text(&heard(&mut supplier).await), "still here");
    nothing_more(&mut supplier).await;
    let counted = &hub.tasks.metrics.messages;
    assert!(
        counted.get("unsigned") >= 20,
        "unsigned {}",
        counted.get("unsigned")
    );
    assert!(
        counted.get("malformed") >= 20,
        "malformed {}",
        counted.get("malformed")
    );
    assert!(
        counted.get("overflow") >= 20,
        "overflow {}",
        counted.get("overflow")
    );
    eventually("two peers to be left", || hub.hub.stats().peers == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_is_cut_off_and_holds_up_nobody() {
    let hub = Hub::start().await;
    let mut supplier = peer(&hub.address(), &["hello"]).await;
    let buyer = peer(&hub.address(), &[]).await;
    let mut slow = raw::Client::connect(&hub.address()).await;
    slow.write(&raw::frame(&raw::subscription("hello"))).await;
    eventually("three peers", || hub.hub.stats().peers == 3).await;

    let big = "x".repeat(100_000);
    for n in 0..120 {
        buyer.publish("hello", &format!("{n} {big}")).await;
        let got = heard(&mut supplier).await;
        assert!(text(&got).starts_with(&format!("{n} ")));
    }
    slow.until_closed().await;
    eventually("the slow one to be gone", || hub.hub.stats().peers == 2).await;
    assert!(hub.hub.stats().cached_bytes <= hub.config.cache_bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_no_bytes_at_all_does_not_keep_its_place() {
    let hub = Hub::start_with(|c| c.max_peers = 2).await;
    let proxy = proxy::Proxy::to(hub.port()).await;
    let _stuck = peer(&hub.address_at(proxy.port()), &["hello"]).await;
    let buyer = peer(&hub.address(), &[]).await;
    let mut waiting = support::start_peer(&hub.address(), &["hello"]);
    eventually("the house to be full", || {
        waiting.peer.status()[0].last_error.is_some()
    })
    .await;

    proxy.choke();
    let big = "x".repeat(100_000);
    for _ in 0..80 {
        buyer.publish("hello", &big).await;
    }
    // The place is free although the stuck connection cannot even be closed in order.
    waiting.until_connected().await;
    assert_eq!(heard(&mut waiting).await.data.len(), big.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_subscribers_get_everything() {
    let hub = Hub::start().await;
    let buyer = peer(&hub.address(), &[]).await;
    let mut all = Vec::new();
    // Not all at once: sixty handshakes on a slow machine may take longer than one may.
    for _ in 0..6 {
        let some: Vec<_> = (0..10)
            .map(|_| support::start_peer(&hub.address(), &["hello"]))
            .collect();
        for p in &some {
            p.until_connected().await;
        }
        all.extend(some);
    }
    for n in 0..30 {
        buyer.publish("hello", &format!("request {n}")).await;
    }
    for p in &mut all {
        for n in 0..30 {
            assert_eq!(text(&heard(p).await), format!("request {n}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_noticed_at_both_ends_and_replaced() {
    let hub = Hub::start_with(|c| (c.probe_after, c.probe_timeout) = IMPATIENT).await;
    let proxy = proxy::Proxy::to(hub.port()).await;
    let through = hub.address_at(proxy.port());
    let mut supplier = support::start_impatient_peer(&through, &["hello"]);
    supplier.until_connected().await;
    let buyer = peer(&hub.address(), &[]).await;
    buyer.publish("hello", "before").await;
    assert_eq!(text(&heard(&mut supplier).await), "before");

    proxy.freeze();
    supplier.until_disconnected().await;
    eventually("the reason", || {
        supplier.peer.status()[0]
            .last_error
            .as_ref()
            .is_some_and(|e| e.contains("dead") || e.contains("within"))
    })
    .await;
    eventually("the hub to notice", || hub.hub.stats().peers == 1).await;
    buyer.publish("hello", "meanwhile").await;
    proxy.thaw();
    supplier.until_connected().await;
    assert_eq!(text(&heard(&mut supplier).await), "meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_coordinators_carry_a_message_in_once_and_either_suffices() {
    let (mut first, second) = (Hub::start().await, Hub::start().await);
    let both = [first.address(), second.address()];
    let mut supplier = support::start_peer_at(&both, &["hello"]);
    let buyer = support::start_peer_at(&both, &[]);
    for p in [&supplier, &buyer] {
        eventually("both", || p.peer.status().iter().all(|s| s.connected)).await;
    }
    // Each coordinator has its own id and so its own message; each comes in once.
    buyer.publish("hello", "twice said").await;
    assert_eq!(text(&heard(&mut supplier).await), "twice said");
    assert_eq!(text(&heard(&mut supplier).await), "twice said");
    nothing_more(&mut supplier).await;
    first.stop().await;
    eventually("one", || !buyer.peer.status()[0].connected).await;
    buyer.publish("hello", "by the other").await;
    assert_eq!(text(&heard(&mut supplier).await), "by the other");
    assert!(*supplier.peer.connected().borrow());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_are_held_to() {
    let hub = Hub::start().await;
    let mut supplier = peer(&hub.address(), &["hello"]).await;
    let buyer = peer(&hub.address(), &[]).await;
    let huge = buyer.peer.publish("hello", vec![b'x'; 4 << 20]).await;
    assert!(matches!(huge, Err(PublishError::TooLarge { .. })));
    buyer.publish("hello", &"x".repeat(300 << 10)).await;
    buyer.publish("hello", "small").await;
    assert_eq!(text(&heard(&mut supplier).await), "small");
    assert_eq!(supplier.tasks.metrics.messages.get("oversized"), 1);
    for tasks in [&supplier.tasks, &hub.tasks] {
        assert!(tokio::time::timeout(far(), tasks.stop()).await.is_ok());
    }
}

#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_either_loop_is_survived() {
    let hub = Hub::start().await;
    let mut supplier = peer(&hub.address(), &["hello"]).await;
    let buyer = peer(&hub.address(), &[]).await;
    let connections = || supplier.peer.status()[0].connections;
    hub.tasks.register.arm("coordinator");
    eventually("a new connection", || connections() >= 2).await;
    supplier.tasks.register.arm("coordinator-peer 1");
    eventually("the loop's failure", || {
        supplier
            .tasks
            .metrics
            .loop_failures
            .get("coordinator-peer 1")
            == 1
    })
    .await;
    supplier.until_connected().await;
    buyer.until_connected().await;
    buyer.publish("hello", "still trading").await;
    assert_eq!(text(&heard(&mut supplier).await), "still trading");
}
