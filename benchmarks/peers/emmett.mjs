// Emmett on PostgreSQL: appends one event at a time with an expected version, as its documentation
// shows. Reads "seconds writers" from standard input, and answers with a line of JSON.
import { createInterface } from "node:readline";
import { randomUUID } from "node:crypto";
import { getPostgreSQLEventStore } from "@event-driven-io/emmett-postgresql";

const store = getPostgreSQLEventStore(process.env.EMMETT_URL);
await store.schema.migrate();
console.log("ready");

const order = (number) => ({
  order_id: randomUUID(),
  customer: "Ann Example",
  address: "12 Some Street, 10115 Berlin",
  total: `${(number % 90) + 10}.90`,
  items: number % 9,
  note: "please ring twice, thankyou",
});

for await (const line of createInterface({ input: process.stdin })) {
  const [seconds, writers] = line.split(" ").map(Number);
  const latencies = [];
  const begun = process.hrtime.bigint();
  const end = begun + BigInt(Math.round(seconds * 1e9));
  await Promise.all(
    Array.from({ length: writers }, async () => {
      const run = randomUUID();
      const versions = new Map();
      for (let times = 0; ; times++) {
        const at = process.hrtime.bigint();
        if (at >= end) return;
        const stream = `order-${run}-${times % 500}`;
        const result = await store.appendToStream(
          stream,
          [{ type: "OrderCreated", data: order(times) }],
          { expectedStreamVersion: versions.get(stream) ?? "STREAM_DOES_NOT_EXIST" },
        );
        versions.set(stream, result.nextExpectedStreamVersion);
        latencies.push(Number(process.hrtime.bigint() - at));
      }
    }),
  );
  const taken = Number(process.hrtime.bigint() - begun) / 1e9;
  console.log(JSON.stringify({ seconds: taken, latencies }));
}
await store.close();
