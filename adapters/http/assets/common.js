// Shared by the pages: calls to the API, the event stream, small pieces of the page.

export const $ = (id) => document.getElementById(id);

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the server answered ${status}`);
    this.status = status;
  }
}

export async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  const response = await fetch(path, options);
  if (!response.ok) {
    throw new Refused(response.status, await response.json().catch(() => ({})));
  }
  return response.status === 204 ? null : response.json();
}

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function time(text) {
  const at = new Date(text);
  const made = element("time", { dateTime: text, title: text, textContent: at.toLocaleString() });
  return made;
}

export function device(session) {
  return session.device_info ? `${session.device_info} (${session.device_kind})` : session.device_kind;
}

export function say(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

// Resolves to the value of the button that closed the dialog.
export function ask(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}

export async function confirmed(text, action) {
  $("confirm-text").textContent = text;
  $("confirm-yes").textContent = action;
  return (await ask($("confirm"))) === "yes";
}

const CAUSES = {
  evicted: "You signed in on another device, and the policy allows no more sessions.",
  revoked: "This session was revoked.",
  expired: "This session has expired.",
  signed_out: "You signed out.",
  replaced: "You signed in again in this browser.",
  token_reused: "An old copy of this session's token was used. Somebody may have stolen it.",
};

// The session behind this page is over: say so, and show nothing that is no longer ours to see.
export function over(cause) {
  document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
  $("content").hidden = true;
  document.body.dataset.ended = cause || "unknown";
  say(`You are signed out. ${CAUSES[cause] || ""}`.trim());
}

const KINDS = ["created", "evicted", "revoked", "expired", "signed_out", "replaced",
  "token_reused", "rotated", "policy_changed", "missed"];

// Follows an event stream until the session is over.
export function follow(path, changed, state = () => {}) {
  const source = new EventSource(path);
  source.addEventListener("open", () => { state("live"); changed({ kind: "missed" }); });
  source.addEventListener("ended", (event) => {
    source.close();
    state("over");
    over(JSON.parse(event.data).cause);
  });
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => changed({ kind, ...JSON.parse(event.data) }));
  }
  source.addEventListener("error", () => {
    state("lost");
    // A refused stream is not opened again by the browser: ask why.
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => follow(path, changed, state), 1000);
      changed({ kind: "missed" });
    }
  });
  window.addEventListener("pagehide", () => source.close(), { once: true });
}

// Runs one action at a time, and once more if it was asked for meanwhile.
export function settled(action) {
  let running = false;
  let again = false;
  return async function run() {
    if (running) { again = true; return; }
    running = true;
    do { again = false; await guarded(action); } while (again && !document.body.dataset.ended);
    running = false;
  };
}

// Tells the user what went wrong.
export async function guarded(action) {
  if (document.body.dataset.ended) return;
  try {
    await action();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) over();
    else say(error.message);
  }
}
