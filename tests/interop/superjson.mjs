// Reads superjson texts, one a line, with npm superjson, and says for each what it understood:
// {"hashed": the text the market hashes, "again": the value written by superjson once more} or {"error": why}.
import { readFileSync } from 'node:fs';
import superjson from 'superjson';

// An annotated Error hashes as {}, as it did before it travelled; reading it back gives it an enumerable name.
const hashed = value =>
  JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? v.toString() : v instanceof Error ? {} : v)) ?? 'null';

// Not node:readline, which also ends lines at U+2028.
for (const line of readFileSync(0, 'utf8').split('\n').filter(line => line !== '')) {
  let answer;
  try {
    const value = superjson.parse(line);
    answer = { hashed: hashed(value), again: superjson.stringify(value) };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
