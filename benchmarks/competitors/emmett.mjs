// Emmett on PostgreSQL. Like benchmarks/harness/client.py it reads options from the first line, then
// one command per line. It runs on Node.js, as for its users. Its writers are tasks in one process.

import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import readline from "node:readline";
import process from "node:process";

const STREAMS = 500;
const FIRST_NUMBER = 10_000_000;
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const options = JSON.parse((await lines.next()).value);
const require = createRequire(`${options.packages}/`);
const { getPostgreSQLEventStore, postgreSQLEventStoreConsumer } = await import(
  pathToFileURL(require.resolve("@event-driven-io/emmett-postgresql"))
);
const store = getPostgreSQLEventStore(options.url);
await store.schema.migrate();

let consumer;
const seen = [];

const now = () => Number(process.hrtime.bigint() / 1000n);
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1e3));
const placed = (number, order = randomUUID()) => ({
  type: "OrderPlaced",
  data: {
    order_id: order,
    customer: "Ann Exampleton Jr.",
    address: "12 Some Street, 10115 Berlin",
    total: `${(number % 90) + 10}.90`,
    number: FIRST_NUMBER + number,
    at: 1_000_000_000_000_000,
  },
});

const commands = {
  async append({ writers, seconds, batch = 1 }) {
    const latencies = [];
    const begun = now();
    const deadline = begun + seconds * 1e6;
    const write = async () => {
      const streams = Array.from({ length: Math.max(1, Math.floor(STREAMS / writers)) }, () => ({
        name: `order-${randomUUID()}`,
        version: 0n,
      }));
      for (let count = 0; ; count++) {
        const before = now();
        if (before >= deadline) return;
        const stream = streams[count % streams.length];
        const events = Array.from({ length: batch }, (_, place) => placed(place));
        await store.appendToStream(stream.name, events, {
          expectedStreamVersion: stream.version === 0n ? "STREAM_DOES_NOT_EXIST" : stream.version,
        });
        stream.version += BigInt(batch);
        latencies.push(now() - before);
      }
    };
    await Promise.all(Array.from({ length: writers }, write));
    return {
      operations: latencies.length * batch,
      seconds: (now() - begun) / 1e6,
      latencies,
    };
  },

  async fill({ events, length }) {
    const streams = [];
    for (let first = 0; first < events; first += length) {
      const stream = randomUUID();
      streams.push(stream);
      for (let version = 0; version < length; version += 1000) {
        const size = Math.min(1000, length - version);
        await store.appendToStream(
          `order-${stream}`,
          Array.from({ length: size }, (_, place) => placed(version + place)),
        );
      }
    }
    return { streams };
  },

  async load({ streams, seconds }) {
    const latencies = [];
    const begun = now();
    const deadline = begun + seconds * 1e6;
    let events = 0;
    for (let count = 0; ; count++) {
      const before = now();
      if (before >= deadline) break;
      const found = await store.readStream(`order-${streams[count % streams.length]}`);
      events += found.events.length;
      latencies.push(now() - before);
    }
    return { operations: events, seconds: (now() - begun) / 1e6, latencies };
  },

  open: async () => ({}),

  // A call is a transaction, so it can neither be slowed down nor rolled back.
  async write_for_check({ writers, seconds }) {
    const committed = [];
    const deadline = now() + seconds * 1e6;
    const write = async () => {
      const stream = randomUUID();
      for (let count = 0; now() < deadline; ) {
        const size = [1, 2, 5, 20][Math.floor(Math.random() * 4)];
        const events = Array.from({ length: size }, (_, place) => placed(count + place, stream));
        await store.appendToStream(`order-${stream}`, events);
        for (let place = 0; place < size; place++) committed.push([stream, count + place]);
        count += size;
      }
    };
    await Promise.all(Array.from({ length: writers }, write));
    return { committed, undone: 0 };
  },

  async follow() {
    consumer = postgreSQLEventStoreConsumer({ connectionString: options.url });
    consumer.reactor({
      processorId: randomUUID(),
      eachMessage: ({ data }) => {
        seen.push([data.order_id, data.number - FIRST_NUMBER]);
      },
    });
    consumer.start().catch(console.error);
    return {};
  },

  async followed({ events, patience }) {
    let changed = now();
    for (let count = -1; seen.length < events && now() - changed < patience * 1e6; ) {
      if (seen.length !== count) {
        count = seen.length;
        changed = now();
      }
      await sleep(0.01);
    }
    await consumer.close();
    return { operations: seen.length, seconds: 0 };
  },

  seen: async () => ({ seen }),
};

for await (const line of { [Symbol.asyncIterator]: () => lines }) {
  const { do: name, ...given } = JSON.parse(line);
  let answer;
  try {
    if (!(name in commands)) throw new Error(`it cannot ${name}`);
    answer = await commands[name](given);
  } catch (error) {
    console.error(error);
    answer = { error: `${error.name}: ${error.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await store.close();
