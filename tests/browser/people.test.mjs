// The dashboard as people use it: with the keys alone, without JavaScript, with a server that goes away, in a tab that
// nobody looks at, and with titles that others wrote.

import { after, before, test } from "node:test";
import assert from "node:assert/strict";

import { Server, browser, furnish, repo, signedIn, token, until } from "./world.mjs";
import { opened } from "./payloads.mjs";

let server, chromium;
before(async () => {
  server = await Server.start();
  await furnish(server);
  chromium = await browser();
});
after(async () => {
  await chromium?.close();
  await server?.stop();
});

/** Presses Tab until the focus is on a link that leads to `address`, a regular expression. */
async function tabTo(page, address) {
  for (let pressed = 0; pressed < 300; pressed++) {
    await page.keyboard.press("Tab");
    const [href, outline] = await page.evaluate(() => {
      const focused = document.activeElement;
      return [focused.getAttribute("href") ?? "", getComputedStyle(focused).outlineStyle];
    });
    if (address.test(href)) {
      assert.notEqual(outline, "none", `the focus on ${href} is not to be seen`);
      return;
    }
  }
  assert.fail(`no link to ${address} within 300 presses of Tab at ${page.url()}`);
}

async function enter(page, address) {
  await tabTo(page, address);
  await page.keyboard.press("Enter");
  await page.waitForURL(address);
}

test("keys alone lead from the overview to a pull request and a delivery", async () => {
  const page = await signedIn(chromium, server);
  await page.goto("/");
  // The first key leads past the navigation.
  await enter(page, /#main$/);
  await enter(page, /\/repos\/acme-corp\/api-server\/prs\/\d+$/);
  await enter(page, /\/deliveries\?/);
  await enter(page, /\/deliveries\/\d+$/);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("without JavaScript one signs in, filters, and decides about dead letters", async () => {
  const context = await chromium.newContext({ baseURL: server.url, javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto("/prs?state=merged");
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  assert.equal(new URL(page.url()).pathname + new URL(page.url()).search, "/prs?state=merged");

  const rows = () => page.locator("main tbody tr").count();
  const merged = await rows();
  await page.getByRole("combobox", { name: "State" }).selectOption("open");
  await page.getByRole("button", { name: "Show" }).click();
  assert.match(page.url(), /state=open/);
  const open = await rows();
  assert.ok(open > 0 && merged > 0 && open !== merged, `${open} open, ${merged} merged`);

  const dead = async () => (await server.call("GET", "/api/dead-letters")).items.length;
  assert.equal(await dead(), 3);
  await page.goto("/dead-letters");
  await page.getByRole("button", { name: /Try one first/ }).first().click();
  await server.drained();
  // They are dead again: this version cannot read them either.
  assert.equal(await dead(), 3);
  await page.goto("/dead-letters");
  await page.getByRole("link", { name: /Discard/ }).first().click();
  await page.getByLabel(/reason/).fill("made up by a test");
  await page.getByRole("button", { name: /Discard/ }).click();
  assert.ok((await dead()) < 3);
  await context.close();
});

const state = (page) => page.evaluate(() => document.getElementById("live").dataset.state);

test("a server that goes away is said so, and nothing is lost when it is back", async () => {
  const away = await Server.start();
  try {
    await furnish(away);
    const page = await signedIn(chromium, away);
    await page.goto("/prs?sort=updated");
    await until("the page is live", async () => (await state(page)) === "live");
    // A load in vain while it is away must not delay the one when it is back.
    const failed = page.waitForEvent("requestfailed", (request) => request.resourceType() === "xhr");
    await away.kill();
    await until("the header says stale", async () => (await state(page)) === "stale");
    assert.match(await page.textContent("#live"), /not live, as of/);
    assert.ok((await page.locator("main tbody tr").count()) > 0, "the rows are kept");
    await failed;
    await away.run({ listen: away.address });
    await away.post(...opened(7001, "Opened while nobody looked"));
    await until("the page is live again", async () => (await state(page)) === "live");
    await page.getByText("Opened while nobody looked").waitFor();
    await page.context().close();
  } finally {
    await away.stop();
  }
});

test("a hidden tab holds no socket, and is up to date when it is looked at again", async () => {
  const page = await signedIn(chromium, server);
  let sockets = 0;
  page.on("websocket", (socket) => {
    sockets++;
    socket.on("close", () => sockets--);
  });
  const look = (visibility) =>
    page.evaluate((visibility) => {
      for (const [name, value] of [["visibilityState", visibility], ["hidden", visibility === "hidden"]]) {
        Object.defineProperty(document, name, { configurable: true, get: () => value });
      }
      document.dispatchEvent(new Event("visibilitychange"));
    }, visibility);
  await page.goto("/prs?sort=updated");
  await until("the socket is open", () => sockets === 1);
  await look("hidden");
  await until("the socket is closed", () => sockets === 0);
  await server.post(...opened(7002, "Opened while the tab was hidden"));
  await server.drained();
  assert.equal(sockets, 0);
  await look("visible");
  await page.getByText("Opened while the tab was hidden").waitFor();
  await until("the socket is open again", () => sockets === 1);
  await page.context().close();
});

test("titles and branches that others wrote stay text", async () => {
  const hostile = '"><img src=x onerror="xss=1" data-xss><script>xss=1</script><b data-xss>';
  await server.post(...opened(7003, hostile, hostile));
  await server.drained();
  const page = await signedIn(chromium, server);
  for (const address of ["/", "/prs", `/repos/${repo}/prs/7003`, "/deliveries"]) {
    await page.goto(address);
    const found = await page.evaluate(() => [document.querySelectorAll("[data-xss], main img").length, typeof xss]);
    assert.deepEqual(found, [0, "undefined"], address);
  }
  assert.deepEqual([...page.faults, ...(await page.evaluate(() => reports))], []);
  await page.goto(`/repos/${repo}/prs/7003`);
  assert.ok((await page.textContent("main")).includes(hostile.slice(0, 40)), "the title is shown");
  await page.context().close();
});
