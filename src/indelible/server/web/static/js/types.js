// Types: as long as not all of the log is counted, ask again, unless the reader is in the list.
import { elements } from "./page.js";
import { times } from "./times.js";

const PAUSE = 700;

function isInUse(list) {
  const selection = getSelection();
  const selects = !selection.isCollapsed && list.contains(selection.anchorNode);
  return document.hidden || selects || list.contains(document.activeElement);
}

async function count() {
  const list = document.querySelector("#counts[data-more]");
  if (!list) return;
  if (!isInUse(list)) {
    const answer = await fetch(location.href, {
      headers: { Accept: "text/html", "HX-Request-Type": "partial", "HX-Target-Block": "counts" },
    });
    if (!answer.ok || answer.redirected) return;
    const made = [...elements(await answer.text())].find((each) => each.id === "counts");
    if (!made || Number(made.dataset.upto) <= Number(list.dataset.upto)) return;
    list.replaceWith(made);
    times(made);
  }
  setTimeout(count, PAUSE);
}

setTimeout(count, PAUSE);
