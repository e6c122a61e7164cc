// The figures of the overview, live. What needs attention comes anew from the server if it changes.
import { follow, write } from "./live.js";

let known = null;

async function load() {
  const state = document.querySelector("[data-live-state]");
  await window.htmx.ajax("GET", location.pathname + location.search, { target: "#main", swap: "innerHTML" });
  document.querySelector("[data-live-state]")?.replaceWith(state);
}

function show({ figures, attention }) {
  write(figures);
  const isNew = document.querySelector("[data-empty]") !== null && figures.head !== "0";
  const needs = JSON.stringify(attention.map(([kind, name]) => [kind, name]));
  if (isNew || (known !== null && known !== needs)) load();
  known = needs;
}

follow(() => "/live/overview", { overview: show }, document.querySelector("[data-live-state]"));
