// Shared by the pages: calls to the API, messages, the event stream, small pieces of the page.

export const $ = (id) => document.getElementById(id);

// What the server tells the page: `session`, `signIn`, and for an admin `reach` and `tenant`.
export const facts = document.body.dataset;

// Calls.

// The server refused. `problem` is its answer (RFC 9457).
export class Refused extends Error {
  constructor(status, problem, changes) {
    super(problem.detail || problem.title || "");
    Object.assign(this, { status, problem, changes });
  }
}

// No answer came.
class Unanswered extends Error {
  constructor(changes) {
    super();
    this.changes = changes;
  }
}

export async function send(method, path, { body, headers = {} } = {}) {
  const changes = method !== "GET";
  const options = { method, headers: { ...headers } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  const response = await fetch(path, options).catch(() => { throw new Unanswered(changes); });
  if (response.ok) return response;
  throw new Refused(response.status, await response.json().catch(() => ({})), changes);
}

export async function call(method, path, options) {
  const response = await send(method, path, options);
  return response.status === 204 ? null : response.json();
}

// Reads pages until there are this many sessions. Returns the last page with the sessions of all.
export async function pages(path, query, wanted, cursor = null) {
  const sessions = [];
  let page;
  do {
    const asked = new URLSearchParams(query);
    asked.set("limit", Math.min(200, wanted - sessions.length));
    if (cursor) asked.set("cursor", cursor);
    page = await call("GET", `${path}?${asked}`);
    sessions.push(...page.sessions);
    cursor = page.next_cursor;
  } while (cursor && sessions.length < wanted);
  return { ...page, sessions };
}

// Pieces.

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function button(text, label, action) {
  const made = element("button", { type: "button", textContent: text });
  made.setAttribute("aria-label", label);
  made.addEventListener("click", () => { if (made.ariaDisabled !== "true") action(); });
  return made;
}

// Text that others chose: its direction does not reach what stands beside it.
export const foreign = (text) => element("bdi", { textContent: text });

// The place of a policy or a block in words.
export function placeOf({ tenant, user }) {
  const within = tenant ? ["tenant ", foreign(tenant)] : [];
  if (user) return ["user ", foreign(user), ...(tenant ? [" in ", ...within] : [])];
  return tenant ? within : ["the deployment"];
}

// The same as parameters. Only an admin of the deployment names the tenant.
export function queryOf({ tenant, user }) {
  const query = new URLSearchParams();
  if (tenant && facts.reach === "deployment") query.set("tenant", tenant);
  if (user) query.set("user", user);
  return query;
}

export function time(text) {
  return element("time", { dateTime: text, title: text, textContent: new Date(text).toLocaleString() });
}

// The device in an attribute or a message, which have no markup.
export function device({ device_name: name, device_info: info, device_kind: kind }) {
  return name || info ? `${name || info} (${kind})` : kind;
}

export function deviceOf({ device_name: name, device_info: info, device_kind: kind }) {
  const made = document.createElement("span");
  made.append(...(name || info ? [foreign(name || info), " (", foreign(kind), ")"] : [foreign(kind)]));
  return made;
}

// Marks a session in which somebody acts as its user.
export function actingOf({ impersonator }) {
  if (!impersonator) return [];
  return [" ", element("span", { className: "badge" }, "Used by ", foreign(impersonator))];
}

export const sessions = (count) => (count === 1 ? "1 session" : `${count} sessions`);

// What tells a session from others like it.
export function factsOf(session) {
  return [
    ["Device", deviceOf(session)],
    ["Address", session.ip_addresses.at(-1) ?? "not known"],
    ["Signed in", time(session.signed_in)],
    ["Last accessed", time(session.last_accessed)],
  ];
}

// How sessions end.
const HOW = {
  evicted: "Made room for another sign-in",
  revoked: "Signed out by choice",
  expired: "Expired",
  signed_out: "Signed out",
  replaced: "Replaced by another sign-in in the same browser",
  token_reused: "Ended because an old copy of its token was used",
  blocked: "Blocked",
};

// Who ended a session, where its user is not told who it was.
const OTHERS = { administrator: "an administrator", another_user: "another user" };

// An entry of a list of ended sessions; `whose` says whose it was.
export function endedCard(session, ...whose) {
  const how = element("div", { className: "quiet" }, HOW[session.cause] ?? session.cause, " ", time(session.ended));
  if (session.from) how.append(" from ", foreign(session.from));
  if (session.by.startsWith("user:")) how.append(" by ", foreign(session.by.slice("user:".length)));
  else if (session.by in OTHERS) how.append(" by ", OTHERS[session.by]);
  const since = element("div", { className: "quiet" }, "Signed in ", time(session.signed_in));
  const device = element("div", {}, element("strong", {}, deviceOf(session)), ...actingOf(session));
  const made = element("li", {}, element("div", { className: "text" }, ...whose, device, how, since));
  made.dataset.cause = session.cause;
  return made;
}

// The entries of a `dl`.
export const entries = (pairs) => pairs.flatMap(([name, value]) => [
  element("dt", { textContent: name }), element("dd", {}, value),
]);

// Says of a listed session, where it stands, that it has ended. Its button keeps the focus.
export function markEnded(item, cause) {
  item.classList.add("ended");
  for (const made of item.querySelectorAll("button:not(.link)")) made.ariaDisabled = "true";
  const last = item.querySelector("button.danger");
  if (last) Object.assign(last, { textContent: "Ended", title: cause, ariaLabel: `Ended: ${cause}` });
}

// Dialogs.

// Resolves to the value of the button that closed the dialog.
export function ask(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

export async function confirmed(text, action, pairs) {
  $("confirm-text").textContent = text;
  $("confirm-facts").replaceChildren(...entries(pairs));
  $("confirm-yes").textContent = action;
  return (await ask($("confirm"))) === "yes";
}

// Messages. There is one place for them, always in view.

export function say(text, { bad = false, link } = {}) {
  const notice = $("notice");
  notice.replaceChildren(...(text ? [text] : []));
  notice.classList.toggle("bad", bad);
  if (!link) return;
  const made = element("a", link);
  notice.append(" ", made);
  made.focus();
}

// A path of this origin to go to, and back to this page.
function there(path) {
  const url = new URL(path, location.origin);
  if (url.origin !== location.origin) return null;
  url.searchParams.set("next", location.pathname + location.search);
  return url.pathname + url.search;
}

const CAUSES = {
  evicted: "You signed in on another device, and the policy allows no more sessions.",
  revoked: "This session was revoked.",
  expired: "This session has expired.",
  replaced: "You signed in again in this browser.",
  token_reused: "An old copy of this session's token was used. Somebody may have stolen it.",
  blocked: "Signing in has been blocked.",
};

// The session behind this page is over: say so, show nothing that is no longer ours to see, ask the
// server nothing more.
export function over(cause) {
  if (facts.ended) return;
  facts.ended = cause || "unknown";
  document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
  document.dispatchEvent(new Event("over"));
  const text = cause === "forbidden"
    ? "You may no longer administer sessions."
    : ["You are signed out.", CAUSES[cause]].filter(Boolean).join(" ");
  const link = facts.signIn
    ? { href: there(facts.signIn), textContent: "Sign in" }
    : { href: "", textContent: "Reload this page" };
  say(text, { link });
}

const REAUTHENTICATE = "urn:session-kit:reauthentication-required";

function failed(error) {
  if (facts.ended) return;
  if (error instanceof Unanswered) {
    say(error.changes
      ? "The server did not answer, so it is not known whether this was done. Refresh to see."
      : "The server cannot be reached. Try again in a moment.", { bad: true });
  } else if (!(error instanceof Refused)) {
    console.error(error);
    say("This page has failed. Reload it.", { bad: true });
  } else if (error.problem.type === REAUTHENTICATE) {
    const path = error.problem.reauthenticate ?? facts.signIn;
    const href = path && there(path);
    const link = href && { href, textContent: "Confirm who you are" };
    say("Nothing was done: this needs a recent proof of who you are.", { bad: true, link });
  } else if (error.status === 401) {
    over();
  } else {
    say(explain(error), { bad: true });
  }
}

function explain({ status, changes, message }) {
  if (status === 412) {
    return "This policy was changed elsewhere since it was shown. Nothing was saved. Show it again, then repeat your change.";
  }
  if (status === 404) return "That session had already ended.";
  if (status === 403) return "You may not do this.";
  if (status === 429) return "Too many requests. Try again in a moment.";
  if (status >= 500) {
    return changes
      ? "The server has a fault, so it is not known whether this was done. Refresh to see."
      : "The server has a fault. Try again in a moment.";
  }
  return `This does not fit: ${message || `the server answered ${status}`}.`;
}

// Work.

let last = Promise.resolve();

// Does one thing at a time, and shows that it is at work. The action may return the element that
// has the focus afterwards; else it stays where it was.
export function working(action) {
  last = last.then(() => run(action));
  return last;
}

async function run(action) {
  if (facts.ended) return;
  const content = $("content");
  const focused = document.activeElement;
  say("");
  const slow = setTimeout(() => say("Working\u2026"), SLOW);
  content.disabled = $("sign-out").disabled = true;
  content.ariaBusy = "true";
  let next;
  try {
    next = await action();
    clearTimeout(slow);
    if ($("notice").textContent === "Working\u2026") say("");
  } catch (error) {
    failed(error);
  }
  clearTimeout(slow);
  content.disabled = $("sign-out").disabled = false;
  content.ariaBusy = "false";
  if (facts.ended || $("notice").contains(document.activeElement)) return;
  const candidates = [next, focused, $("refresh")];
  const target = candidates.find((made) => made?.isConnected && made !== document.body && made.checkVisibility());
  if (next || focused !== document.body) target?.focus();
}

const SLOW = 400;

// Signs out the session of this page.
$("sign-out").hidden = !facts.session;
$("sign-out").addEventListener("click", () => working(async () => {
  await call("POST", "me/sign-out");
  if (facts.signIn) location.assign(facts.signIn);
  else over("signed_out");
}));

// A page out of the browser's memory may show what is no longer so.
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

// Live updates.

export const ENDED = ["evicted", "revoked", "expired", "signed_out", "replaced", "token_reused", "blocked"];
const KINDS = [
  "created", "rotated", "changed", "policy_changed", "block_set", "block_lifted", "missed", ...ENDED,
];

// Hears what the events of a stream say until the session is over, from the stream of this tab or
// of another one: a browser has one for all of its tabs, as it has few connections to a server.
// Resolves when it hears, or has waited for long enough.
export function follow(path, changed, shown = () => {}) {
  let state = null;
  let leading = false;
  let ready;
  const heard = new Promise((resolve) => { ready = resolve; });
  setTimeout(ready, PATIENCE);
  const hear = ({ kind, data }) => {
    if (facts.ended) return;
    if (kind === "state") { state = data; shown(state); ready(); }
    else if (kind === "ended") over(data.cause);
    else changed({ ...data, kind });
  };
  const lead = (tell) => {
    leading = true;
    return stream(path, tell, () => state !== null);
  };
  // Browsers lend locks to pages that came over HTTPS or from this machine.
  if (!navigator.locks || !("BroadcastChannel" in window)) {
    lead(hear);
    return heard;
  }
  const name = `session-kit ${new URL(path, location).pathname} ${facts.session}`;
  const channel = new BroadcastChannel(name);
  channel.addEventListener("message", ({ data }) => {
    if (data.kind !== "who") hear(data);
    else if (leading && state) channel.postMessage({ kind: "state", data: state });
  });
  channel.postMessage({ kind: "who" });
  navigator.locks.request(name, () => lead((message) => {
    channel.postMessage(message);
    hear(message);
  }));
  return heard;
}

const PATIENCE = 2000;

// Tells what a stream of this tab says. Resolves when there is nothing more to follow.
function stream(path, tell, hasHeard) {
  return new Promise((resolve) => {
    let source = null;
    let retry = null;
    let pause = 1000;
    const stop = () => {
      source?.close();
      clearTimeout(retry);
      resolve();
    };
    const open = () => {
      source = new EventSource(path);
      source.addEventListener("open", () => {
        pause = 1000;
        if (hasHeard()) tell({ kind: "missed" });
        tell({ kind: "state", data: "live" });
      });
      for (const kind of KINDS) {
        source.addEventListener(kind, ({ data }) => tell({ kind, data: JSON.parse(data) }));
      }
      source.addEventListener("ended", ({ data }) => {
        tell({ kind: "ended", data: JSON.parse(data) });
        stop();
      });
      source.addEventListener("error", async () => {
        tell({ kind: "state", data: "lost" });
        // A stream that broke is opened again by the browser, a refused one is not.
        if (source.readyState !== EventSource.CLOSED || facts.ended) return;
        const status = await fetch(path, { method: "HEAD" }).then((answer) => answer.status, () => 0);
        if (status === 401) tell({ kind: "ended", data: {} });
        else if (status === 403) tell({ kind: "ended", data: { cause: "forbidden" } });
        else retry = setTimeout(open, pause);
        pause = Math.min(2 * pause, 30000);
      });
    };
    document.addEventListener("over", stop);
    window.addEventListener("pagehide", stop);
    if (facts.ended) stop();
    else open();
  });
}

// What has happened since the list was read, to be shown when the reader asks for it.
export class News {
  constructor() {
    this.clear();
  }

  clear() {
    this.begunIds = new Set();
    this.hasMissed = false;
    this.show();
  }

  begun(id) {
    this.begunIds.add(id);
    this.show();
  }

  missed() {
    this.hasMissed = true;
    this.show();
  }

  // What was told while the list was being read may be in it.
  listed(isListed) {
    for (const id of this.begunIds) if (isListed(id)) this.begunIds.delete(id);
    this.show();
  }

  show() {
    const count = this.begunIds.size;
    const begun = count ? `${count} new` : "";
    const text = !this.hasMissed ? begun : begun ? `${begun} or more` : "There may be changes";
    $("news").textContent = text;
    $("refresh").classList.toggle("primary", text !== "");
  }
}
