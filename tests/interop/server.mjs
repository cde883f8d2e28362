// A stand-in for the market's own TypeScript server, with the habits that a peer has to live with:
// it subscribes to a topic at the first message on it, replays all it keeps in one RPC 250 ms after a peer
// came, and never forgets a peer, so that an id which comes back gets no stream. Else stock gossipsub.
// {topics, seconds} -> {"listening": multiaddr}, then a JSON line per message accepted.
import { GossipSub } from '@chainsafe/libp2p-gossipsub'
import { args, create, fail, say } from './peer.mjs'

const { topics = [], seconds = 300, port = 0 } = args()
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
    if (fresh) {
      setTimeout(() => {
        if (this.kept.length > 0) this.sendRpc(peerId.toString(), { subscriptions: [], messages: this.kept })
      }, 250)
    }
  }

  removePeer () {}
}

try {
  const node = await create((components) => new Server(components, { allowPublishToZeroPeers: true }), [
    `/ip4/127.0.0.1/tcp/${port}/ws`
  ])
  const pubsub = node.services.pubsub
  pubsub.addEventListener('message', ({ detail }) =>
    say({ accepted: new TextDecoder().decode(detail.data), topic: detail.topic, from: detail.from.toString() })
  )
  topics.forEach((topic) => pubsub.subscribe(topic))
  say({ listening: node.getMultiaddrs()[0].toString() })
} catch (e) {
  fail(e)
}
