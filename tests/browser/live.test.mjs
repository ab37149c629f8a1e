// Changes appear by themselves, in the pages that show them, within two seconds.

import { execFileSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";

import { Server, browser, furnish, patience, repo, signedIn, until } from "./world.mjs";
import { opened, request, review } from "./payloads.mjs";

/** Changes of each kind, and the latest that 19 of 20 of them appear, in milliseconds. */
const changes = 30;
const latest = 2000;

/** Returns the time at which a page has `text`, as the page itself sees it. */
async function appears(page, text) {
  return page.evaluate(
    ([text, patience]) =>
      new Promise((resolve, reject) => {
        const has = () => document.querySelector("main").textContent.includes(text);
        const timer = setTimeout(() => reject(new Error(`no ${text}`)), patience);
        const observer = new MutationObserver(() => has() && done());
        const done = () => {
          observer.disconnect();
          clearTimeout(timer);
          resolve(Date.now());
        };
        observer.observe(document.body, { childList: true, subtree: true, characterData: true });
        if (has()) done();
      }),
    [text, patience],
  );
}

/** Makes changes one after another, and returns how long each took until its page showed it. */
async function follow(page, address, change) {
  await page.goto(address);
  await until(`${address} is live`, () => isLive(page));
  const took = [];
  for (let number = 1; number <= changes; number++) {
    const { make, text } = change(number);
    const seen = appears(page, text);
    const made = Date.now();
    await make();
    took.push((await seen) - made);
  }
  return took.sort((one, two) => one - two);
}

const isLive = (page) => page.evaluate(() => document.getElementById("live").dataset.state === "live");

function tests(name, start) {
  let server, chromium;
  before(async () => {
    server = await start();
    await furnish(server);
    chromium = await browser();
  });
  after(async () => {
    await chromium?.close();
    await server?.stop();
  });

  test(`${changes} changes of each of five kinds appear within ${latest} ms ${name}`, async (t) => {
    const number = (kind, place) => 1000 * kind + place;
    const page = (kind) => `/repos/${repo}/prs/${number(kind, 0)}`;
    for (const kind of [2, 3]) await server.post(...opened(number(kind, 0), "To be followed"));
    await server.drained();
    const kinds = {
      "pull request": ["/prs?sort=updated", (place) => ({
        make: () => server.post(...opened(number(1, place), `Opened as ${place}!`)),
        text: `Opened as ${place}!`,
      })],
      review: [page(2), (place) => ({
        make: () => server.post(...review(number(2, 0), `reviewer-${place}-end`, place)),
        text: `reviewer-${place}-end`,
      })],
      "review request": [page(3), (place) => ({
        make: () => server.post(...request(number(3, 0), `asked-${place}-end`, place)),
        text: `asked-${place}-end`,
      })],
      "dead letter": ["/deliveries?state=dead", (place) => ({
        make: () => server.post("pull_request", `dead-of-${place}-end`, `{"action":${place}}`),
        text: `dead-of-${place}-end`,
      })],
      task: ["/tasks", (place) => ({
        make: () => server.call("POST", "/api/tasks", { key: `LIVE-${place}`, title: `Task ${place}!` }),
        text: `Task ${place}!`,
      })],
    };
    const followed = Object.entries(kinds).map(async ([kind, [address, change]]) => {
      const window = await signedIn(chromium, server);
      const took = await follow(window, address, change);
      assert.deepEqual([...window.faults, ...(await window.evaluate(() => reports))], []);
      const p95 = took[Math.ceil(took.length * 0.95) - 1];
      t.diagnostic(`${kind}: half within ${took[Math.floor(took.length / 2)]} ms, 95 % within ${p95} ms`);
      return [kind, p95];
    });
    const late = (await Promise.all(followed)).filter(([, p95]) => p95 > latest);
    assert.deepEqual(late, []);
  });
}

/** Starts two processes on a database and a virtual host of their own. */
async function onServices() {
  const { TEST_DATABASE_URL: database, TEST_AMQP_URL: broker, TEST_RABBITMQ_MANAGEMENT_URL: management } = process.env;
  const name = `tallyhook_browser_${process.pid}`;
  const { username, password, origin } = new URL(management);
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  const host = (method) => fetch(`${origin}/api/vhosts/${name}`, { method, headers: { authorization } });
  const sql = (statement) => execFileSync("psql", [database, "--quiet", "--command", statement]);
  sql(`CREATE DATABASE ${name} ENCODING 'UTF8' TEMPLATE template0`);
  assert.equal((await host("PUT")).status, 201);
  const at = (address, path) => Object.assign(new URL(address), { pathname: path }).href;
  const settings = { DATABASE_URL: at(database, name), AMQP_URL: at(broker, name) };
  const server = await Server.start({ settings, roles: ["ingest,worker,poller", "api"] });
  const stop = server.stop.bind(server);
  server.stop = async () => {
    await stop();
    sql(`DROP DATABASE ${name} WITH (FORCE)`);
    await host("DELETE");
  };
  return server;
}

describe("embedded", () => tests("in one process", () => Server.start()));
if (process.env.TEST_AMQP_URL) describe("on services", () => tests("through two processes", onServices));
