// A stock js-libp2p peer with stock gossipsub, attached to one coordinator as the market's own peers are.
import { gossipsub } from '@chainsafe/libp2p-gossipsub'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { mplex } from '@libp2p/mplex'
import { webSockets } from '@libp2p/websockets'
import { all } from '@libp2p/websockets/filters'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

export const args = () => JSON.parse(process.argv[2] ?? '{}')

export const say = (object) =>
  process.stdout.write(JSON.stringify(object, (_, v) => (typeof v === 'bigint' ? v.toString() : v)) + '\n')

export const fail = (why) => {
  say({ error: String(why?.stack ?? why) })
  process.exit(1)
}

export const create = (pubsub, listen = []) =>
  createLibp2p({
    addresses: { listen },
    transports: [webSockets({ filter: all })],
    connectionEncryption: [noise()],
    streamMuxers: [yamux(), mplex()],
    services: { pubsub }
  })

// Resolves once the coordinator's streams stand.
export const attach = async (coordinator) => {
  const address = multiaddr(coordinator)
  const id = peerIdFromString(address.getPeerId())
  const node = await create(gossipsub({ directPeers: [{ id, addrs: [address] }] }))
  await node.dial(address)
  const pubsub = node.services.pubsub
  await until(() => pubsub.streamsOutbound.has(id.toString()) && pubsub.streamsInbound.has(id.toString()))
  return { node, pubsub, coordinator: id }
}

export const until = async (condition) => {
  while (!condition()) await new Promise((r) => setTimeout(r, 20))
}
