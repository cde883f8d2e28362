//! The messages of `/meshsub/1.1.0`: reading an RPC piece by piece, signing and verifying (StrictSign).
//!
//! Promise: bytes from outside never panic, and reading a frame holds one piece of it decoded at a time,
//! so a frame of many tiny pieces costs no more memory than its bytes. Every message we make carries the
//! `key` field: TypeScript peers silently drop one without it.

use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey, SigningError},
};
use prost::{
    Message as _,
    bytes::{Buf, Bytes, BytesMut},
    encoding::{self, WireType},
};

use super::seen::MessageId;

/// What every signature of a message begins with.
const SIGN_PREFIX: &[u8] = b"libp2p-pubsub:";
/// Control larger than this is skipped: its lists unpack to many times their size.
const MAX_CONTROL: usize = 4 << 20;
/// A topic is a request id or a short name.
pub const MAX_TOPIC: usize = 512;
/// Code of the multihash that holds the bytes themselves: such a peer id is its public key.
const IDENTITY_MULTIHASH: u64 = 0;

/// One published message. Fields 1 to 4 are signed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub from: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub data: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub seqno: Option<Bytes>,
    #[prost(string, optional, tag = "4")]
    pub topic: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub signature: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub key: Option<Bytes>,
}

/// "I (no longer) want messages of this topic."
#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscription {
    #[prost(bool, optional, tag = "1")]
    pub subscribe: Option<bool>,
    #[prost(string, optional, tag = "2")]
    pub topic: Option<String>,
}

/// What we heed of the control part; grafts and prunes are deliberately not even decoded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Control {
    #[prost(message, repeated, tag = "1")]
    pub ihave: Vec<Have>,
    #[prost(message, repeated, tag = "2")]
    pub iwant: Vec<Want>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Have {
    #[prost(string, optional, tag = "1")]
    pub topic: Option<String>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub ids: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Want {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub ids: Vec<Bytes>,
}

/// The control part that we write and do not read.
#[derive(Clone, PartialEq, prost::Message)]
struct Joining {
    #[prost(message, repeated, tag = "3")]
    graft: Vec<Graft>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Graft {
    #[prost(string, optional, tag = "1")]
    topic: Option<String>,
}

/// One piece of an RPC.
#[derive(Debug)]
pub enum Part {
    Subscription { topic: String, subscribe: bool },
    Message(Message),
    Control(Control),
}

/// The bytes are not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed")]
pub struct Malformed;

/// Why a message is not taken. The name counted is [`Rejected::outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("not signed")]
    Unsigned,
    #[error("the signature is not its author's")]
    BadSignature,
    #[error("fields missing or of wrong form")]
    Malformed,
}

impl Rejected {
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::BadSignature => "bad-signature",
            Self::Malformed => "malformed",
        }
    }
}

/// Walks the pieces of one frame.
pub struct Parts(Bytes);

impl Parts {
    pub fn new(frame: Bytes) -> Self {
        Self(frame)
    }

    fn field(&mut self) -> Result<Option<(u32, Bytes)>, Malformed> {
        let buffer = &mut self.0;
        let (tag, wire) = encoding::decode_key(buffer).map_err(|_| Malformed)?;
        if wire != WireType::LengthDelimited {
            encoding::skip_field(wire, tag, buffer, encoding::DecodeContext::default())
                .map_err(|_| Malformed)?;
            return Ok(None);
        }
        let length = encoding::decode_varint(buffer).map_err(|_| Malformed)?;
        if length > buffer.remaining() as u64 {
            return Err(Malformed);
        }
        Ok(Some((tag, buffer.split_to(length as usize))))
    }
}

impl Iterator for Parts {
    type Item = Result<Part, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let (tag, body) = match self.field() {
                Ok(Some(field)) => field,
                Ok(None) => continue,
                Err(e) => {
                    // What follows cannot be told apart any more.
                    self.0.clear();
                    return Some(Err(e));
                }
            };
            return Some(match tag {
                1 => subscription(body),
                2 => Message::decode(body)
                    .map(Part::Message)
                    .map_err(|_| Malformed),
                3 if body.len() <= MAX_CONTROL => Control::decode(body)
                    .map(Part::Control)
                    .map_err(|_| Malformed),
                3 => Err(Malformed),
                _ => continue,
            });
        }
        None
    }
}

fn subscription(body: Bytes) -> Result<Part, Malformed> {
    match Subscription::decode(body) {
        Ok(Subscription {
            subscribe,
            topic: Some(topic),
        }) if topic.len() <= MAX_TOPIC => Ok(Part::Subscription {
            topic,
            subscribe: subscribe.unwrap_or(false),
        }),
        _ => Err(Malformed),
    }
}

/// Encodes one field of an RPC. Such fields set one after another are an RPC.
fn field(tag: u32, body: &impl prost::Message) -> Bytes {
    let length = body.encoded_len();
    let mut out = BytesMut::with_capacity(length + 12);
    encoding::encode_key(tag, WireType::LengthDelimited, &mut out);
    encoding::encode_varint(length as u64, &mut out);
    body.encode_raw(&mut out);
    out.freeze()
}

/// The field that announces a subscription or its end.
pub fn subscription_field(topic: &str, subscribe: bool) -> Bytes {
    let body = Subscription {
        subscribe: Some(subscribe),
        topic: Some(topic.to_owned()),
    };
    field(1, &body)
}

/// The field that asks to be sent every message of these topics at once, not only its id at a heartbeat.
/// A frame may hold one control field only: TypeScript peers heed the last.
pub fn graft_field(topics: &[&str]) -> Bytes {
    let graft = |topic: &&str| Graft {
        topic: Some((*topic).to_owned()),
    };
    let body = Joining {
        graft: topics.iter().map(graft).collect(),
    };
    field(3, &body)
}

/// The field that asks for messages by id.
pub fn want_field(ids: Vec<Bytes>) -> Bytes {
    let body = Control {
        ihave: Vec::new(),
        iwant: vec![Want { ids }],
    };
    field(3, &body)
}

/// A message whose author was proven.
#[derive(Clone, Debug)]
pub struct Verified {
    pub author: PeerId,
    pub id: MessageId,
    pub topic: String,
    pub data: Bytes,
    message: Message,
}

impl Verified {
    /// The field that passes this message on. The key is written even where the author left it out.
    pub fn field(&self) -> Bytes {
        field(2, &self.message)
    }
}

impl Message {
    /// Makes and signs a message.
    ///
    /// # Errors
    /// What the key says if it cannot sign.
    pub fn sign(
        key: &Keypair,
        topic: &str,
        data: Vec<u8>,
        seqno: u64,
    ) -> Result<Verified, SigningError> {
        let author = key.public().to_peer_id();
        let mut message = Self {
            from: Some(Bytes::from(author.to_bytes())),
            data: Some(Bytes::from(data)),
            seqno: Some(Bytes::copy_from_slice(&seqno.to_be_bytes())),
            topic: Some(topic.to_owned()),
            signature: None,
            key: None,
        };
        message.signature = Some(Bytes::from(key.sign(&message.signed_text())?));
        message.key = Some(Bytes::from(key.public().encode_protobuf()));
        Ok(Verified {
            author,
            id: message.id(),
            topic: topic.to_owned(),
            data: message.data.clone().unwrap_or_default(),
            message,
        })
    }

    /// Author's bytes, then the sequence number's.
    pub fn id(&self) -> MessageId {
        let (from, seqno) = (self.from.as_deref(), self.seqno.as_deref());
        [from.unwrap_or_default(), seqno.unwrap_or_default()].concat()
    }

    /// Checks form and signature.
    ///
    /// # Errors
    /// See [`Rejected`].
    pub fn verify(mut self) -> Result<Verified, Rejected> {
        let topic = self.topic.clone().ok_or(Rejected::Malformed)?;
        if topic.len() > MAX_TOPIC {
            return Err(Rejected::Malformed);
        }
        let (Some(from), Some(seqno), Some(signature)) = (&self.from, &self.seqno, &self.signature)
        else {
            return Err(Rejected::Unsigned);
        };
        if seqno.len() != 8 {
            return Err(Rejected::Malformed);
        }
        let author = PeerId::from_bytes(from).map_err(|_| Rejected::Malformed)?;
        let key = match self.key.as_deref() {
            Some(bytes) if !bytes.is_empty() => PublicKey::try_decode_protobuf(bytes),
            _ if author.as_ref().code() == IDENTITY_MULTIHASH => {
                PublicKey::try_decode_protobuf(author.as_ref().digest())
            }
            _ => return Err(Rejected::Unsigned),
        }
        .map_err(|_| Rejected::Malformed)?;
        if key.to_peer_id() != author || !key.verify(&self.signed_text(), signature) {
            return Err(Rejected::BadSignature);
        }
        self.key = Some(Bytes::from(key.encode_protobuf()));
        Ok(Verified {
            author,
            id: self.id(),
            topic,
            data: self.data.clone().unwrap_or_default(),
            message: self,
        })
    }

    fn signed_text(&self) -> Vec<u8> {
        let signed = Self {
            signature: None,
            key: None,
            ..self.clone()
        };
        [SIGN_PREFIX, &signed.encode_to_vec()].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(field: Bytes) -> Message {
        match Parts::new(field).next() {
            Some(Ok(Part::Message(m))) => m,
            other => panic!("{other:?}"),
        }
    }

    fn signed(data: &[u8]) -> Verified {
        Message::sign(&Keypair::generate_ed25519(), "hello", data.to_vec(), 7).unwrap()
    }

    #[test]
    fn what_we_sign_verifies_with_every_kind_of_key_and_carries_the_key() {
        let keys = [
            Keypair::generate_ed25519(),
            Keypair::generate_secp256k1(),
            Keypair::generate_ecdsa(),
        ];
        for key in keys {
            let made = Message::sign(&key, "hello", b"hi".to_vec(), u64::MAX).unwrap();
            let read = decoded(made.field());
            assert!(!read.key.as_ref().unwrap().is_empty());
            let read = read.verify().unwrap();
            assert_eq!(
                (read.author, &read.id, read.topic.as_str(), &read.data[..]),
                (key.public().to_peer_id(), &made.id, "hello", &b"hi"[..])
            );
            let mut id = key.public().to_peer_id().to_bytes();
            id.extend(u64::MAX.to_be_bytes());
            assert_eq!(made.id, id);
        }
    }

    #[test]
    fn a_key_left_out_is_read_from_the_peer_id_and_added_when_passed_on() {
        let mut bare = decoded(signed(b"x").field());
        bare.key = None;
        let passed_on = decoded(bare.verify().unwrap().field());
        assert!(passed_on.key.is_some());
        passed_on.verify().unwrap();
    }

    #[test]
    fn a_message_changed_or_unsigned_is_refused() {
        let good = decoded(signed(b"x").field());
        let mut m = good.clone();
        m.data = Some(Bytes::from_static(b"y"));
        assert_eq!(m.verify().unwrap_err(), Rejected::BadSignature);
        let mut m = good.clone();
        m.topic = Some("other".into());
        assert_eq!(m.verify().unwrap_err(), Rejected::BadSignature);
        let mut m = good.clone();
        m.signature = None;
        assert_eq!(m.verify().unwrap_err(), Rejected::Unsigned);
        let mut m = good.clone();
        m.seqno = Some(Bytes::from_static(b"123"));
        assert_eq!(m.verify().unwrap_err(), Rejected::Malformed);
        let mut m = good;
        m.key = Some(
            Keypair::generate_ed25519()
                .public()
                .encode_protobuf()
                .into(),
        );
        assert_eq!(m.verify().unwrap_err(), Rejected::BadSignature);
    }

    #[test]
    fn a_graft_is_written_as_others_read_it_and_means_nothing_to_us() {
        let field = graft_field(&["a", "b"]);
        assert_eq!(&field[..], b"\x1a\x0a\x1a\x03\x0a\x01a\x1a\x03\x0a\x01b");
        assert!(
            matches!(Parts::new(field).next(), Some(Ok(Part::Control(c))) if c == Control::default())
        );
    }

    #[test]
    fn a_bad_piece_does_not_hide_the_good_ones_after_it() {
        let mut frame = BytesMut::new();
        frame.extend_from_slice(&[0x12, 3, 0xff, 0xff, 0xff]);
        frame.extend_from_slice(&subscription_field("hello", true));
        frame.extend_from_slice(&signed(b"x").field());
        frame.extend_from_slice(&want_field(vec![Bytes::from_static(b"id")]));
        let parts: Vec<_> = Parts::new(frame.freeze()).collect();
        assert!(parts[0].is_err());
        assert!(
            matches!(&parts[1], Ok(Part::Subscription { topic, subscribe: true }) if topic == "hello")
        );
        assert!(matches!(&parts[2], Ok(Part::Message(_))));
        assert!(matches!(&parts[3], Ok(Part::Control(c)) if c.iwant[0].ids[0] == "id"));
        assert_eq!(parts.len(), 4);
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..600)) {
            for part in Parts::new(Bytes::from(noise)) {
                if let Ok(Part::Message(m)) = part {
                    assert!(m.verify().is_err());
                }
            }
        }

        #[test]
        fn a_flipped_bit_never_passes_as_another_message(at in 0usize..1000, bit in 0u8..8) {
            let made = signed(b"some text of a request");
            let mut bytes = made.field().to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            for part in Parts::new(Bytes::from(bytes)) {
                if let Ok(Part::Message(m)) = part
                    && let Ok(v) = m.verify()
                {
                    assert_eq!((v.id, v.topic, v.data), (made.id.clone(), made.topic.clone(), made.data.clone()));
                }
            }
        }
    }
}
