// Times: in the zone of the reader or in UTC, and how long ago they were.
const steps = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "always", style: "short" });
const zoneName = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
let forms = {};

function form(zone) {
  forms[zone] ??= new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "short", day: "numeric",
    hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZone: zone,
  });
  return forms[zone];
}

const isUtc = () => document.documentElement.dataset.zone === "utc";

/** Return a moment as the reader wants to see it. */
export function momentText(date) {
  return isUtc() ? `${form("UTC").format(date)} UTC` : form(zoneName).format(date);
}

function distance(date) {
  const seconds = (date - Date.now()) / 1000;
  if (Math.abs(seconds) >= 86400) return null;
  const [unit, size] = steps.find(([, size]) => Math.abs(seconds) >= size) ?? steps.at(-1);
  return relative.format(Math.round(seconds / size), unit);
}

/** Write all times below an element. */
export function times(place) {
  for (const each of place.querySelectorAll("time[datetime]")) {
    const date = new Date(each.dateTime);
    if (Number.isNaN(date.getTime())) continue;  // a year that scripts do not know: as the server wrote it
    const text = ("relative" in each.dataset && distance(date)) || momentText(date);
    if (each.textContent !== text) each.textContent = text;
    each.title = `${each.dateTime} UTC`.replace("Z UTC", " UTC").replace("T", " ");
  }
  for (const each of place.querySelectorAll("[data-zone-name]")) {
    const other = isUtc() ? "UTC" : zoneName.split("/").at(-1).replaceAll("_", " ");
    each.textContent = other;
  }
}

/** Keep what is relative to now up to date. */
export function watchZone() {
  setInterval(() => document.hidden || times(document), 30000);
}
