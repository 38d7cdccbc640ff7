import { $, call, confirmed, device, element, follow, guarded, say, settled, time } from "./common.js";

let limit = 50;

const show = settled(async () => {
  const me = await call("GET", `me?limit=${limit}`);
  $("who").textContent = me.tenant ? `${me.user} (${me.tenant})` : me.user;
  me.sessions.sort((a, b) => Number(b.current) - Number(a.current));
  $("devices").replaceChildren(...me.sessions.map(card));
  $("others").hidden = !me.sessions.some((session) => !session.current);
  $("more").hidden = me.next_cursor === null || limit >= 200;
  say("");
});

function card(session) {
  const name = element("strong", { textContent: device(session) });
  const title = element("div", {}, name);
  const facts = element("div", { className: "quiet" }, "Last used ", time(session.last_accessed));
  const address = session.ip_addresses.at(-1);
  if (address) facts.append(` from ${address}`);
  const item = element("li", {}, element("div", {}, title, facts));
  item.dataset.id = session.id;
  if (session.current) {
    item.className = "current";
    title.append(element("span", { className: "badge", textContent: "This device" }));
  } else {
    const button = element("button", { type: "button", className: "danger", textContent: "Sign out" });
    button.setAttribute("aria-label", `Sign out ${device(session)}`);
    button.addEventListener("click", () => signOut(session));
    item.append(button);
  }
  return item;
}

const signOut = (session) => guarded(async () => {
  if (!(await confirmed(`Sign out ${device(session)}?`, "Sign out"))) return;
  await call("DELETE", `me/${session.id}`);
  await show();
});

$("others").addEventListener("click", () => guarded(async () => {
  if (!(await confirmed("Sign out all other devices?", "Sign out all"))) return;
  await call("POST", "me/revoke-others");
  await show();
}));

$("more").addEventListener("click", () => {
  limit = 200;
  show();
});

follow("me/events", show);
show();
