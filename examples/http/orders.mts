// A client in TypeScript without dependencies: it appends, meets a conflict, reads and subscribes.
//
//     npx --package typescript tsc --project examples/http --outDir build
//     node build/orders.mjs http://127.0.0.1:7373

declare const process: { argv: string[]; env: Record<string, string | undefined> };

// Positions and versions are text: JavaScript would round large numbers.
type Stored = { version: string; position: string; type: string; data: unknown };
type Message = { event?: string; data: string };

class Refused extends Error {
  constructor(readonly status: number, readonly problem: { detail: string; actual: string }) {
    super(problem.detail);
  }
}

const token = process.env.INDELIBLE_TOKEN;
const rights: Record<string, string> = token ? { Authorization: `Bearer ${token}` } : {};

async function send(path: string, headers: Record<string, string> = {}, body?: unknown) {
  const answer = await fetch(`${process.argv[2] ?? "http://127.0.0.1:7373"}/api/v1${path}`, {
    headers: { ...rights, ...headers },
    ...(body ? { method: "POST", body: JSON.stringify(body) } : {}),
  });
  if (!answer.ok) throw new Refused(answer.status, await answer.json());
  return answer;
}

async function append(stream: string, expected: string, event: object): Promise<Stored> {
  const headers = { "Content-Type": "application/json" };
  return (await send(`/streams/${stream}/events`, headers, { expected, events: [event] })).json();
}

// A browser has EventSource for this. It sends no token, and Node.js 20 does not have it.
async function* subscribe(filter: string): AsyncGenerator<Message> {
  for (let last = ""; ; await new Promise((done) => setTimeout(done, 200))) {
    try {
      const known: Record<string, string> = last ? { "Last-Event-ID": last } : {};
      const { body } = await send(`/events/subscribe?${filter}`, known);
      let rest = "";
      for await (const part of body!.pipeThrough(new TextDecoderStream())) {
        const messages = (rest + part).split("\n\n");
        rest = messages.pop()!;
        for (const text of messages) {
          const message = Object.fromEntries(text.split("\n").map((line) => line.split(/: (.*)/)));
          if ("data" in message) yield message;
          last = message.id ?? last; // what was handled; the server continues after it
        }
      }
    } catch (error) {
      if (error instanceof Refused) throw error; // what else fails is the connection
    }
    console.log("connect again");
  }
}

const order = `order-${crypto.randomUUID()}`;
console.log("appended version", (await append(order, "no-stream", { type: "OrderPlaced" })).version);
try {
  await append(order, "no-stream", { type: "OrderPaid" });
} catch (error) {
  if (!(error instanceof Refused) || error.status !== 409) throw error;
  console.log("conflict with version", error.problem.actual);
  await append(order, error.problem.actual, { type: "OrderPaid", data: { total: 12 } });
}
const page: { events: Stored[] } = await (await send(`/streams/${order}/events`)).json();
console.log("read", page.events.map((event) => event.type).join(", "));
const shipped = { type: "OrderShipped", id: crypto.randomUUID() }; // with its id it is stored once
for await (const message of subscribe(`stream=${order}`)) {
  if (message.event === "caught_up") await append(order, "any", shipped);
  if (message.event) continue;
  const event: Stored = JSON.parse(message.data);
  console.log("received", event.type, "of version", event.version);
  if (event.type === shipped.type) break;
}
