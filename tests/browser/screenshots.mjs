// Takes a picture of every page, or of the top of those that are named, in light and dark and as a phone has it, into a
// folder: scripts/screenshots.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { Server, addresses, browser, furnish, signedIn } from "./world.mjs";

const [folder, ...named] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const server = await Server.start();
let chromium;
try {
  await furnish(server);
  chromium = await browser();
  const [member, stranger] = [await signedIn(chromium, server), await signedIn(chromium, server, { as: null })];
  for (const address of named.length ? named : addresses) {
    const page = address.startsWith("/login") ? stranger : member;
    const answer = await page.context().request.get(address, { maxRedirects: 0 });
    if (answer.status() !== 200 || !answer.headers()["content-type"].startsWith("text/html")) continue;
    await page.goto(address, { waitUntil: "load" });
    const name = address.slice(1).replaceAll(/[^\w.-]+/g, "-") || "overview";
    for (const [form, colorScheme, width] of [["light", "light", 1280], ["dark", "dark", 1280], ["phone", "light", 390]]) {
      await page.setViewportSize({ width, height: 1240 });
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: join(folder, `${name}.${form}.png`), fullPage: !named.length });
    }
  }
} finally {
  await chromium?.close();
  await server.stop();
}
