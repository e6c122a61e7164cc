// The live log: new rows come to its top, until the reader pauses, scrolls away or selects text.
import { follow } from "./live.js";
import { elements } from "./page.js";
import { times } from "./times.js";

const MOST = 200;
const place = document.querySelector("[data-live-log]");
const table = place.querySelector("table.log");
const body = table.tBodies[0];
const button = document.getElementById("pause");
const pending = document.getElementById("pending");
const state = document.getElementById("live-state");
const paused = document.getElementById("live-paused");
let waiting = []; // rows that came while the page was paused, the newest first
let count = 0; // events that came since
let isPaused = false;

function rows(html) {
  const made = [...elements(html)].find((each) => each.tagName === "TABLE");
  return made ? [...made.rows] : [];
}

function show(made) {
  document.getElementById("nothing")?.remove();
  delete table.dataset.empty;
  body.prepend(...made);
  while (body.rows.length > MOST) body.rows[body.rows.length - 1].remove();
  times(body);
}

function come({ html, count: events }) {
  const made = rows(html);
  if (!isPaused && isAway()) pause();
  if (!isPaused) {
    show(made);
    return;
  }
  waiting = [...made, ...waiting].slice(0, MOST);
  count += events;
  tell();
}

function tell() {
  pending.hidden = !waiting.length;
  pending.textContent = `${count.toLocaleString("en")} new: show`;
}

// Rows that move under the eyes are worse than rows that wait.
function isAway() {
  const selection = getSelection();
  const selects = !selection.isCollapsed && place.contains(selection.anchorNode);
  return selects || body.contains(document.activeElement) || body.getBoundingClientRect().top < 0;
}

function pause() {
  isPaused = true;
  look();
}

function resume() {
  if (body.contains(document.activeElement)) document.activeElement.blur();
  getSelection().removeAllRanges();
  if (body.getBoundingClientRect().top < 0) scrollTo({ top: 0 });
  isPaused = false;
  show(waiting);
  waiting = [];
  count = 0;
  tell();
  look();
}

function look() {
  button.setAttribute("aria-pressed", String(isPaused));
  button.querySelector("span").textContent = isPaused ? "Resume" : "Pause";
  const use = button.querySelector("use");
  use.setAttribute("href", use.getAttribute("href").replace(/#.*/, isPaused ? "#play" : "#pause"));
  paused.hidden = !isPaused;
  state.hidden = isPaused;
}

button.addEventListener("click", () => (isPaused ? resume() : pause()));
pending.addEventListener("click", () => {
  resume();
  button.focus({ preventScroll: true });
});
document.addEventListener("keydown", (event) => {
  if (event.key !== " " || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (event.target.closest("input, select, textarea, button, summary, dialog")) return;
  event.preventDefault();
  button.click();
});
document.addEventListener("selectionchange", () => !isPaused && isAway() && pause());
addEventListener("scroll", () => !isPaused && isAway() && pause(), { passive: true });

if (new URL(location).searchParams.get("live") === "off") pause();
follow(
  (after) => {
    const address = new URL(place.dataset.liveLog, location);
    if (after) address.searchParams.set("after", after);
    return address.href;
  },
  { rows: come, place: () => {} },
  state,
);
