// The figures of the overview, live.
import { follow, write } from "./live.js";

follow(() => "/live/overview", { figures: (values) => write(values) }, document.querySelector("[data-live-state]"));
