import {
  $, ENDED, News, actingOf, ask, button, call, confirmed, device, deviceOf, element, endedCard, factsOf, follow,
  foreign, markEnded, pages, say, sessions, time, working,
} from "./common.js";

const PAGE = 50;
const news = new News();
let total = 0;
let cursor = null;

// Reads as many as are shown, so that the reader keeps their place.
async function read() {
  news.clear();
  const me = await pages("me", {}, Math.max(PAGE, $("devices").children.length));
  $("who").replaceChildren(foreign(me.user), ...(me.tenant ? [" in ", foreign(me.tenant)] : []), ...actingOf(me));
  $("devices").replaceChildren(...me.sessions.map(card));
  news.listed(itemOf);
  ({ total } = me);
  cursor = me.next_cursor;
  count();
}

const itemOf = (id) => $("devices").querySelector(`[data-id="${CSS.escape(id ?? "")}"]`);

function count() {
  const shown = $("devices").children.length;
  $("count").textContent = cursor ? `${shown} of ${sessions(total)}` : sessions(shown);
  $("more").hidden = !cursor;
  $("others").hidden = !cursor && !$("devices").querySelector("li:not(.current)");
}

function card(session) {
  const title = element("div", {}, element("strong", {}, deviceOf(session)), ...actingOf(session));
  const facts = element("div", { className: "quiet" }, "Last used ", time(session.last_accessed));
  const address = session.ip_addresses.at(-1);
  if (address) facts.append(` from ${address}`);
  const since = element("div", { className: "quiet" }, "Signed in ", time(session.signed_in));
  const item = element("li", {}, element("div", { className: "text" }, title, facts, since));
  item.dataset.id = session.id;
  if (session.current) {
    item.className = "current";
    title.append(" ", element("span", { className: "badge", textContent: "This device" }));
  } else {
    const end = button("Sign out", `Sign out ${device(session)}`, () => signOut(session, item));
    end.className = "danger";
    item.append(end);
  }
  item.append(button("Rename", `Rename ${device(session)}`, () => rename(session, item)));
  return item;
}

async function rename(session, item) {
  $("rename-name").value = session.device_name ?? "";
  if ((await ask($("rename"))) !== "yes") return;
  await working(async () => {
    const body = { device_name: $("rename-name").value.trim() || null };
    const made = card(await call("PATCH", `me/${session.id}`, { body }));
    item.replaceWith(made);
    say(body.device_name ? "The device has a new name." : "The device has no name any more.");
    return made.querySelector("button:last-child");
  });
}

async function signOut(session, item) {
  if (!(await confirmed("Sign out this device?", "Sign out", factsOf(session)))) return;
  await working(async () => {
    await call("DELETE", `me/${session.id}`);
    const next = item.nextElementSibling ?? item.previousElementSibling;
    item.remove();
    total -= 1;
    count();
    say("1 device signed out.");
    return next?.querySelector("button");
  });
}

$("others").addEventListener("click", async () => {
  if (!(await confirmed("Sign out all other devices?", "Sign out all", [["Sessions", `${total - 1}`]]))) return;
  await working(async () => {
    const { revoked } = await call("POST", "me/revoke-others");
    await read();
    say(revoked === 1 ? "1 device signed out." : `${revoked} devices signed out.`);
  });
});

$("more").addEventListener("click", () => working(async () => {
  const page = await pages("me", {}, PAGE, cursor);
  const cards = page.sessions.map(card);
  $("devices").append(...cards);
  cursor = page.next_cursor;
  count();
  return cards[0]?.querySelector("button");
}));

$("refresh").addEventListener("click", () => working(read));

// Sessions that have ended.

let older = null;

async function recall() {
  const page = await pages("me/history", {}, PAGE, older);
  const items = page.sessions.map((session) => endedCard(session));
  $("history").append(...items);
  if (!$("history").children.length) $("history").append(element("li", { textContent: "None." }));
  older = page.next_cursor;
  $("older").hidden = !older;
}

$("ended").addEventListener("toggle", () => {
  if (!$("ended").open) return;
  $("history").replaceChildren();
  older = null;
  working(recall);
});
$("older").addEventListener("click", () => working(recall));

function changed({ kind, session_id: id }) {
  const item = itemOf(id);
  if (kind === "created" && !item) news.begun(id);
  else if (kind === "missed") news.missed();
  else if (ENDED.includes(kind) && item) markEnded(item, kind.replaceAll("_", " "));
}

await follow("me/events", changed);
working(read);
