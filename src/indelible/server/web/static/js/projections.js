// The builds of projections, live: numbers by text, and the whole anew when a build comes or goes.
import { follow } from "./live.js";

const shapes = { attention: "▲", stopped: "■", working: "◐", idle: "○", ok: "●" };
const place = document.querySelector("[data-builds]");

function write(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}

function show(build, found) {
  for (const cell of build.querySelectorAll("[data-field]")) {
    const field = cell.dataset.field;
    if (field !== "state") {
      write(cell, found[field] ?? "");
    } else {
      const state = cell.firstElementChild;
      write(state, `${shapes[found.kind]} ${found.word}`);
      state.className = `state ${found.kind}`;
    }
  }
  const progress = build.querySelector("[data-progress]");
  if (progress) progress.value = found.share;
}

/** What only the server renders: which builds there are; of one projection also their states. */
function identity(id, state, kind) {
  return place.dataset.projection === undefined ? id : `${id} ${state} ${kind}`;
}

let asked = null;

async function load() {
  const state = document.querySelector("[data-live-state]");
  const here = new URL(location.href);
  here.searchParams.delete("done");
  here.searchParams.delete("count");
  await window.htmx.ajax("GET", here.pathname + here.search, { target: "#main", swap: "innerHTML" });
  document.querySelector("[data-live-state]")?.replaceWith(state);
}

function update(found) {
  const builds = [...document.querySelectorAll("[data-build]")];
  for (const build of builds) if (found[build.dataset.build]) show(build, found[build.dataset.build]);
  const now = Object.entries(found).map(([id, each]) => identity(id, each.state, each.kind)).sort().join();
  const seen = builds.map(({ dataset }) => identity(dataset.build, dataset.state, dataset.kind)).sort().join();
  if (now === seen || now === asked || document.getElementById("dialog").open) return;
  asked = now;
  load();
}

if (place) {
  const name = place.dataset.projection;
  follow(
    () => (name === undefined ? "/live/projections" : `/live/projection?name=${encodeURIComponent(name)}`),
    { projections: update },
    document.querySelector("[data-live-state]"),
  );
}
