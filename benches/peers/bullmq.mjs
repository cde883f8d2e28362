// BullMQ on the Redis behind the socket argv[2], as benches/queue.rs measures our own queue: argv[3] is the time per
// row in seconds. Prints one JSON object: row -> number.
import { Queue, Worker } from 'bullmq';

const connection = { path: process.argv[2], maxRetriesPerRequest: null };
const seconds = Number(process.argv[3]);
const rows = {};
const payload = { deal: '0x' + 'ab'.repeat(32), step: 'claim', note: 'x'.repeat(100) };
const now = () => performance.now();

async function enqueue(producers) {
  const queue = new Queue(`enqueue${producers}`, { connection });
  await queue.waitUntilReady();
  const start = now();
  let count = 0;
  await Promise.all(
    Array.from({ length: producers }, async () => {
      while (now() - start < seconds * 1000) {
        await queue.add('k', payload);
        count += 1;
      }
    }),
  );
  rows[`enqueue_${producers}`] = count / ((now() - start) / 1000);
  await queue.obliterate({ force: true });
  await queue.close();
}

for (const producers of [1, 16, 256]) await enqueue(producers);

{
  const queue = new Queue('cycle', { connection, defaultJobOptions: { removeOnComplete: 10000 } });
  let done = 0;
  const worker = new Worker('cycle', async () => void (done += 1), { connection, concurrency: 64 });
  await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]);
  const start = now();
  let count = 0;
  await Promise.all(
    Array.from({ length: 256 }, async () => {
      while (now() - start < seconds * 1000) {
        await queue.add('k', payload);
        count += 1;
      }
    }),
  );
  while (done < count) await new Promise((r) => setTimeout(r, 5));
  rows.cycle = count / ((now() - start) / 1000);
  await worker.close();
  await queue.close();
}

{
  const queue = new Queue('pickup', { connection });
  const started = new Map();
  const waits = [];
  const worker = new Worker('pickup', async (job) => void waits.push(now() - started.get(job.data.n)), { connection });
  await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]);
  for (let n = 0; n < 100 * seconds; n++) {
    started.set(n, now());
    await queue.add('k', { n });
    await new Promise((r) => setTimeout(r, 5));
  }
  while (waits.length < 100 * seconds) await new Promise((r) => setTimeout(r, 5));
  waits.sort((a, b) => a - b);
  rows.pickup_p99 = waits[Math.floor(waits.length * 0.99)];
  await worker.close();
  await queue.close();
}

console.log(JSON.stringify(rows));
process.exit(0);
