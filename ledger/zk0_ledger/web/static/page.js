// Keeps an open page up to date and follows an audit. Without it everything works by reloading.
"use strict";

const PAGE_MS = 6000;
const AUDIT_MS = 1000;

async function freshPage() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) throw new Error(`answered ${answer.status}`);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function take(part, fresh, selector) {
  const next = fresh.querySelector(selector);
  if (part && next && part.innerHTML !== next.innerHTML) part.replaceWith(document.adoptNode(next));
}

// Whoever reads an opened part, plays a video or stands on a link is not disturbed.
function isInUse(main) {
  const video = main.querySelector("video");
  return main.querySelector("details[open]") !== null || (video !== null && video.currentTime > 0) ||
    (main.contains(document.activeElement) && document.activeElement !== main) ||
    String(getSelection()) !== "" || main.querySelector("[data-state=running]") !== null;
}

async function refresh() {
  const main = document.querySelector("[data-live=main]");
  if (document.hidden || !main) return;
  try {
    const fresh = await freshPage();
    take(document.querySelector("[data-live=status]"), fresh, "[data-live=status]");
    if (!isInUse(main)) {
      take(main, fresh, "[data-live=main]");
      followAudit();
    }
  } catch {
    // The server is away; the page says since when it is as it is.
  }
}

function tell(section, words) {
  const place = section.querySelector("[data-verify-status]");
  if (place && place.textContent.trim() !== words) place.textContent = words;
}

async function showVerdict() {
  const section = document.getElementById("verification");
  const fresh = (await freshPage()).getElementById("verification");
  if (!section || !fresh) return;
  const hadFocus = section.contains(document.activeElement);
  // The live region itself stays, so that its new words are read out.
  const status = section.querySelector("[data-verify-status]");
  const next = fresh.querySelector("[data-verify-status]");
  status.innerHTML = next.innerHTML;
  next.replaceWith(status);
  section.replaceChildren(...fresh.childNodes);
  section.dataset.state = fresh.dataset.state;
  if (hadFocus) {
    const place = section.querySelector("details summary, button:not(:disabled)") || section;
    place.focus({ preventScroll: true });
  }
  followAudit();
}

function waitForVerdict(section) {
  const address = section.dataset.verify.replace(/\/nodes\/[^/]+\/verify$/, "/verify");
  const poll = async () => {
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      const found = await answer.json();
      if (found.state !== "running") return await showVerdict();
      const { what, done, total } = found.progress;
      tell(section, `audit running: ${what}${total ? `, ${done} of ${total}` : ""}`);
    } catch {
      tell(section, "the server does not answer; trying again");
    }
    setTimeout(poll, AUDIT_MS);
  };
  setTimeout(poll, AUDIT_MS);
}

async function startAudit(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const section = form.closest("[data-verify]");
  form.querySelector("button").disabled = true;
  tell(section, "audit running: start");
  try {
    const answer = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" } });
    const found = await answer.json();
    if (!answer.ok) {
      tell(section, found.error);
      form.querySelector("button").disabled = false;
      return;
    }
  } catch {
    tell(section, "the server does not answer; try again");
    form.querySelector("button").disabled = false;
    return;
  }
  section.dataset.state = "running";
  waitForVerdict(section);
}

// A fresh verdict is not repeated at once: the button wakes when it may be.
function wakeButton(section) {
  const note = section.querySelector("[data-again]");
  if (!note) return;
  setTimeout(() => {
    if (!note.isConnected) return;
    section.querySelector("button").disabled = false;
    note.remove();
  }, 1000 * (Number(note.dataset.again) + 1));
}

function followAudit() {
  const section = document.querySelector("[data-verify]");
  if (!section) return;
  wakeButton(section);
  const form = section.querySelector("form");
  if (form) form.addEventListener("submit", startAudit);
  if (section.dataset.state === "running") waitForVerdict(section);
}

followAudit();
setInterval(refresh, PAGE_MS);
