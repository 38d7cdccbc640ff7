// A tab that stays open. The server closes the WebSocket when the session ends, and says why.

const SESSION_ENDED = 4001;
const REPORT_EVERY = 60_000; // milliseconds

const time = document.getElementById("time");
const notice = document.getElementById("notice");
let socket;
let reported = 0;

function open() {
  socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/live/socket`);
  socket.addEventListener("open", () => (notice.hidden = true));
  socket.addEventListener("message", ({ data }) => {
    if (/^\d/.test(data)) time.textContent = data;
  });
  socket.addEventListener("close", ({ code, reason }) => {
    if (code === SESSION_ENDED) {
      // The page to sign in knows more of it.
      location.assign("/login?next=%2Flive");
      return;
    }
    notice.textContent = `No connection (${code} ${reason}). Trying again.`;
    notice.hidden = false;
    // Not all tabs at once.
    setTimeout(open, 1000 + 4000 * Math.random());
  });
}

// An open tab is no use of the session; its user's doing is.
function report() {
  if (socket.readyState !== WebSocket.OPEN || Date.now() - reported < REPORT_EVERY) return;
  reported = Date.now();
  socket.send("here");
}

for (const event of ["pointerdown", "keydown"]) addEventListener(event, report);
open();
