// The list of consumer groups, live.
import { follow } from "./live.js";

const shapes = { attention: "▲", stopped: "■", working: "◐", idle: "○", ok: "●" };
const rows = [...document.querySelectorAll("[data-group]")];

if (rows.length) {
  follow(
    () => "/live/groups",
    {
      groups: (groups) => {
        for (const row of rows) {
          const found = groups[row.dataset.group];
          if (!found) continue;
          for (const cell of row.querySelectorAll("[data-field]")) {
            const field = cell.dataset.field;
            if (field === "state") {
              const state = cell.firstElementChild;
              const text = `${shapes[found.kind]} ${found.word}`;
              if (state.textContent === text) continue;
              state.className = `state ${found.kind}`;
              state.textContent = text;
            } else if (cell.textContent !== found[field]) {
              cell.textContent = found[field];
            }
          }
        }
      },
    },
    document.querySelector("[data-live-state]"),
  );
}
