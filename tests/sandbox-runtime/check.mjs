// Whether the sandbox runtime takes settings: an array of them on stdin, for each on stdout a line with
// what it complains about, or nothing. A key that it does not know counts: it would have no effect.

import { readFileSync } from "node:fs";
import { NetworkConfigSchema } from "@anthropic-ai/sandbox-runtime/dist/sandbox/sandbox-config.js";

for (const { network, ...others } of JSON.parse(readFileSync(0, "utf8"))) {
  const read = NetworkConfigSchema.strict().safeParse(network);
  const complaints = (read.error?.issues ?? []).map(({ path, message }) => `${path}: ${message}`);
  const unknown = Object.keys(others).map((key) => `${key}: not looked at`);
  console.log(JSON.stringify([...complaints, ...unknown].join("; ")));
}
