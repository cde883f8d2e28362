//! Who wants which topic, and what goes where. No sockets here: everything ends in an outbox.
//!
//! Promise: a member gets every message of a topic it wants, kept or live, once per connection and in the
//! order the hub took them, and none that it sent or wrote itself. A topic is announced to everybody while
//! it is relayed. A member whose outbox is full is named by [`Relay::take_slow`] and holds up nobody.

use std::{
    collections::{HashMap, HashSet},
    mem,
    time::Duration,
};

use libp2p::{PeerId, swarm::ConnectionId};
use prost::bytes::Bytes;
use tokio::time::Instant;

use super::{
    super::{
        rpc::{self, Verified},
        seen::Seen,
    },
    CoordinatorStats,
    cache::Cache,
    outbox::Outbox,
};
use crate::config;

/// A topic nobody wants and nothing is kept of is forgotten after this time.
const IDLE_TOPIC: Duration = Duration::from_secs(60);
/// Message ids are remembered at least this long.
const REMEMBER: Duration = Duration::from_secs(180);
const REMEMBERED: usize = 200_000;

/// A limit on topics is reached.
#[derive(Debug)]
pub(super) struct Full;

struct Member {
    peer: PeerId,
    outbox: Outbox,
    topics: HashMap<String, Interest>,
}

struct Interest {
    wanted: bool,
    /// Number in the cache up to which this member was served.
    served: u64,
}

struct Topic {
    subscribers: HashSet<ConnectionId>,
    touched: Instant,
}

/// See the module's header.
pub(super) struct Relay {
    members: HashMap<ConnectionId, Member>,
    topics: HashMap<String, Topic>,
    cache: Cache,
    seen: Seen,
    slow: Vec<ConnectionId>,
    max_topics: usize,
    max_topics_per_peer: usize,
    accepted: u64,
    forwarded: u64,
}

impl Relay {
    pub(super) fn new(config: &config::Coordinator) -> Self {
        Self {
            members: HashMap::new(),
            topics: HashMap::new(),
            cache: Cache::new(
                config.cache_messages,
                config.cache_bytes,
                config.cache_age.0,
            ),
            seen: Seen::new(REMEMBER, REMEMBERED),
            slow: Vec::new(),
            max_topics: config.max_topics,
            max_topics_per_peer: config.max_topics_per_peer,
            accepted: 0,
            forwarded: 0,
        }
    }

    pub(super) fn show(&self, stats: &mut CoordinatorStats) {
        stats.topics = self.topics.len();
        stats.cached_messages = self.cache.len();
        stats.cached_bytes = self.cache.bytes();
        stats.accepted = self.accepted;
        stats.forwarded = self.forwarded;
    }

    /// Members whose outbox was full since the last call. They must leave.
    pub(super) fn take_slow(&mut self) -> Vec<ConnectionId> {
        mem::take(&mut self.slow)
    }

    /// A new member is told all topics we relay.
    pub(super) fn join(&mut self, id: ConnectionId, peer: PeerId, outbox: Outbox) {
        let relayed = self.topics.keys();
        let announced = relayed.map(|t| rpc::subscription_field(t, true)).collect();
        if outbox.put_many(announced).is_err() {
            self.slow.push(id);
        }
        let member = Member {
            peer,
            outbox,
            topics: HashMap::new(),
        };
        self.members.insert(id, member);
    }

    pub(super) fn leave(&mut self, id: ConnectionId) {
        let Some(member) = self.members.remove(&id) else {
            return;
        };
        for name in member.topics.keys() {
            if let Some(topic) = self.topics.get_mut(name) {
                topic.subscribers.remove(&id);
                topic.touched = Instant::now();
            }
        }
    }

    /// Hands over what is kept of the topic and has not been handed to this member, and goes on from there.
    pub(super) fn subscribe(&mut self, id: ConnectionId, name: &str) -> Result<(), Full> {
        let Some(member) = self.members.get(&id) else {
            return Ok(());
        };
        if member.topics.len() >= self.max_topics_per_peer && !member.topics.contains_key(name) {
            return Err(Full);
        }
        self.take_up(name)?;
        self.cache.expire(Instant::now());
        let mark = self.cache.mark();
        let (Some(member), Some(topic)) = (self.members.get_mut(&id), self.topics.get_mut(name))
        else {
            return Ok(());
        };
        topic.subscribers.insert(id);
        let interest = member.topics.entry(name.to_owned()).or_insert(Interest {
            wanted: false,
            served: 0,
        });
        if interest.wanted {
            return Ok(());
        }
        let kept = self.cache.since(name, interest.served, &member.peer);
        *interest = Interest {
            wanted: true,
            served: mark,
        };
        self.forwarded += kept.len() as u64;
        if member.outbox.put_many(kept).is_err() {
            self.slow.push(id);
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, id: ConnectionId, name: &str) {
        let mark = self.cache.mark();
        let interest = self
            .members
            .get_mut(&id)
            .and_then(|m| m.topics.get_mut(name));
        if let Some(interest) = interest
            && interest.wanted
        {
            *interest = Interest {
                wanted: false,
                served: mark,
            };
        }
        if let Some(topic) = self.topics.get_mut(name) {
            topic.subscribers.remove(&id);
            topic.touched = Instant::now();
        }
    }

    /// Passes a message on and keeps it. False if it was known.
    pub(super) fn message(
        &mut self,
        from: ConnectionId,
        message: &Verified,
        field: Bytes,
    ) -> Result<bool, Full> {
        if self.seen.contains(&message.id) {
            return Ok(false);
        }
        self.take_up(&message.topic)?;
        self.seen.insert(message.id.clone());
        self.accepted += 1;
        self.cache
            .push(&message.topic, message.author, field.clone());
        if let Some(topic) = self.topics.get_mut(&message.topic) {
            topic.touched = Instant::now();
            for id in topic.subscribers.iter().filter(|id| **id != from) {
                match self.members.get(id) {
                    Some(member) if member.peer != message.author => {
                        match member.outbox.put(field.clone()) {
                            Ok(()) => self.forwarded += 1,
                            Err(_) => self.slow.push(*id),
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(true)
    }

    /// Asks a member for those of the messages it offers that are not known.
    pub(super) fn offered(&mut self, id: ConnectionId, mut ids: Vec<Bytes>) {
        ids.retain(|i| !self.seen.contains(i));
        if !ids.is_empty()
            && let Some(member) = self.members.get(&id)
            && member.outbox.put(rpc::want_field(ids)).is_err()
        {
            self.slow.push(id);
        }
    }

    /// Old messages and idle topics go.
    pub(super) fn sweep(&mut self) {
        self.cache.expire(Instant::now());
        self.forget_idle(IDLE_TOPIC);
    }

    /// Begins to relay a topic, telling everybody, if it is new.
    fn take_up(&mut self, name: &str) -> Result<(), Full> {
        if self.topics.contains_key(name) {
            return Ok(());
        }
        if self.topics.len() >= self.max_topics {
            self.forget_idle(Duration::ZERO);
            if self.topics.len() >= self.max_topics {
                return Err(Full);
            }
        }
        let topic = Topic {
            subscribers: HashSet::new(),
            touched: Instant::now(),
        };
        self.topics.insert(name.to_owned(), topic);
        self.tell_all(&rpc::subscription_field(name, true));
        Ok(())
    }

    fn tell_all(&mut self, field: &Bytes) {
        for (id, member) in &self.members {
            if member.outbox.put(field.clone()).is_err() {
                self.slow.push(*id);
            }
        }
    }

    fn forget_idle(&mut self, idle: Duration) {
        let cache = &self.cache;
        let mut gone = Vec::new();
        self.topics.retain(|name, topic| {
            let keep = !topic.subscribers.is_empty()
                || cache.holds(name)
                || topic.touched.elapsed() < idle;
            if !keep {
                gone.push(name.clone());
            }
            keep
        });
        for name in gone {
            for member in self.members.values_mut() {
                member.topics.remove(&name);
            }
            self.tell_all(&rpc::subscription_field(&name, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use libp2p::identity::Keypair;
    use proptest::prelude::*;

    use super::{
        super::{
            super::rpc::{Message, Part, Parts},
            outbox::{Post, outbox},
        },
        *,
    };

    const TOPICS: [&str; 2] = ["a", "b"];

    /// Signing is slow in a debug build: made once, used in order.
    static MESSAGES: LazyLock<Vec<Verified>> = LazyLock::new(|| {
        let key = Keypair::generate_ed25519();
        let topic = |n: u64| TOPICS[n as usize % 2];
        (0..60)
            .map(|n| Message::sign(&key, topic(n), vec![n as u8], n).unwrap())
            .collect()
    });

    fn relay(change: impl FnOnce(&mut config::Coordinator)) -> Relay {
        let mut config = config::Coordinator::default();
        change(&mut config);
        Relay::new(&config)
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn join(relay: &mut Relay, n: usize, queue: usize) -> Post {
        let (outbox, post) = outbox(queue, 1 << 20);
        relay.join(id(n), PeerId::random(), outbox);
        post
    }

    fn send(relay: &mut Relay, from: usize, n: usize) -> Result<bool, Full> {
        let message = &MESSAGES[n];
        relay.message(id(from), message, message.field())
    }

    /// The numbers of the messages, and the topics announced, that wait in this outbox.
    fn read(post: &mut Post) -> (Vec<u8>, Vec<(String, bool)>) {
        let (mut messages, mut announced) = (Vec::new(), Vec::new());
        for field in post.drain() {
            match Parts::new(field).next() {
                Some(Ok(Part::Message(m))) => messages.push(m.data.unwrap()[0]),
                Some(Ok(Part::Subscription { topic, subscribe })) => {
                    announced.push((topic, subscribe));
                }
                other => panic!("{other:?}"),
            }
        }
        (messages, announced)
    }

    proptest! {
        /// 0, 1: (un)subscribe of the reader to a topic; 2: the next message is sent.
        #[test]
        fn who_wants_a_topic_at_the_end_got_all_of_it_once_and_in_order(
            steps in proptest::collection::vec((0u8..3, 0usize..2), 0..50)
        ) {
            let mut relay = relay(|_| {});
            let mut reader = join(&mut relay, 1, 1000);
            let mut author = join(&mut relay, 2, 1000);
            let mut sent = 0;
            let mut wanted = [false; 2];
            for (what, topic) in steps {
                match what {
                    0 => relay.subscribe(id(1), TOPICS[topic]).unwrap(),
                    1 => relay.unsubscribe(id(1), TOPICS[topic]),
                    _ => {
                        prop_assert!(send(&mut relay, 2, sent).unwrap());
                        prop_assert!(!send(&mut relay, 1, sent).unwrap(), "a duplicate passed");
                        sent += 1;
                    }
                }
                if what < 2 {
                    wanted[topic] = what == 0;
                }
            }
            let got = read(&mut reader).0;
            for (topic, wanted) in wanted.iter().enumerate() {
                let of_topic: Vec<u8> = (0..sent as u8).filter(|n| *n as usize % 2 == topic).collect();
                let got: Vec<u8> = got.iter().copied().filter(|n| *n as usize % 2 == topic).collect();
                if *wanted {
                    prop_assert_eq!(got, of_topic);
                } else {
                    prop_assert!(of_topic.starts_with(&got));
                }
            }
            prop_assert!(read(&mut author).0.is_empty());
        }
    }

    #[test]
    fn a_topic_is_announced_to_all_while_relayed_and_taken_back_when_idle() {
        let mut relay = relay(|_| {});
        let mut early = join(&mut relay, 1, 100);
        relay.subscribe(id(1), "a").unwrap();
        relay.subscribe(id(1), "a").unwrap();
        let mut late = join(&mut relay, 2, 100);
        let told = vec![("a".to_owned(), true)];
        assert_eq!(read(&mut early).1, told);
        assert_eq!(read(&mut late).1, told);
        relay.leave(id(1));
        relay.sweep();
        assert!(read(&mut late).1.is_empty(), "not idle for long yet");
        relay.forget_idle(Duration::ZERO);
        assert_eq!(read(&mut late).1, vec![("a".to_owned(), false)]);
    }

    #[test]
    fn topics_are_limited_by_peer_and_in_all() {
        let mut relay = relay(|c| {
            c.max_topics = 3;
            c.max_topics_per_peer = 2;
        });
        let _posts = [join(&mut relay, 1, 100), join(&mut relay, 2, 100)];
        relay.subscribe(id(1), "x").unwrap();
        relay.subscribe(id(1), "y").unwrap();
        relay.subscribe(id(1), "z").unwrap_err();
        relay.subscribe(id(2), "z").unwrap();
        send(&mut relay, 1, 0).unwrap_err();
        relay.leave(id(2));
        assert!(send(&mut relay, 1, 0).unwrap(), "an idle topic makes room");
    }

    #[test]
    fn a_full_outbox_names_its_member_and_the_others_get_everything() {
        let mut relay = relay(|_| {});
        let _slow = join(&mut relay, 1, 4);
        let mut quick = join(&mut relay, 2, 100);
        for n in [1, 2] {
            relay.subscribe(id(n), "a").unwrap();
        }
        for n in 0..20 {
            send(&mut relay, 3, n).unwrap();
        }
        assert_eq!(read(&mut quick).0.len(), 10);
        let slow = relay.take_slow();
        assert!(!slow.is_empty() && slow.iter().all(|s| *s == id(1)));
        assert!(relay.take_slow().is_empty());
    }
}
