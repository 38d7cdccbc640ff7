// Sessions that have ended.

import { $, element, endedCard, facts, foreign, pages, working } from "./common.js";

const PAGE = 20;
const form = $("history-search");
let cursor = null;

function query() {
  const { tenant, user, device, client, within, cause } = form.elements;
  const asked = new URLSearchParams();
  if (tenant.value && facts.reach === "deployment") asked.set("tenant", tenant.value);
  if (user.value) asked.set("user", user.value);
  if (device.value) asked.set("device", device.value);
  if (client.value) asked.set("client", client.value);
  if (within.value) asked.set("since", new Date(Date.now() - within.value * 1000).toISOString());
  if (cause.value) asked.set("cause", cause.value);
  return asked;
}

function card(session) {
  const name = element("div", {}, foreign(session.user));
  if (session.tenant) name.append(" in ", foreign(session.tenant));
  return endedCard(session, name);
}

async function read(after) {
  const page = await pages("admin/history", query(), PAGE, after);
  const cards = page.sessions.map(card);
  if (after) $("history").append(...cards);
  else $("history").replaceChildren(...cards);
  cursor = page.next_cursor;
  $("history-more").hidden = !cursor;
  $("history-empty").hidden = $("history").children.length > 0;
  return cards;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  working(async () => { await read(null); });
});
$("history-more").addEventListener("click", () => working(async () => { await read(cursor); }));
