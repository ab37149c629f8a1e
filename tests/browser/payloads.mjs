// Deliveries about pull requests that are made up here, as arguments of `Server.post`: event, GUID, payload. Each is a
// delivery of the fixtures with other values.

import { fixtures } from "./world.mjs";

const known = fixtures().map(({ event, request }) => ({ event, payload: request.payload }));
const now = () => new Date().toISOString().replace(/\.\d+Z/, "Z");
let made = 0;

/** Returns a copy of the first delivery of a kind. */
function copy(event, action) {
  const found = known.find(({ event: of, payload }) => of === event && payload.action === action);
  return structuredClone(found.payload);
}

function about(payload, number) {
  const time = now();
  if ("number" in payload) payload.number = number;
  Object.assign(payload.pull_request, {
    number,
    id: 2_900_000_000 + number,
    html_url: payload.pull_request.html_url.replace(/\d+$/, String(number)),
    updated_at: time,
  });
  return time;
}

const delivery = (event, payload) => [event, `made-${++made}-${payload.pull_request.number}`, payload];

/** A pull request is opened. */
export function opened(number, title, branch = `topic-${number}`) {
  const payload = copy("pull_request", "opened");
  const created_at = about(payload, number);
  Object.assign(payload.pull_request, { title, created_at, draft: false });
  payload.pull_request.head.ref = branch;
  return delivery("pull_request", payload);
}

/** `login` reviews it. */
export function review(number, login, place) {
  const payload = copy("pull_request_review", "submitted");
  const submitted_at = about(payload, number);
  Object.assign(payload.review, { id: 7_000_000 + place, submitted_at, state: "commented" });
  Object.assign(payload.review.user, { id: 7_000_000 + place, login });
  return delivery("pull_request_review", payload);
}

/** The review of `login` is requested. */
export function request(number, login, place) {
  const payload = copy("pull_request", "review_requested");
  about(payload, number);
  delete payload.requested_team;
  const user = { ...payload.pull_request.user, id: 6_000_000 + place, login };
  Object.assign(payload, { requested_reviewer: user });
  payload.pull_request.requested_reviewers = [user];
  payload.pull_request.requested_teams = [];
  return delivery("pull_request", payload);
}
