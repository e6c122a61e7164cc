// One stream: the two sliders, what is new, and the text that is looked for.
import { elements } from "./page.js";
import { follow } from "./live.js";
import { momentText, times } from "./times.js";

const place = document.getElementById("stream");
let request = null;
let waiting = 0;

/** Show what an address shows, in the place of what is there. */
async function load(address, isLast) {
  request?.abort();
  request = new AbortController();
  try {
    const answer = await fetch(address, {
      signal: request.signal,
      headers: { Accept: "text/html", "HX-Request-Type": "partial", "HX-Target-Block": "stream" },
    });
    if (!answer.ok || answer.redirected) {
      location.href = address;
      return;
    }
    const held = document.activeElement?.dataset?.slide;
    const parts = elements(await answer.text());
    place.replaceChildren(...parts);
    times(place);
    begin();
    if (held) place.querySelector(`[data-slide=${held}]`)?.focus();
    if (isLast) history.pushState({}, "", address);
    else history.replaceState(history.state, "", address);
  } catch (error) {
    if (error.name !== "AbortError") location.href = address;
  } finally {
    place.removeAttribute("aria-busy");
  }
}

addEventListener("popstate", () => location.reload());

function changed(name, value) {
  const address = new URL(location.href);
  address.searchParams.delete("from");
  address.searchParams.delete("at");
  if (value === null) address.searchParams.delete(name);
  else address.searchParams.set(name, value);
  return address.pathname + address.search;
}

const names = { recorded: "as_of", valid: "valid_at" };
let before = location.href;

/** The sliders of the track: they snap to the marks of their lane. */
function begin() {
  const track = place.querySelector("[data-track]");
  highlight();
  if (!track) return;
  const lanes = {};
  for (const lane of ["recorded", "valid"]) {
    const slide = track.querySelector(`[data-slide=${lane}]`);
    const stops = JSON.parse(track.dataset[lane]);
    const isSet = track.dataset[lane === "recorded" ? "hasRecorded" : "hasValid"] === "1";
    const at = Number(slide.value);
    let index = stops.length;  // behind the last one: any
    if (isSet) index = stops.findLastIndex((stop) => stop[0] <= at);
    lanes[lane] = { slide, stops, index };
    slide.addEventListener("input", () => {
      const x = Number(slide.value);
      let nearest = stops.length;
      if (x < 1000) {
        nearest = 0;
        stops.forEach((stop, place) => {
          if (Math.abs(stop[0] - x) < Math.abs(stops[nearest][0] - x)) nearest = place;
        });
      }
      move(lane, nearest, false);
    });
    slide.addEventListener("change", () => move(lane, lanes[lane].index, true));
    slide.addEventListener("keydown", (event) => {
      const lastIndex = stops.length;
      const steps = {
        ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1,
        Home: -lastIndex, End: lastIndex, Delete: lastIndex,
      };
      let by = steps[event.key];
      if (event.key === "PageUp" || event.key === "PageDown") {
        by = day(stops, lanes[lane].index, event.key === "PageUp" ? 1 : -1);
      }
      if (by === undefined) return;
      event.preventDefault();
      if (event.shiftKey && Math.abs(by) === 1) by *= 10;
      move(lane, lanes[lane].index + by, true);
    });
    describe(lane);
  }
  paint();
  place.step = (lane, by) => move(lane, lanes[lane].index + by, true);

  function day(stops, from, direction) {
    let to = from;
    const dayOf = (index) => (stops[index] ? stops[index][2].slice(0, 10) : null);
    const now = dayOf(Math.min(from, stops.length - 1));
    do to += direction;
    while (to >= 0 && to < stops.length && dayOf(to) === now);
    return to - from;
  }

  function move(lane, index, isLast) {
    const here = lanes[lane];
    here.index = Math.min(Math.max(index, 0), here.stops.length);
    const stop = here.stops[here.index];
    here.slide.value = stop ? stop[0] : 1000;
    describe(lane);
    paint();
    const address = changed(names[lane], stop ? stop[1] : null);
    clearTimeout(waiting);
    if (isLast) {
      // The address of the drag's beginning stays in the history; its end is a new entry.
      const end = () => load(address, before !== location.href || address !== location.pathname + location.search);
      before = location.href;
      waiting = setTimeout(end, 0);
    } else {
      waiting = setTimeout(() => {
        place.setAttribute("aria-busy", "true");
        load(address, false);
      }, 120);
    }
  }

  function describe(lane) {
    const { slide, stops, index } = lanes[lane];
    const stop = stops[index];
    const text = stop ? `${momentText(new Date(stop[2]))}, ${stop[3]} events` : "any time";
    slide.setAttribute("aria-valuetext", text);
  }

  function paint() {
    const recorded = lanes.recorded.stops[lanes.recorded.index]?.[0] ?? Infinity;
    const valid = lanes.valid.stops[lanes.valid.index]?.[0] ?? Infinity;
    for (const tick of track.querySelectorAll(".tick")) {
      const isOff = Number(tick.dataset.r) > recorded || Number(tick.dataset.v) > valid;
      tick.classList.toggle("off", isOff);
    }
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.target.closest("input:not([type=range]), select, textarea, dialog")) return;
  const keys = {
    "[": () => place.step?.("recorded", -1),
    "]": () => place.step?.("recorded", 1),
    "{": () => place.step?.("valid", -1),
    "}": () => place.step?.("valid", 1),
    0: () => place.querySelector("[data-now]")?.click(),
    s: () => {
      const commands = place.querySelector("[data-commands]");
      if (commands) {
        commands.open = true;
        commands.scrollIntoView({ block: "nearest" });
      }
    },
    e: () => place.querySelectorAll("[data-json] details").forEach((each) => (each.open = true)),
  };
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});

/** Mark the text that is looked for in the event. */
function highlight() {
  const wanted = place.querySelector("[data-highlight]")?.value.toLowerCase();
  if (!window.CSS?.highlights) return;
  CSS.highlights.delete("found");
  if (!wanted) return;
  const ranges = [];
  for (const json of place.querySelectorAll("[data-json]")) {
    const walker = document.createTreeWalker(json, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.data.toLowerCase();
      for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
        const range = new Range();
        range.setStart(walker.currentNode, at);
        range.setEnd(walker.currentNode, at + wanted.length);
        ranges.push(range);
      }
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

if (place) {
  let count = 0;
  const { name, position, version } = place.dataset;
  follow(
    (from) => `/live/stream?${new URLSearchParams({ name, after: from ?? position })}`,
    {
      events: (data) => {
        if (data.version <= Number(version)) return;
        count = data.version - Number(version);
        const total = document.querySelector("[data-total]");
        total.textContent = `${(data.version + 1).toLocaleString()} events`;
        const address = new URL(location.href);
        const isAtEnd = !["as_of", "valid_at", "from", "at", "q", "type"].some((each) => address.searchParams.has(each));
        if (isAtEnd && scrollY < 200 && place.querySelector("tbody")) {
          load(address.pathname + address.search, false);
        } else {
          const pill = place.querySelector("[data-live-pill]");
          if (pill) {
            pill.hidden = false;
            pill.firstElementChild.textContent = count === 1 ? "1 new event" : `${count} new events`;
          }
        }
      },
    },
    null,
  );
  begin();
}
