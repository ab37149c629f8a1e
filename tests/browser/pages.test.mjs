// Every page of the router's table: its access by axe, its width, its policy, its weight.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import assert from "node:assert/strict";

import { Server, addresses, browser, furnish, signedIn } from "./world.mjs";

const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const sizes = [
  { width: 1280, height: 900 },
  { width: 390, height: 844 },
];
/** The phone of Lighthouse. */
const device = { viewport: { width: 412, height: 823 }, isMobile: true };
/** The most bytes of a page and its files, and requests until it is loaded. */
const most = { document: 150_000, overview: 60_000, stylesheet: 12_000, script: 16_000, requests: 4 };
/** The most pixels of the header of a wide page, which is one line. */
const header = 56;
/** The largest layout shift. Times of paint are reported and not asserted: they depend on the load of the machine. */
const shift = 0.02;

let server, chromium, member, phone, stranger;
before(async () => {
  server = await Server.start();
  await furnish(server);
  chromium = await browser();
  member = await measured(await signedIn(chromium, server));
  phone = await measured(await signedIn(chromium, server, { device }));
  stranger = await measured(await signedIn(chromium, server, { as: null }));
});
after(async () => {
  await chromium?.close();
  await server?.stop();
});

/** Gives a window axe, the observers of its paint, and a script that is late. */
async function measured(page) {
  // As over a slow network: what the script changes, it changes after the paint.
  await page.route("**/app.js", async (route) => {
    await page.waitForFunction(() => paint.lcp > 0);
    page.top = await top(page);
    await route.continue();
  });
  await page.addInitScript({ content: readFileSync(axe, "utf8") });
  // The figures of the page's own observers, since nothing else sees the paint.
  await page.addInitScript(() => {
    const paint = (globalThis.paint = { lcp: 0, tbt: 0, cls: 0, moved: [] });
    const observe = (type, each) =>
      new PerformanceObserver((list) => list.getEntries().forEach(each)).observe({ type, buffered: true });
    observe("largest-contentful-paint", (entry) => (paint.lcp = entry.startTime));
    observe("longtask", (entry) => (paint.tbt += Math.max(entry.duration - 50, 0)));
    observe("layout-shift", (entry) => {
      if (entry.hadRecentInput) return;
      paint.cls += entry.value;
      const place = ({ x, y, width, height }) => [x, y, width, height].join(" ");
      for (const { node, previousRect, currentRect } of entry.sources) {
        const element = node?.nodeType === Node.TEXT_NODE ? node.parentElement : node;
        const name = element ? element.outerHTML.slice(0, 80) : "what is gone";
        paint.moved.push(`${name} from ${place(previousRect)} to ${place(currentRect)}`);
      }
    });
  });
  return page;
}

/** Waits until a page is painted and follows changes, and returns its paint. */
async function painted(page) {
  const found = await page.waitForFunction(() => {
    const isLive = () => document.getElementById("live").dataset.state === "live";
    return paint.lcp > 0 && (!document.querySelector("[data-live]") || isLive()) && paint;
  });
  return found.jsonValue();
}

/** Returns the place of a page's content below its header, in pixels. */
const top = (page) => page.evaluate(() => document.querySelector("main").getBoundingClientRect().top);

/** Loads a page, and returns what it took; none of an address that is a file or leads to another page. */
async function load(page, address) {
  const answer = await page.context().request.get(address, { maxRedirects: 0 });
  assert.ok([200, 303].includes(answer.status()), `${address}: ${answer.status()}`);
  if (answer.status() === 303 || !answer.headers()["content-type"].startsWith("text/html")) return null;
  // What the page before still waits for is none of this one's.
  await page.goto("about:blank");
  const answers = [];
  const keep = (one) => answers.push(one);
  page.on("response", keep);
  await page.goto(address, { waitUntil: "load" });
  page.off("response", keep);
  const weigh = async (one) => [one.request().resourceType(), (await one.body()).length, one.url()];
  return Promise.all(answers.map(weigh));
}

function assertLight(address, answers) {
  assert.ok(answers.length <= most.requests, `${answers.length} requests: ${answers.join(" ")}`);
  for (const [type, bytes] of answers) {
    const limit = type === "document" && address === "/" ? most.overview : (most[type] ?? most.document);
    assert.ok(bytes <= limit, `${type} of ${bytes} bytes, and ${limit} are the most`);
  }
}

async function assertAccessible(page, scheme, size) {
  await page.setViewportSize(size);
  await page.emulateMedia({ colorScheme: scheme });
  const found = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
  const violations = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
  assert.deepEqual(violations, [], `${scheme}, ${size.width} px`);
}

for (const address of addresses) {
  test(`${address} is accessible, narrow, strict and light`, async (t) => {
    const page = address.startsWith("/login") ? stranger : member;
    page.faults.length = 0;
    await page.setViewportSize(sizes[0]);
    const answers = await load(page, address);
    if (!answers) return t.diagnostic("no page of its own");
    const paint = await painted(page);
    if (page === member) {
      await phone.goto(address, { waitUntil: "load" });
      await painted(phone);
      assert.equal(await top(phone), phone.top, "on a phone the content moves once the page is live");
    }
    for (const scheme of ["light", "dark"]) {
      for (const size of sizes) await assertAccessible(page, scheme, size);
    }
    await page.setViewportSize(sizes[0]);
    const high = await page.evaluate(() => document.querySelector("body > header").getBoundingClientRect().height);
    assert.ok(high <= header, `the header is ${high} px high, and ${header} are the most`);
    await page.setViewportSize({ width: 320, height: 640 });
    const wide = await page.evaluate(() => {
      const width = document.documentElement.clientWidth;
      const beyond = [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > width);
      return document.documentElement.scrollWidth > width ? beyond.slice(0, 3).map((one) => one.outerHTML.slice(0, 200)) : [];
    });
    assert.deepEqual(wide, [], "it scrolls to the side at 320 px");
    assert.deepEqual([...page.faults, ...(await page.evaluate(() => reports))], []);
    assertLight(address, answers);
    assert.ok(paint.cls <= shift, `it shifts by ${paint.cls}, and ${shift} is the most:\n${paint.moved.join("\n")}`);
    const bytes = answers.reduce((sum, [, bytes]) => sum + bytes, 0);
    const measured = `largest paint ${paint.lcp.toFixed(0)} ms, shift ${paint.cls.toFixed(3)}, blocked ${paint.tbt.toFixed(0)} ms`;
    t.diagnostic(`${answers.length} requests, ${bytes} bytes, ${measured}`);
  });
}
