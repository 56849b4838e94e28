// SPDX-License-Identifier: Apache-2.0
// openai.mjs - OpenAI's client for JavaScript, unmodified: upload, create, poll, download, cancel, errors.
// In: the server's address. Out: one line of JSON of what it saw.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createRequire } from "node:module";

const [url, modules] = process.argv.slice(2);
const { default: OpenAI } = createRequire(path.join(modules, "x.js"))("openai");
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const seen = {};

const lines = [...Array(10).keys()].map((i) =>
  JSON.stringify({
    custom_id: `request-${i}`, method: "POST", url: "/v1/chat/completions",
    body: { model: "mill", messages: [{ role: "user", content: `number ${i}` }] },
  }));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "tidemill-"));
const input = path.join(folder, "requests.jsonl");
fs.writeFileSync(input, lines.join("\n") + "\n");

const file = await client.files.create({ file: fs.createReadStream(input), purpose: "batch" });
seen.file = await client.files.retrieve(file.id);
const request = {
  input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h",
  metadata: { from: "javascript" },
};
let batch = await client.batches.create(request);
while (!["completed", "failed", "expired", "cancelled"].includes(batch.status)) {
  await new Promise((done) => setTimeout(done, 50));
  batch = await client.batches.retrieve(batch.id);
}
seen.batch = batch;
seen.output = await (await client.files.content(batch.output_file_id)).text();
seen.listed = [];
for await (const each of client.batches.list({ limit: 1 })) seen.listed.push(each.id);
seen.errors = [];
for (const wrong of [
  () => client.batches.cancel(batch.id),
  () => client.batches.retrieve("batch_none"),
  () => client.batches.create({ ...request, endpoint: "/v1/nothing" }),
]) {
  try { await wrong(); seen.errors.push(null); } catch (error) { seen.errors.push(error.status); }
}
seen.deleted = (await client.files.delete(file.id)).deleted;
fs.rmSync(folder, { recursive: true });
console.log(JSON.stringify(seen));
