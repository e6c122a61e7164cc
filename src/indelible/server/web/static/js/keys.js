// Keys: `/` finds, `j` and `k` go along rows, `?` tells all of them.
import { act } from "./page.js";

const typing = (target) => target.closest("input:not([type=range]), select, textarea, [contenteditable]");

function step(by) {
  const links = [...document.querySelectorAll("[data-rows] [data-row]")];
  if (!links.length) return;
  const now = links.indexOf(document.activeElement.closest?.("[data-row]"));
  const next = links[Math.min(Math.max(now + by, 0), links.length - 1)];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

// Screens add keys of their own: `document.dispatchEvent` tells them first.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  const keys = {
    "/": () => document.getElementById("find")?.focus(),
    j: () => step(1),
    k: () => step(-1),
    u: () => act("zone"),
    l: () => act("link"),
    "?": () => act("help"),
    c: () => document.querySelector("[data-copy-event]")?.click(),
  };
  const found = keys[event.key];
  if (found) {
    event.preventDefault();
    found();
  }
});
