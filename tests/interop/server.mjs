// A stand-in for the market's own TypeScript server, with the habits that a peer has to live with:
// it subscribes to a topic at the first message on it, replays all it keeps in one RPC 250 ms after a peer
// came, and never forgets a peer, so that an id which comes back gets no stream. Else stock gossipsub.
// In one thing it is kinder: theirs loses the replay if its stream to the peer is not open by then, which no
// peer can help; this one waits for the stream, so that a busy machine does not look like a fault of ours.
// {topics, seconds, port, heartbeat: ms} -> {"listening": multiaddr}, then JSON lines: {"accepted"} per message,
// {"subscribed"} per topic of a peer, {"replayed"} once per peer.
import { GossipSub } from '@chainsafe/libp2p-gossipsub'
import { args, create, fail, say, until } from './peer.mjs'

const { topics = [], seconds = 600, port = 0, heartbeat = 1000 } = args()
setTimeout(() => fail('time is up'), seconds * 1000)

class Server extends GossipSub {
  kept = []

  async handleReceivedMessage (from, message) {
    if (!this.subscriptions.has(message.topic)) this.subscribe(message.topic)
    this.kept.push({ ...message })
    return super.handleReceivedMessage(from, message)
  }

  addPeer (peerId, direction, address) {
    const fresh = !this.peers.has(peerId.toString())
    super.addPeer(peerId, direction, address)
    if (fresh) setTimeout(() => this.replay(peerId.toString()), 250)
  }

  async replay (peer) {
    await until(() => this.streamsOutbound.has(peer))
    if (this.kept.length > 0) this.sendRpc(peer, { subscriptions: [], messages: this.kept })
    say({ replayed: this.kept.length, peer })
  }

  removePeer () {}
}

try {
  const options = { allowPublishToZeroPeers: true, heartbeatInterval: heartbeat }
  const node = await create((components) => new Server(components, options), [`/ip4/127.0.0.1/tcp/${port}/ws`])
  const pubsub = node.services.pubsub
  pubsub.addEventListener('message', ({ detail }) =>
    say({ accepted: new TextDecoder().decode(detail.data), topic: detail.topic, from: detail.from.toString() })
  )
  pubsub.addEventListener('subscription-change', ({ detail }) =>
    detail.subscriptions
      .filter(({ subscribe }) => subscribe)
      .forEach(({ topic }) => say({ subscribed: topic, peer: detail.peerId.toString() }))
  )
  topics.forEach((topic) => pubsub.subscribe(topic))
  say({ listening: node.getMultiaddrs()[0].toString() })
} catch (e) {
  fail(e)
}
