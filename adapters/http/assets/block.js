// Blocks the deployment, a tenant or a user, and lifts that again.

import { $, call, confirmed, element, facts, foreign, say, sessions, time, working } from "./common.js";

const form = $("block");

function scope() {
  const { tenant, user } = form.elements;
  return { tenant: facts.tenant || tenant.value, user: user.value };
}

function path({ tenant, user }) {
  const query = new URLSearchParams();
  if (tenant && facts.reach === "deployment") query.set("tenant", tenant);
  if (user) query.set("user", user);
  return `admin/block?${query}`;
}

function whose({ tenant, user }) {
  if (!user && !tenant) return [["Whom", "everybody, you too"]];
  return [["Tenant", tenant ? foreign(tenant) : "none"], ["User", user ? foreign(user) : "everybody"]];
}

async function show() {
  const block = await call("GET", path(scope()));
  const state = $("block-state");
  state.replaceChildren(block.blocked ? "Blocked" : "Not blocked");
  if (!block.blocked) return;
  if (block.until) state.append(" until ", time(block.until));
  state.append(", set by ", foreign(block.by), " ", time(block.since));
  if (block.reason) state.append(": ", element("b", {}, foreign(block.reason)));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  working(show);
});

$("block-set").addEventListener("click", async () => {
  const wanted = scope();
  if (!(await confirmed("Block these sign-ins and end their sessions?", "Block", whose(wanted)))) return;
  await working(async () => {
    const { reason, until } = form.elements;
    const body = { reason: reason.value || null, until: until.value ? new Date(until.value).toISOString() : null };
    const { revoked } = await call("PUT", path(wanted), { body });
    await show();
    say(`Blocked. ${sessions(revoked)} ended.`);
  });
});

$("block-lift").addEventListener("click", () => working(async () => {
  await call("DELETE", path(scope()));
  await show();
  say("Lifted.");
}));
