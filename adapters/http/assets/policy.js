// The policy of the deployment, a tenant or a user. First one says whose, then it is shown, then it
// can be changed: what is saved is always that of the one whom the form names.

import { $, call, facts, foreign, placeOf, queryOf, say, send, working } from "./common.js";

// Whose policy the form shows, and its tag.
let scope = {};
let tag = null;

const path = (place) => `admin/policy?${queryOf(place)}`;

const asked = () => ({
  tenant: facts.tenant || $("scope").elements.tenant.value,
  user: $("scope").elements.user.value,
});

async function show(wanted) {
  // The users outside all tenants have no policy in common.
  if (facts.reach === "outside" && !wanted.user) return say("Say whose policy: name a user.");
  const response = await send("GET", path(wanted));
  scope = wanted;
  await fill(response);
  $("policy-doubt").textContent = await doubt(wanted);
}

async function fill(response) {
  tag = response.headers.get("etag");
  const policy = await response.json();
  $("policy-of").replaceChildren("Policy of ", ...placeOf(scope));
  $("policy-save").replaceChildren("Save for ", ...placeOf(scope));
  $("limits-form").elements.prevent.value = policy.prevent_concurrent_login;
  $("limits").replaceChildren(...policy.limits.map(limitRow));
  $("policy-state").replaceChildren(...origin(policy));
  $("policy-inherit").disabled = policy.inherited;
  $("limits-form").hidden = false;
}

function origin(policy) {
  if (!policy.inherited) return [policy.newer ? "Set here by a newer version: change it there" : "Set here"];
  const of = {
    tenant: ["tenant ", foreign(scope.tenant ?? "")],
    deployment: ["the deployment"],
    default: ["the application's default"],
  };
  return ["Inherited from ", ...of[policy.inherited_from]];
}

// A policy may be set before its user exists, so an unknown name is a warning and no error.
async function doubt({ tenant, user }) {
  if (!user && (!tenant || facts.tenant)) return "";
  const query = new URLSearchParams({ limit: 1 });
  if (user) query.set("user", user);
  if (facts.reach === "deployment") query.set("tenant", tenant);
  const { sessions } = await call("GET", `admin/sessions?${query}`);
  if (sessions.length > 0) return "";
  return `This ${user ? "user" : "tenant"} has no sessions. Check the name.`;
}

function limitRow(limit = {}) {
  const item = $("limit").content.cloneNode(true).firstElementChild;
  for (const [name, value] of Object.entries(limit)) item.querySelector(`[name="${name}"]`).value = value;
  item.querySelector(".remove").addEventListener("click", () => {
    item.remove();
    $("limit-add").focus();
  });
  return item;
}

function policyOfForm() {
  const value = (item, name) => item.querySelector(`[name="${name}"]`).value;
  const limits = [...$("limits").children].map((item) => ({
    max: Number(value(item, "max")), scope: value(item, "scope"), on_exceed: value(item, "on_exceed"),
  }));
  return { prevent_concurrent_login: $("limits-form").elements.prevent.value, limits };
}

const ifUnchanged = () => ({ "if-match": tag });

function told(what) {
  const text = [what, $("policy-doubt").textContent].filter(Boolean).join(" ");
  say(text);
}

$("scope").addEventListener("submit", (event) => {
  event.preventDefault();
  working(() => show(asked()));
});

// Enter in one of its fields changes nothing.
$("limits-form").addEventListener("submit", (event) => event.preventDefault());

$("policy-save").addEventListener("click", () => {
  if (!$("limits-form").reportValidity()) return;
  working(async () => {
    await fill(await send("PUT", path(scope), { body: policyOfForm(), headers: ifUnchanged() }));
    told(`Saved: the ${$("policy-of").textContent.replace("Policy", "policy")}.`);
  });
});

$("policy-inherit").addEventListener("click", () => working(async () => {
  await send("DELETE", path(scope), { headers: ifUnchanged() });
  await show(scope);
  told("Inherited again.");
  return $("policy-save");
}));

$("limit-add").addEventListener("click", () => {
  const item = limitRow();
  $("limits").append(item);
  item.querySelector("input").focus();
});

if (facts.reach !== "outside") working(() => show({ tenant: facts.tenant, user: "" }));
