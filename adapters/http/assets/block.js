// Blocks the deployment, a tenant or a user, and lifts that again. First one says whom, then it is shown,
// then it can be changed: what is changed is always the block of the one whom the form names.

import { $, call, confirmed, element, facts, foreign, placeOf, queryOf, say, sessions, time, working } from "./common.js";

const form = $("block-form");

// Whose block the form shows.
let scope = {};

const path = () => `admin/block?${queryOf(scope)}`;

const asked = () => ({
  tenant: facts.tenant || $("block-scope").elements.tenant.value,
  user: $("block-scope").elements.user.value,
});

function whose({ tenant, user }) {
  if (!user && !tenant) return [["Whom", "everybody, you too"]];
  return [["Tenant", tenant ? foreign(tenant) : "none"], ["User", user ? foreign(user) : "everybody"]];
}

async function show(wanted) {
  // The users outside all tenants are no place of their own.
  if (facts.reach === "outside" && !wanted.user) return say("Say whom: name a user.");
  form.hidden = true;
  form.reset();
  scope = wanted;
  await fill();
}

async function fill() {
  const block = await call("GET", path());
  $("block-of").replaceChildren("Block of ", ...placeOf(scope));
  $("block-set").replaceChildren("Block ", ...placeOf(scope));
  $("block-lift").replaceChildren("Lift the block of ", ...placeOf(scope));
  $("block-lift").disabled = !block.since;
  $("block-state").replaceChildren(...state(block));
  form.hidden = false;
}

function state(block) {
  if (!block.since) return ["Not blocked"];
  const said = [block.blocked ? "Blocked" : "Not blocked any more"];
  if (block.until) said.push(" until ", time(block.until));
  said.push(", set by ", foreign(block.by), " ", time(block.since));
  if (block.reason) said.push(": ", element("b", {}, foreign(block.reason)));
  return said;
}

$("block-scope").addEventListener("submit", (event) => {
  event.preventDefault();
  working(() => show(asked()));
});

// Enter in one of its fields changes nothing.
form.addEventListener("submit", (event) => event.preventDefault());

$("block-set").addEventListener("click", async () => {
  if (!(await confirmed("Block these sign-ins and end their sessions?", "Block", whose(scope)))) return;
  await working(async () => {
    const { reason, until } = form.elements;
    const body = { reason: reason.value || null, until: until.value ? new Date(until.value).toISOString() : null };
    const { revoked } = await call("PUT", path(), { body });
    await fill();
    say(`Blocked. ${sessions(revoked)} ended.`);
  });
});

$("block-lift").addEventListener("click", async () => {
  if (!(await confirmed("Lift this block and let them sign in again?", "Lift", whose(scope)))) return;
  await working(async () => {
    await call("DELETE", path());
    await fill();
    say("Lifted.");
    return $("block-set");
  });
});
