// Follows the market's Status events as the market's own TypeScript node does: an event filter from the last
// block on, all its logs, the next block, a second's pause; nothing stored.
//   node chain-loop.mjs URL MARKET WANTED
// Prints one line of JSON once WANTED events were handed over: {"seconds", "events", "last_block"}.
import { createPublicClient, http, parseAbiItem } from 'viem';

const [url, market, wanted] = process.argv.slice(2);
const client = createPublicClient({ transport: http(url, { timeout: 120_000 }) });
const event = parseAbiItem('event Status(bytes32 offerId, uint8 status, address sender)');

let fromBlock = 0n;
let events = 0;
const seen = new Set();
const begun = performance.now();

const onLogs = (logs, maxBlock) => {
  for (const log of logs) {
    seen.add(log.args.offerId);
    events += 1;
  }
  if (events >= Number(wanted)) {
    const seconds = (performance.now() - begun) / 1000;
    console.log(JSON.stringify({ seconds, events, last_block: Number(maxBlock) }));
    process.exit(0);
  }
};

const poll = async () => {
  const head = await client.getBlockNumber();
  if (fromBlock > head) fromBlock = head;
  const filter = await client.createEventFilter({ address: market, event, strict: true, fromBlock });
  const logs = await client.getFilterLogs({ filter });
  if (logs.length > 0) {
    const max = logs.reduce((m, log) => (log.blockNumber > m ? log.blockNumber : m), 0n);
    if (max > fromBlock) {
      fromBlock = max + 1n;
      onLogs(logs, max);
    }
  }
  setTimeout(poll, 1000);
};
await poll();
