// A server with something on every page, and a browser that looks at it. Each test file has its own of both.

import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));
const secret = "a secret of the tests in a browser";
export const token = "tallyhook_token_of_the_tests_in_a_browser";
export const repo = "acme-corp/api-server";
/** The limit of every wait, in milliseconds; nothing that is waited for takes this long. */
export const patience = 20_000;

/** The addresses of all pages: those that tests/it/pages/table.rs compares with the router's table. */
export const addresses = Object.values(
  JSON.parse(readFileSync(new URL("pages.json", import.meta.url), "utf8")),
).flat();

/** Waits until `holds` returns something true, and returns it. */
export async function until(what, holds) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await holds();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not so within ${patience} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A running `tallyhook serve`, as one process or as two: one for readers, one for everything else. */
export class Server {
  #processes = [];
  #folder = mkdtempSync(join(tmpdir(), "tallyhook-browser-"));
  #github;
  #settings;

  static async start({ settings = {}, roles = ["all"] } = {}) {
    const server = new Server();
    // A GitHub that knows nothing: a backfill from it fails, and says so.
    server.#github = createServer((_, answer) => {
      answer.writeHead(404, { "content-type": "application/json" });
      answer.end('{"message":"Not Found"}');
    });
    await once(server.#github.listen(0, "127.0.0.1"), "listening");
    server.#settings = {
      DATABASE_URL: `sqlite://${join(server.#folder, "test.db")}`,
      GITHUB_API_URL: `http://127.0.0.1:${server.#github.address().port}`,
      ...settings,
    };
    for (const role of roles) await server.run({ role });
    return server;
  }

  /** Starts a process, and waits until it listens. The last one answers the API. */
  async run({ listen = "127.0.0.1:0", role = "all" } = {}) {
    const program = process.env.TALLYHOOK_BIN;
    if (!program) throw new Error("TALLYHOOK_BIN is not set: run scripts/test-browser");
    const child = spawn(program, ["serve", "--role", role, "--log-format", "json"], {
      cwd: this.#folder,
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        GITHUB_WEBHOOK_SECRET: secret,
        GITHUB_TOKEN: "ghp_token_of_the_tests_0123456789",
        GITHUB_REPO_OWNER: "acme-corp",
        GITHUB_REPO_NAME: "api-server",
        TALLYHOOK_ADMIN_TOKEN: token,
        TALLYHOOK_LISTEN: listen,
        ...this.#settings,
      },
    });
    this.#processes.push(child);
    const log = [];
    const lines = createInterface({ input: child.stderr });
    this.address = await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`it ended with ${code}: ${log.join("\n")}`)));
      lines.on("line", (line) => {
        log.push(line);
        if (line.includes('"listening"')) resolve(JSON.parse(line).address);
      });
    });
    this.url = `http://${this.address}`;
    this.receiver = this.#processes.length > 1 ? this.receiver : this.url;
  }

  /** Ends all processes with a signal, and waits for their ends. */
  async #end(signal) {
    const running = this.#processes.splice(0).filter(({ exitCode, signalCode }) => exitCode === null && !signalCode);
    const ends = running.map((child) => once(child, "exit"));
    running.forEach((child) => child.kill(signal));
    await Promise.all(ends);
  }

  /** Ends the server as a crash does. */
  async kill() {
    await this.#end("SIGKILL");
  }

  async stop() {
    await this.#end("SIGTERM");
    this.#github.close();
    this.#github.closeAllConnections();
    rmSync(this.#folder, { recursive: true });
  }

  /** Calls the API, and returns the answer's JSON. */
  async call(method, path, body) {
    const answer = await fetch(this.url + path, {
      method,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** Posts a signed delivery. */
  async post(event, guid, payload) {
    const body = typeof payload === "string" ? payload : JSON.stringify(payload);
    const signature = createHmac("sha256", secret).update(body).digest("hex");
    const answer = await fetch(`${this.receiver}/webhooks/github`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-github-event": event,
        "x-github-delivery": guid,
        "x-hub-signature-256": `sha256=${signature}`,
      },
      body,
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${event} ${guid}: ${answer.status} ${text}`);
  }

  /** Waits until every delivery is applied, ignored or dead. */
  async drained() {
    await until("all deliveries are applied", async () => {
      const open = await this.call("GET", "/api/deliveries?state=accepted");
      return open.items.length === 0;
    });
  }

  /** Returns the cookie of a new session of `text`, as playwright wants it. */
  async session(text) {
    const answer = await fetch(`${this.url}/login`, {
      method: "POST",
      body: new URLSearchParams({ token: text }),
    });
    const [name, value] = answer.headers.get("set-cookie").split(";")[0].split("=");
    return { name, value, url: this.url, httpOnly: true, sameSite: "Lax" };
  }
}

/** Returns the deliveries of the shipped fixtures by time, moved so that the last one is of now. */
export function fixtures() {
  const folder = join(root, "fixtures");
  const files = readdirSync(folder).filter((name) => name.endsWith(".jsonl"));
  const lines = files.flatMap((name) => readFileSync(join(folder, name), "utf8").trimEnd().split("\n"));
  const times = lines.map((line) => Date.parse(JSON.parse(line).delivered_at));
  const by = Math.floor((Date.now() - Math.max(...times)) / 1000) * 1000;
  const moved = (line) =>
    line.replaceAll(/"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"/g, (_, time) => {
      const shifted = new Date(Date.parse(time) + by).toISOString();
      return `"${shifted.replace(".000Z", "Z")}"`;
    });
  return lines
    .map((line) => JSON.parse(moved(line)))
    .toSorted((one, two) => one.delivered_at.localeCompare(two.delivered_at));
}

/** Fills a server: dead letters of two kinds, the fixtures, a task, a token, a backfill that failed. */
export async function furnish(server) {
  await server.post("pull_request", "dead-1", '{"action":"opened"}');
  await server.post("pull_request", "dead-2", '{"action":"closed"}');
  await server.post("push", "dead-3", "{}");
  for (const { event, guid, request } of fixtures()) await server.post(event, guid, request.payload);
  await server.drained();
  await server.call("POST", "/api/tasks", { key: "PROJ-123", title: "Retry uploads" });
  await server.call("POST", "/api/tokens", { name: "wall", role: "viewer" });
  await server.call("POST", `/api/repos/${repo}/sync`, {});
}

/** Starts the browser. One that is missing is a failure. */
export async function browser() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  if (!existsSync(executablePath)) {
    throw new Error(`there is no ${executablePath}: run scripts/install-browser`);
  }
  const quiet = ["networking", "timer-throttling"].map((what) => `--disable-background-${what}`);
  const flags = ["sandbox", "first-run"].map((what) => `--no-${what}`);
  const off = ["gpu", "quic", "component-update", "sync"].map((what) => `--disable-${what}`);
  return chromium.launch({ executablePath, args: [...flags, ...off, ...quiet] });
}

/**
 * Opens a window on `device` that is signed in, unless `as` is null, and collects into its `faults` every error of a page's script,
 * warning in its console and request to another host; reports of its policy are in the page, as `reports`.
 */
export async function signedIn(chromium, server, { as = token, device = {} } = {}) {
  const context = await chromium.newContext({ baseURL: server.url, ...device });
  context.setDefaultTimeout(patience);
  if (as) await context.addCookies([await server.session(as)]);
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(`error: ${error}`));
  page.on("console", (line) => {
    if (["error", "warning"].includes(line.type())) page.faults.push(`console: ${line.text()}`);
  });
  page.on("request", (request) => {
    if (new URL(request.url()).host !== server.address) page.faults.push(`foreign: ${request.url()}`);
  });
  await page.addInitScript(() => {
    globalThis.reports = [];
    addEventListener("securitypolicyviolation", (event) => {
      globalThis.reports.push(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
    });
  });
  return page;
}
