// Graphile Worker on the PostgreSQL whose socket lies in the folder argv[2], as benches/queue.rs measures our own
// queue: argv[3] is the time per row in seconds. Prints one JSON object: row -> number.
import { makeWorkerUtils, run, Logger } from 'graphile-worker';
import pg from 'pg';

const seconds = Number(process.argv[3]);
const rows = {};
const payload = { deal: '0x' + 'ab'.repeat(32), step: 'claim', note: 'x'.repeat(100) };
const now = () => performance.now();
const pause = (ms) => new Promise((r) => setTimeout(r, ms));

const pgPool = new pg.Pool({ host: process.argv[2], user: 'postgres', database: 'postgres', max: 64 });
const logger = new Logger(() => () => {});
const utils = await makeWorkerUtils({ pgPool, logger });
await utils.migrate();

async function produce(task, producers) {
  const start = now();
  let count = 0;
  await Promise.all(
    Array.from({ length: producers }, async () => {
      while (now() - start < seconds * 1000) {
        await utils.addJob(task, payload);
        count += 1;
      }
    }),
  );
  return { start, count };
}

for (const producers of [1, 16, 256]) {
  const { start, count } = await produce(`enqueue${producers}`, producers);
  rows[`enqueue_${producers}`] = count / ((now() - start) / 1000);
}
await pgPool.query('delete from graphile_worker._private_jobs');

const work = (taskList) => run({ pgPool, logger, concurrency: 64, noHandleSignals: true, taskList });
{
  let done = 0;
  const runner = await work({ cycle: async () => void (done += 1) });
  const { start, count } = await produce('cycle', 256);
  while (done < count) await pause(5);
  rows.cycle = count / ((now() - start) / 1000);
  await runner.stop();
}
{
  const started = new Map();
  const waits = [];
  const runner = await work({ pickup: async ({ n }) => void waits.push(now() - started.get(n)) });
  for (let n = 0; n < 100 * seconds; n++) {
    started.set(n, now());
    await utils.addJob('pickup', { n });
    await pause(5);
  }
  while (waits.length < 100 * seconds) await pause(5);
  waits.sort((a, b) => a - b);
  rows.pickup_p99 = waits[Math.floor(waits.length * 0.99)];
  await runner.stop();
}

console.log(JSON.stringify(rows));
process.exit(0);
