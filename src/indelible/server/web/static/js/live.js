// Server-sent events of a screen: one connection, and only while its tab is seen. Browsers allow
// six per host, so that seven hidden tabs would leave none for the eighth.

/**
 * Follow what a screen shows live.
 *
 * @param {(after: string|null) => string} address the address, given the place to continue from
 * @param {Object<string, (data: any, id: string) => void>} handlers by kind of message
 * @param {HTMLElement|null} status where the state of the connection is told, in words
 */
export function follow(address, handlers, status) {
  let source = null;
  let place = null;
  let isPaused = false;
  let lostAt = null;

  function tell(state, text) {
    if (!status) return;
    status.dataset.state = state;
    const words = { live: "● live", paused: "○ paused" };
    const shown = text ?? words[state];
    if (status.textContent !== shown) status.textContent = shown;
  }

  function open() {
    if (source || isPaused || document.hidden) return;
    source = new EventSource(address(place));
    source.onopen = () => {
      lostAt = null;
      tell("live");
    };
    source.onerror = () => {
      lostAt ??= new Date();
      const since = lostAt.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
      tell("offline", `■ offline since ${since}, trying again`);
      if (source.readyState === EventSource.CLOSED) {
        close();
        setTimeout(open, 5000);
      }
    };
    for (const [kind, handle] of Object.entries(handlers)) {
      source.addEventListener(kind, (event) => {
        if (event.lastEventId) place = event.lastEventId;
        handle(JSON.parse(event.data), event.lastEventId);
      });
    }
    source.addEventListener("failed", (event) => tell("offline", `■ ${JSON.parse(event.data).detail}`));
  }

  function close() {
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
  return {
    pause() {
      isPaused = true;
      close();
      tell("paused");
    },
    resume() {
      isPaused = false;
      open();
    },
    /** Begin again, with another address. */
    restart() {
      place = null;
      close();
      open();
    },
    get isPaused() {
      return isPaused;
    },
  };
}

/** Write numbers into the elements that name them: `data-live="head"`. */
export function write(values, place = document) {
  for (const each of place.querySelectorAll("[data-live]")) {
    const value = values[each.dataset.live];
    if (value !== undefined && each.textContent !== value) each.textContent = value;
  }
}
