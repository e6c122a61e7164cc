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

/** What a row or card shows only when the server renders it: which builds there are, and errors. */
function kindsOf(builds, of) {
  return [...builds].map(of).sort().join();
}

let told = null;

function update(found) {
  const builds = [...document.querySelectorAll("[data-build]")];
  for (const build of builds) if (found[build.dataset.build]) show(build, found[build.dataset.build]);
  const one = place.dataset.projection !== undefined;
  const now = kindsOf(Object.entries(found), ([id, each]) => (one ? `${id} ${each.state} ${each.kind}` : id));
  told ??= one && builds.every((build) => found[build.dataset.build]?.state === build.dataset.state) && builds.length === Object.keys(found).length ? now : one ? "" : kindsOf(builds, (build) => build.dataset.build);
  if (told === now) return;
  told = now;
  const isAsking = document.getElementById("dialog").open;
  if (isAsking) return;
  const here = new URL(location.href);
  here.searchParams.delete("done");
  here.searchParams.delete("count");
  window.htmx.ajax("GET", here.pathname + here.search, { target: "#main", swap: "innerHTML" });
}

if (place) {
  const name = place.dataset.projection;
  follow(
    () => (name === undefined ? "/live/projections" : `/live/projection?name=${encodeURIComponent(name)}`),
    { projections: update },
    document.querySelector("[data-live-state]"),
  );
}
