// A buyer nobody here wrote: publishes a request made by superjson and checks every offer with viem.
// {coordinator, topic, query, requestId?, offers, seconds, signer, domain} -> a JSON line per answer;
// exits 0 after so many verified offers, 1 when time is up.
import { randomBytes } from 'node:crypto'
import superjson from 'superjson'
import { verifyTypedData } from 'viem'
import { args, attach, fail, say, until } from './peer.mjs'
import { types } from './types.mjs'

const { coordinator, topic, query = {}, requestId, offers = 1, seconds = 300, signer, domain } = args()
setTimeout(() => fail('time is up'), seconds * 1000)

try {
  const { pubsub } = await attach(coordinator)
  const request = {
    id: requestId ?? '0x' + randomBytes(32).toString('hex'),
    expire: BigInt(Math.floor(Date.now() / 1000) + seconds),
    nonce: 1n,
    topic,
    query
  }
  let verified = 0
  pubsub.addEventListener('message', async ({ detail }) => {
    if (detail.topic !== request.id) return
    const text = new TextDecoder().decode(detail.data)
    try {
      const offer = superjson.parse(text)
      const viemVerified = await verifyTypedData({
        address: signer,
        domain: { ...domain, chainId: Number(domain.chainId) },
        types,
        primaryType: 'Offer',
        message: offer.payload,
        signature: offer.signature
      }).catch(() => false)
      const answers = offer.request.id === request.id && offer.payload.id === offer.id
      say({ offer: offer.id, requestId: offer.request.id, answers, viemVerified, payment: offer.payment })
      if (viemVerified && answers && ++verified === offers) process.exit(0)
    } catch (e) {
      say({ answer: text, why: String(e) })
    }
  })
  pubsub.subscribe(request.id)
  // Stock gossipsub publishes to peers that want the topic, and to nobody else.
  await until(() => pubsub.getSubscribers(topic).length > 0)
  const { recipients } = await pubsub.publish(topic, new TextEncoder().encode(superjson.stringify(request)))
  say({ request: request.id, text: superjson.stringify(request), recipients: recipients.map(String) })
} catch (e) {
  fail(e)
}
