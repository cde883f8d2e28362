// What a supplier of the market's own make costs: stock js-libp2p, superjson, and an offer signed by viem for every
// request. It keeps nothing and checks nothing, so it flatters itself. For benchmarks.
// {coordinator, topic, privateKey, domain, supplierId, asset} -> {"attached"} once it hears.
import { randomBytes } from 'node:crypto'
import superjson from 'superjson'
import { encodePacked, keccak256, stringToBytes } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import { args, attach, fail, say, until } from './peer.mjs'
import { types } from './types.mjs'

const PAYMENT = '0x2f8fc0b3ad3f58f6deb367673d38e4112a3c8c64de033c5b780b84ef8f67cde6'
const CANCEL = '0x8ea27057ea8a0239f02c8b75748218a035a5a2a2a0785b53aaa99af91ff538c5'

const bigints = (_, v) => (typeof v === 'bigint' ? v.toString() : v)
const hashObject = (x) => keccak256(stringToBytes(JSON.stringify(x, bigints)))
const hashed = (items, names, pack) =>
  keccak256(encodePacked(items.map(() => 'bytes32'), items.map((i) => keccak256(encodePacked(names, pack(i))))))
const id32 = () => '0x' + randomBytes(32).toString('hex')

const { coordinator, topic, privateKey, domain, supplierId, asset } = args()

try {
  const account = privateKeyToAccount(privateKey)
  const { pubsub } = await attach(coordinator)
  pubsub.addEventListener('message', async ({ detail }) => {
    if (detail.topic !== topic) return
    const request = superjson.parse(new TextDecoder().decode(detail.data))
    const now = BigInt(Math.floor(Date.now() / 1000))
    const date = BigInt(Math.floor(new Date(request.query.date).getTime() / 1000))
    const options = { date: request.query.date, hours: 1, airplane: { id: 'a', name: 'a', description: 'a', capacity: 3, media: [] } }
    const payment = [{ id: id32(), price: 120500000000000000000n, asset }]
    const cancel = [{ time: now + (date - now) / 2n, penalty: 50n }]
    const payload = {
      id: id32(),
      expire: now + 3600n,
      supplierId,
      chainId: BigInt(domain.chainId),
      requestHash: hashObject(request),
      optionsHash: hashObject(options),
      paymentHash: hashed(payment, ['bytes32', 'bytes32', 'uint256', 'address'], (p) => [PAYMENT, p.id, p.price, p.asset]),
      cancelHash: hashed(cancel, ['bytes32', 'uint256', 'uint256'], (c) => [CANCEL, c.time, c.penalty]),
      checkIn: date,
      checkOut: date,
      transferable: true
    }
    const signature = await account.signTypedData({
      domain: { ...domain, chainId: Number(domain.chainId) },
      types,
      primaryType: 'Offer',
      message: payload
    })
    const offer = { id: payload.id, expire: payload.expire, nonce: 1n, request, options, payment, cancel, payload, signature }
    const text = new TextEncoder().encode(superjson.stringify(offer))
    for (let n = 0; pubsub.getSubscribers(request.id).length === 0 && n < 1000; n++)
      await new Promise((r) => setTimeout(r, 1))
    await pubsub.publish(request.id, text, { allowPublishToZeroPeers: true }).catch(() => {})
  })
  pubsub.subscribe(topic)
  await until(() => pubsub.getSubscribers(topic).length > 0)
  say({ attached: true })
} catch (e) {
  fail(e)
}
