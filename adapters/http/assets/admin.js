import {
  $, ENDED, News, actingOf, ask, button, call, confirmed, device, deviceOf, element, entries, facts, factsOf, follow,
  foreign, markEnded, over, pages, say, sessions, time, working,
} from "./common.js";
import "./policy.js";
import "./block.js";
import "./history.js";

const PAGE = 50;
const ALL_TENANTS = facts.reach === "deployment";
const FILTERS = ["tenant", "user", "device", "client", "active"];
const news = new News();
let cursor = null;

document.querySelectorAll(".across").forEach((made) => { made.hidden = !ALL_TENANTS; });

// The filters. Those that hold are in the address of the page.

function filters() {
  const named = new URLSearchParams(location.search);
  const held = FILTERS.filter((name) => named.get(name) || (name === "tenant" && named.has(name)));
  return new URLSearchParams(held.map((name) => [name, named.get(name)]));
}

function fillSearch() {
  const held = filters();
  const fields = $("search").elements;
  for (const name of FILTERS) fields[name].value = held.get(name) ?? "";
  fields.outside.checked = held.get("tenant") === "";
}

// Filters by these, and leaves the way back to those before.
function filterBy(wanted) {
  const query = wanted.toString();
  const path = query ? `${location.pathname}?${query}` : location.pathname;
  if (path !== location.pathname + location.search) history.pushState(null, "", path);
  fillSearch();
  return working(() => read(PAGE));
}

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData($("search"));
  const wanted = new URLSearchParams();
  for (const name of FILTERS) if (form.get(name)) wanted.set(name, form.get(name));
  if (form.get("outside") && !wanted.has("tenant")) wanted.set("tenant", "");
  filterBy(wanted);
});
$("search-clear").addEventListener("click", () => filterBy(new URLSearchParams()));
window.addEventListener("popstate", () => {
  fillSearch();
  working(() => read(PAGE));
});

function query() {
  const asked = filters();
  const active = Number(asked.get("active"));
  asked.delete("active");
  if (active) asked.set("active_since", new Date(Date.now() - active * 1000).toISOString());
  return asked;
}

// The list.

const named = ({ user, tenant }) => (tenant ? `${user} (${tenant})` : user);
const whose = ({ user, tenant }) => [
  ["User", foreign(user)],
  ...(tenant ? [["Tenant", foreign(tenant)]] : ALL_TENANTS ? [["Tenant", "none"]] : []),
];

async function read(wanted) {
  news.clear();
  const page = await reading(pages("admin/sessions", query(), wanted));
  $("rows").replaceChildren(...page.sessions.map(row));
  news.listed(rowOf);
  cursor = page.next_cursor;
  count();
}

// A 403 for the list means that the role was withdrawn.
async function reading(page) {
  try {
    return await page;
  } catch (error) {
    if (error.status === 403 && !filters().has("tenant")) over("forbidden");
    throw error;
  }
}

function count() {
  const shown = $("rows").children.length;
  $("count").textContent = cursor
    ? `The newest ${sessions(shown)}; there are more` : sessions(shown);
  $("empty").hidden = shown > 0;
  $("more").hidden = !cursor;
}

function row(session) {
  const only = button("", `Only sessions of ${named(session)}`, () => {
    const wanted = new URLSearchParams({ user: session.user });
    if (ALL_TENANTS) wanted.set("tenant", session.tenant ?? "");
    filterBy(wanted);
  });
  only.className = "link";
  only.append(foreign(session.user));
  const name = cell("User", only);
  if (session.tenant) name.append(" in ", foreign(session.tenant));
  if (session.current) name.append(" ", element("span", { className: "badge", textContent: "You" }));
  name.append(...actingOf(session));
  const details = button("Details", `Details of ${named(session)}, ${device(session)}`, () => open(session.id));
  const revoke = button("Revoke", `Revoke ${named(session)}, ${device(session)}`, () => revokeOne(session));
  revoke.className = "danger";
  const actions = element("td", { className: "actions", role: "cell" }, details, " ", revoke);
  const made = element("tr", { role: "row" },
    name,
    cell("Device", deviceOf(session)),
    cell("Address", session.ip_addresses.at(-1) ?? ""),
    cell("Signed in", time(session.signed_in)),
    cell("Last accessed", time(session.last_accessed)),
    actions);
  Object.assign(made.dataset, { id: session.id, user: session.user, tenant: session.tenant ?? "" });
  return made;
}

function cell(label, content) {
  const made = element("td", { role: "cell" }, content);
  made.dataset.label = label;
  return made;
}

const rowOf = (id) => $("rows").querySelector(`[data-id="${CSS.escape(id ?? "")}"]`);

$("more").addEventListener("click", () => working(async () => {
  const page = await reading(pages("admin/sessions", query(), PAGE, cursor));
  const rows = page.sessions.filter(({ id }) => !rowOf(id)).map(row);
  $("rows").append(...rows);
  cursor = page.next_cursor;
  count();
  return rows[0]?.querySelector("button");
}));

$("refresh").addEventListener("click", () => working(() => read(Math.max(PAGE, $("rows").children.length))));

// Details and revocation.

async function open(id) {
  let session = null;
  await working(async () => { session = await call("GET", `admin/sessions/${id}`); });
  if (!session || facts.ended) return;
  const fields = Object.entries(session).filter(([name]) => name !== "current");
  $("fields").replaceChildren(...entries(fields.map(([name, value]) => [
    name.replaceAll("_", " "), shownValue(name, value),
  ])));
  $("details").dataset.id = id;
  const choice = await ask($("details"));
  if (choice === "one") await revokeOne(session);
  if (choice === "all") await revokeAll(session);
}

function shownValue(name, value) {
  if (value === null) return "\u2013";
  if (["signed_in", "last_accessed", "authenticated_at", "absolute_expiry"].includes(name)) return time(value);
  if (Array.isArray(value)) return value.join(", ");
  return foreign(typeof value === "object" ? JSON.stringify(value) : String(value));
}

async function revokeOne(session) {
  const question = session.current ? "Revoke your own session and be signed out?" : "Revoke this session?";
  if (!(await confirmed(question, "Revoke", [...whose(session), ...factsOf(session)]))) return;
  await working(async () => {
    await call("DELETE", `admin/sessions/${session.id}`);
    const item = rowOf(session.id);
    const next = item?.nextElementSibling ?? item?.previousElementSibling;
    item?.remove();
    count();
    say(`1 session of ${named(session)} ended.`);
    return next?.querySelector("button.danger");
  });
}

async function revokeAll(session) {
  if (!(await confirmed("Revoke all sessions of this user?", "Revoke all", whose(session)))) return;
  await working(async () => {
    const asked = new URLSearchParams({ user: session.user });
    if (session.tenant) asked.set("tenant", session.tenant);
    const { revoked } = await call("DELETE", `admin/sessions?${asked}`);
    await read(Math.max(PAGE, $("rows").children.length));
    say(`${sessions(revoked)} of ${named(session)} ended.`);
  });
}

// Live updates move no row: what is new is counted, what has ended is marked.

function changed({ kind, session_id: id, user, tenant }) {
  const held = filters();
  const concerns = (held.get("user") ?? user) === user && (held.get("tenant") ?? (tenant ?? "")) === (tenant ?? "");
  const item = rowOf(id);
  if (kind === "created" && concerns && !item) news.begun(id);
  else if (kind === "missed") news.missed();
  else if (ENDED.includes(kind) && item) markEnded(item, kind.replaceAll("_", " "));
}

const STATES = { live: "Live", lost: "Connection lost, trying again" };

fillSearch();
await follow("admin/events", changed, (state) => { $("live").textContent = STATES[state]; });
working(() => read(PAGE));
