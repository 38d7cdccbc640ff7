import { $, ask, call, confirmed, device, element, follow, guarded, say, settled, time } from "./common.js";

const PAGE = 50;
let shown = PAGE;

// Reads as many pages as are shown, so that a live update keeps the reader's place.
const refresh = settled(async () => {
  const sessions = [];
  let cursor = null;
  do {
    const query = filters();
    query.set("limit", Math.min(200, shown - sessions.length));
    if (cursor) query.set("cursor", cursor);
    const page = await call("GET", `admin/sessions?${query}`);
    sessions.push(...page.sessions);
    cursor = page.next_cursor;
  } while (cursor && sessions.length < shown);
  const focused = document.activeElement?.dataset?.key;
  $("rows").replaceChildren(...sessions.map(row));
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  $("empty").hidden = sessions.length > 0;
  $("more").hidden = !cursor;
});

function filters() {
  const form = new FormData($("search"));
  const query = new URLSearchParams();
  for (const name of ["user", "device", "client"]) {
    if (form.get(name)) query.set(name, form.get(name));
  }
  if (form.get("active")) {
    query.set("active_since", new Date(Date.now() - form.get("active") * 1000).toISOString());
  }
  return query;
}

function row(session) {
  const user = session.tenant ? `${session.user} (${session.tenant})` : session.user;
  const only = button(user, `Only sessions of ${user}`, () => {
    $("search").elements.user.value = session.user;
    shown = PAGE;
    refresh();
  });
  only.className = "link";
  only.dataset.key = `only ${session.id}`;
  const name = element("td", {}, only);
  if (session.current) name.append(element("span", { className: "badge", textContent: "You" }));
  const details = button("Details", `Details of ${user}, ${device(session)}`, () => open(session.id));
  const revoke = button("Revoke", `Revoke ${user}, ${device(session)}`, () => revokeOne(session));
  details.dataset.key = `details ${session.id}`;
  revoke.dataset.key = `revoke ${session.id}`;
  revoke.className = "danger";
  const made = element("tr", {},
    name,
    element("td", {}, device(session)),
    element("td", {}, session.ip_addresses.at(-1) ?? ""),
    element("td", {}, time(session.signed_in)),
    element("td", {}, time(session.last_accessed)),
    element("td", { className: "actions" }, details, " ", revoke));
  made.dataset.id = session.id;
  made.dataset.user = session.user;
  return made;
}

function button(text, label, action) {
  const made = element("button", { type: "button", textContent: text });
  made.setAttribute("aria-label", label);
  made.addEventListener("click", action);
  return made;
}

const open = (id) => guarded(async () => {
  const session = await call("GET", `admin/sessions/${id}`);
  const fields = Object.entries(session).filter(([name]) => name !== "current");
  $("fields").replaceChildren(...fields.flatMap(([name, value]) => [
    element("dt", { textContent: name.replaceAll("_", " ") }),
    element("dd", {}, shownValue(name, value)),
  ]));
  $("details").dataset.id = id;
  const choice = await ask($("details"));
  if (choice === "one") await revokeOne(session);
  if (choice === "all") await revokeAll(session);
});

function shownValue(name, value) {
  if (value === null) return "\u2013";
  if (["signed_in", "last_accessed", "authenticated_at", "absolute_expiry"].includes(name)) return time(value);
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const revokeOne = (session) => guarded(async () => {
  if (!(await confirmed(`Revoke the session of ${session.user} on ${device(session)}?`, "Revoke"))) return;
  await call("DELETE", `admin/sessions/${session.id}`);
  await refresh();
});

const revokeAll = (session) => guarded(async () => {
  if (!(await confirmed(`Revoke all sessions of ${session.user}?`, "Revoke all"))) return;
  const query = new URLSearchParams({ tenant: session.tenant ?? "" });
  await call("DELETE", `admin/users/${encodeURIComponent(session.user)}/sessions?${query}`);
  await refresh();
});

// The policy.

function policyPath() {
  const query = new URLSearchParams();
  for (const name of ["tenant", "user"]) {
    const value = $("policy").elements[name].value;
    if (value) query.set(name, value);
  }
  return `admin/policy?${query}`;
}

const showPolicy = () => guarded(async () => fill(await call("GET", policyPath())));

function fill(policy) {
  $("policy").elements.prevent.value = policy.prevent_concurrent_login;
  $("limits").replaceChildren(...policy.limits.map(limitRow));
  $("policy-state").textContent = policy.inherited ? "Inherited" : "Set here";
  $("policy-inherit").disabled = policy.inherited;
}

function limitRow(limit = {}) {
  const item = $("limit").content.cloneNode(true).firstElementChild;
  for (const [name, value] of Object.entries(limit)) item.querySelector(`[name="${name}"]`).value = value;
  item.querySelector(".remove").addEventListener("click", () => item.remove());
  return item;
}

$("policy").addEventListener("submit", (event) => {
  event.preventDefault();
  guarded(async () => {
    const value = (item, name) => item.querySelector(`[name="${name}"]`).value;
    const limits = [...$("limits").children].map((item) => ({
      max: Number(value(item, "max")), scope: value(item, "scope"), on_exceed: value(item, "on_exceed"),
    }));
    const body = { prevent_concurrent_login: $("policy").elements.prevent.value, limits };
    fill(await call("PUT", policyPath(), body));
    $("policy-state").textContent = "Saved";
    say("");
  });
});

$("policy-load").addEventListener("click", showPolicy);
$("limit-add").addEventListener("click", () => {
  const item = limitRow();
  $("limits").append(item);
  item.querySelector("input").focus();
});
$("policy-inherit").addEventListener("click", () => guarded(async () => {
  await call("DELETE", policyPath());
  await showPolicy();
}));

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  shown = PAGE;
  say("");
  refresh();
});
$("more").addEventListener("click", () => {
  shown += PAGE;
  refresh();
});

const STATES = { live: "Live", lost: "Connection lost, trying again", over: "Signed out" };
follow("admin/events", refresh, (state) => { $("live").textContent = STATES[state]; });
showPolicy();
refresh();
