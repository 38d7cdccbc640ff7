// Ends the session that the user has chosen, and signs in: with the ticket of the refused sign-in.

const form = document.getElementById("choice");
const notice = document.getElementById("notice");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { ticket, to, next } = form.dataset;
  const body = JSON.stringify({ ticket, end: new FormData(form).get("end") });
  const headers = { "content-type": "application/json" };
  const answer = await fetch(to, { method: "POST", headers, body }).catch(() => null);
  if (answer?.ok) {
    location.assign(next);
    return;
  }
  const problem = await answer?.json().catch(() => null);
  notice.textContent =
    problem?.detail ?? problem?.title ?? "The server did not answer. Try again.";
  notice.hidden = false;
  // The limit is still reached: the ticket goes on.
  if (problem?.ticket) form.dataset.ticket = problem.ticket;
  // A ticket works once, and for five minutes.
  form.hidden = [403, 410].includes(answer?.status);
});
