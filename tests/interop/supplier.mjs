// A stock js subscriber: answers every message of a topic with a fixed text.
// {coordinator, topic, answerTopic?, answer, seconds} -> a JSON line per message (long ones by their length).
import { args, attach, fail, say, until } from './peer.mjs'

const { coordinator, topic, answerTopic, answer, seconds = 600 } = args()
setTimeout(() => fail('time is up'), seconds * 1000)

try {
  const { node, pubsub } = await attach(coordinator)
  pubsub.addEventListener('message', async ({ detail }) => {
    const text = new TextDecoder().decode(detail.data)
    say({ heard: text.length > 1000 ? text.length : text, topic: detail.topic, from: detail.from.toString() })
    if (answerTopic == null) return
    await until(() => pubsub.getSubscribers(answerTopic).length > 0)
    await pubsub.publish(answerTopic, new TextEncoder().encode(answer))
  })
  pubsub.subscribe(topic)
  say({ attached: node.peerId.toString() })
} catch (e) {
  fail(e)
}
