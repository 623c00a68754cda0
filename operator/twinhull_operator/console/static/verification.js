// The comparison of both nodes' files: how far it is, what differs and where.
import { h } from "/static/dom.js";
import { bytes, duration, plural, time } from "/static/format.js";

const WORDS = { running: "comparing", resyncing: "repairing", differs: "DIFFERENT", incomplete: "not to its end", repaired: "repaired", equal: "equal", kept: "last comparison" };

export function verification(known) {
  const running = known.state === "running";
  return h("div", { class: "line verification", "data-key": "verification" }, h("span", { class: "label" }, "Comparison"),
    h("span", { class: "grow" },
      h("strong", { class: known.state === "differs" ? "bad" : "" }, WORDS[known.state]), ` · ${known.text}`, counted(known),
      !running && known.ended ? [" · ended ", time(known.ended), known.begun ? ` after ${duration(known.ended - known.begun)}` : ""] : "",
      running && h("span", { class: "progress" },
        h("progress", { "aria-label": "Comparison of both nodes' files" }),
        h("span", {}, "since ", time(known.begun), known.repair ? ", what differs is repaired" : "")),
      known.differences.length > 0 && h("ul", { class: "differences", tabindex: "0", "aria-label": "What differs" },
        known.differences.map((one) => h("li", {}, h("code", {}, one.place), one.detail ? `: ${one.detail}` : "", one.repaired ? " (repaired)" : "")),
        known.unlisted > 0 && h("li", {}, `and ${known.unlisted} more, not listed`))));
}

function counted(known) {
  return known.files === null ? "" : ` · ${plural(known.files, "file")}, ${bytes(known.bytes)} compared`;
}
