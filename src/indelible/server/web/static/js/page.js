// What every page has: the policy for HTML, times, copying, keys, dialogs, theme.
import { times, watchZone } from "./times.js";
import "./keys.js";

const root = document.documentElement;
root.dataset.scripts = "";

// The one way in which text becomes elements: what this server rendered, swapped in by htmx.
const policy = window.trustedTypes?.createPolicy("indelible", { createHTML: (text) => text });
window.htmx?.registerExtension("page", {
  init: (api) => policy && api.initSecurity(policy),
  htmx_after_swap: () => times(document),
});

/** Make elements of a part that this server rendered. */
export function elements(html) {
  const parsed = new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html");
  return document.importNode(parsed.body, true).childNodes;
}

/** Tell a short fact at the place of a button, for eyes and screen readers. */
export function tell(button, text) {
  const before = button.getAttribute("aria-label");
  button.setAttribute("aria-label", text);
  button.title = text;
  button.dataset.told = "";
  setTimeout(() => {
    button.setAttribute("aria-label", before);
    button.title = before;
    delete button.dataset.told;
  }, 2000);
}

/** Copy a text. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    if (button) tell(button, "Copied");
  } catch {
    if (button) tell(button, "The browser does not let this page copy");
  }
}

function keep(name, value) {
  document.cookie = `${name}=${value}; path=/; max-age=31536000; samesite=lax`;
}

function changeTheme() {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme || (isDark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  keep("theme", root.dataset.theme);
  document.dispatchEvent(new CustomEvent("theme"));
}

function changeZone() {
  if (root.dataset.zone === "utc") delete root.dataset.zone;
  else root.dataset.zone = "utc";
  keep("zone", root.dataset.zone || "own");
  times(document);
}

const actions = {
  theme: changeTheme,
  zone: changeZone,
  help: () => show(document.getElementById("keys").content.cloneNode(true)),
  link: (button) => copy(location.href, button),
};

/** Show content as a dialog. */
export function show(content) {
  const dialog = document.getElementById("dialog");
  dialog.replaceChildren(content);
  dialog.showModal();
}

/** Do what a button with `data-do` does. */
export function act(name, button) {
  actions[name]?.(button);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-do], [data-dialog], dialog [data-close]");
  if (!button) return;
  if (button.dataset.close !== undefined) {
    event.preventDefault();
    button.closest("dialog").close();
  } else if (button.dataset.copy !== undefined) copy(button.dataset.copy, button);
  else if (button.dataset.do) act(button.dataset.do, button);
  else if (!event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    ask(button.href);
  }
});

// A confirmation is a page that works alone; here it opens over the page that asked.
async function ask(address) {
  const answer = await fetch(address, {
    headers: { Accept: "text/html", "HX-Request-Type": "partial" },
  });
  if (answer.redirected || !answer.ok) {
    location.href = address;
    return;
  }
  const content = document.createDocumentFragment();
  content.append(...elements(await answer.text()));
  show(content);
}

times(document);
watchZone();
// On a narrow screen, the current entry of the navigation may be beyond the edge.
document.querySelector(".rail [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
