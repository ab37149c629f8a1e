"use strict";
// Pages work without this module. It keeps them current, and adds keys and small comforts. Text from
// elsewhere never becomes markup here: parts of pages are taken from documents that the browser read.
(() => {
  const GATHER = 300; // ms in which hints are gathered
  const PAUSE = 1000; // ms between two loads of this page
  const POLL = 30000; // ms between two loads without a socket
  const AGE = 300000; // ms after which even a quiet page is loaded again
  const base = document.body.dataset.base || "";
  const status = document.getElementById("live");
  const all = (selector, root) => [...(root || document).querySelectorAll(selector)];
  const byId = (id, root) => (root || document).getElementById(id);

  // Loading a page as a document

  function load(url, done) {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.responseType = "document";
    request.timeout = 20000;
    request.setRequestHeader("X-Tallyhook-Region", "1");
    request.onload = () => {
      if (request.status === 401) {
        const here = location.pathname.slice(base.length) + location.search;
        location.assign(base + "/login?next=" + encodeURIComponent(here || "/"));
      } else {
        done(request.status === 200 ? request.response : null);
      }
    };
    request.onerror = request.ontimeout = () => done(null);
    request.send();
  }

  // Regions: elements with an id and data-live

  const stale = new Set(); // ids of regions that are to be loaded again
  let timer = 0;
  let loading = false;
  let loadedAt = Date.now();

  const isField = (element) => element && element.matches("input, select, textarea, dialog *");
  const isBusy = (region) => isField(document.activeElement) && region.contains(document.activeElement);

  function markStale(hint) {
    for (const region of all("[data-live][id]")) {
      const { live, repo, number } = region.dataset;
      const isOther = hint && ((repo && hint.repo && repo !== hint.repo)
        || (number && hint.number && number !== String(hint.number)));
      if (!hint || (live.split(" ").includes(hint.of) && !isOther)) stale.add(region.id);
    }
    if (stale.size) schedule(GATHER);
  }

  function schedule(delay) {
    if (timer || loading || document.hidden) return;
    timer = setTimeout(reload, Math.max(delay, loadedAt + PAUSE - Date.now()));
  }

  function reload() {
    timer = 0;
    const wanted = [...stale].filter((id) => byId(id) && !isBusy(byId(id)));
    if (!wanted.length) return;
    loading = true;
    wanted.forEach((id) => stale.delete(id));
    load(location.href, (page) => {
      loading = false;
      loadedAt = Date.now();
      if (page) {
        wanted.forEach((id) => take(id, page));
        knownAt = (byId("live", page) || status).dataset.at;
        all("[data-follow][id]").forEach((part) => replace(part, byId(part.id, page)));
      } else {
        wanted.forEach((id) => stale.add(id));
      }
      if (!socket) show(page ? "polled" : "stale");
      if (stale.size) schedule(page ? GATHER : POLL);
    });
  }

  function take(id, page) {
    const old = byId(id);
    const fresh = byId(id, page);
    if (!old || isBusy(old)) {
      stale.add(id);
    } else if (!fresh) {
      old.remove();
    } else if (!old.isEqualNode(fresh)) {
      // Rows that are new must not move what is being read.
      const isRead = old.contains(document.activeElement) || old.getBoundingClientRect().top < -40;
      const added = old.hasAttribute("data-rows") && isRead ? newRows(old, fresh) : 0;
      if (added) offer(old, fresh, added);
      else swap(old, fresh);
    }
  }

  const rows = (root) => all("tbody > tr[id]", root);

  function newRows(old, fresh) {
    const known = new Set(rows(old).map((row) => row.id));
    return rows(fresh).filter((row) => !known.has(row.id)).length;
  }

  // Shows rows that are known as they are now, and a button for the new ones.
  function offer(old, fresh, added) {
    for (const row of rows(fresh)) {
      const known = byId(row.id);
      if (known && old.contains(known)) replace(known, row.cloneNode(true));
    }
    let button = old.querySelector(".new");
    if (!button) {
      button = document.createElement("button");
      button.className = "new";
      old.prepend(button);
    }
    button.textContent = added + " new, show";
    button.onclick = () => {
      swap(old, fresh);
      scrollTo(0, 0);
    };
  }

  function replace(old, fresh) {
    if (!fresh || old.isEqualNode(fresh)) return;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && { id: focused.id, href: focused.getAttribute("href") };
    old.replaceWith(fresh);
    if (!focused || focused.isConnected) return;
    const again = (place.id && byId(place.id))
      || all("a[href]", fresh).find((link) => link.getAttribute("href") === place.href);
    if (again) again.focus({ preventScroll: true });
  }

  function swap(old, fresh) {
    const before = new Map(rows(old).map((row) => [row.id, row.textContent]));
    const open = new Set(all("details[open]", old).map(nameOf));
    for (const part of all("details", fresh)) {
      if (open.has(nameOf(part))) part.open = true;
    }
    replace(old, fresh);
    for (const row of rows(fresh)) {
      if (before.size && before.get(row.id) !== row.textContent) row.classList.add("changed");
    }
    prepare(fresh);
  }

  const nameOf = (details) => details.id || (details.querySelector("summary") || details).textContent;

  // The socket of hints, and what the header says

  let state = "opening";
  let socket = null;
  let attempts = 0;
  let retry = 0;
  let seenAt = Date.now();
  let knownAt = (status && status.dataset.at) || new Date().toISOString();

  const SAYS = { live: "live", polled: "asks each 30 s", stale: "not live" };

  function show(next) {
    const isNew = next !== state;
    // A page that was live knew everything until now.
    if (next !== "stale" || state === "live") seenAt = Date.now();
    state = next;
    document.body.classList.toggle("stale", next === "stale");
    if (!status || (!isNew && next !== "polled")) return;
    // The time is not announced: it changes with each load.
    const time = document.createElement("span");
    time.setAttribute("aria-hidden", "true");
    time.textContent = ", as of " + new Date(seenAt).toISOString().slice(11, 19) + " UTC ";
    const shown = status.querySelector("span");
    if (!isNew && shown) {
      shown.replaceWith(time);
      return;
    }
    status.dataset.state = next;
    status.replaceChildren(SAYS[next]);
    if (next !== "live") status.append(time);
    if (next === "stale") {
      const link = document.createElement("a");
      link.href = "";
      link.textContent = "Refresh";
      status.append(link);
    }
  }

  function connect() {
    clearTimeout(retry);
    if (socket || document.hidden || !document.querySelector("[data-live]")) return;
    const address = new URL(base + "/ws?hints=1&since=" + encodeURIComponent(knownAt), location.href);
    address.protocol = address.protocol.replace("http", "ws");
    socket = new WebSocket(address);
    const mine = socket;
    mine.onopen = () => {
      // Hints name the changes since the page was made.
      const missed = attempts > 0;
      attempts = 0;
      show("live");
      if (!missed) return;
      // A load in vain waits long for the next one, and that was before.
      clearTimeout(timer);
      timer = 0;
      markStale(null);
    };
    mine.onmessage = (message) => {
      const hint = JSON.parse(message.data);
      if (hint.type !== "hint") return;
      knownAt = hint.at;
      markStale(hint);
    };
    mine.onclose = (end) => {
      if (socket !== mine) return;
      socket = null;
      show("stale");
      attempts += 1;
      // A session that ended is found out by a load, and so is a network without sockets.
      if (end.code === 1008 || attempts > 2) markStale(null);
      const most = Math.min(POLL, 500 * 2 ** attempts);
      retry = setTimeout(connect, most * (0.5 + Math.random() / 2));
    };
  }

  function disconnect() {
    clearTimeout(retry);
    clearTimeout(timer);
    timer = 0;
    const mine = socket;
    socket = null;
    if (mine) mine.close();
  }

  function wake() {
    if (document.hidden) {
      disconnect();
      return;
    }
    attempts += 1;
    connect();
  }

  document.addEventListener("visibilitychange", wake);
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => event.persisted && wake());
  document.addEventListener("focusout", () => stale.size && schedule(GATHER));
  setInterval(() => {
    if (document.hidden) return;
    const since = Date.now() - loadedAt;
    if (since > AGE || (state !== "live" && since > POLL)) markStale(null);
  }, 5000);

  // Parts that are loaded after the page, copies, choices that need no button

  function prepare(root) {
    const lazy = all("[data-lazy][id]", root);
    if (root.matches && root.matches("[data-lazy][id]")) lazy.unshift(root);
    const next = () => {
      const part = lazy.shift();
      if (!part) return;
      const link = part.querySelector("a[href]");
      load(part.dataset.lazy || (link && link.href) || location.href, (page) => {
        const fresh = page && byId(part.id, page);
        if (fresh) part.replaceWith(fresh);
        next();
      });
    };
    next();
    all("[data-copy]", root).forEach((button) => { button.hidden = false; });
    for (const choice of all("select[data-submit]", root)) {
      all("button", choice.form).forEach((button) => { button.hidden = true; });
    }
  }

  function copy(button) {
    const source = byId(button.dataset.copy);
    const text = source ? source.value || source.textContent.trim() : button.dataset.copy;
    const said = (words) => { button.textContent = words; };
    if (navigator.clipboard) {
      navigator.clipboard.writeText(text).then(() => said("Copied"), () => said("Not copied"));
    } else if (source) {
      // Over plain HTTP a page may only select the text.
      getSelection().selectAllChildren(source);
      said(document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C");
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("select[data-submit]")) event.target.form.requestSubmit();
  });
  // The reader's own zone, where the text has that of the server.
  document.addEventListener("mouseover", (event) => {
    const time = event.target.closest("time[datetime]");
    if (!time || time.dataset.zone) return;
    time.dataset.zone = "own";
    time.title = new Date(time.dateTime).toLocaleString() + " your time; " + time.title;
  });

  // Single keys

  const PAGES = { o: "/", p: "/prs", f: "/flow", l: "/load", r: "/repos", t: "/tasks", d: "/deliveries", x: "/dead-letters", h: "/health" };
  let goes = 0;

  function step(by) {
    const links = all("main tbody > tr").map((row) => row.querySelector("a[href]")).filter(Boolean);
    const row = document.activeElement.closest("tr");
    const here = row ? links.findIndex((link) => row.contains(link)) : -1;
    const link = links[here < 0 && by < 0 ? links.length - 1 : here + by];
    if (link) link.focus();
  }

  const COMMANDS = {
    "?": () => location.assign(base + "/keys"),
    "/": () => {
      const field = document.querySelector("input[type=search], .filters select, .filters input");
      if (field) field.focus();
    },
    j: () => step(1),
    k: () => step(-1),
    r: () => (all("[data-live][id]").length ? markStale(null) : location.reload()),
    g: () => { goes = Date.now(); },
  };

  if (document.body.dataset.keys) {
    document.addEventListener("keydown", (event) => {
      const { key, target } = event;
      const isCommand = !event.ctrlKey && !event.altKey && !event.metaKey && !event.isComposing;
      if (!isCommand || target.isContentEditable || isField(target)) return;
      const page = Date.now() - goes < 1500 && PAGES[key];
      goes = 0;
      if (page) location.assign(base + page);
      else if (Object.hasOwn(COMMANDS, key)) COMMANDS[key]();
      else return;
      event.preventDefault();
    });
  }

  prepare(document);
  if (document.querySelector("[data-live]")) {
    connect();
  }
})();
