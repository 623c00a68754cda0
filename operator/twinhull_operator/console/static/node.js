// One node's panel.
import { h } from "/static/dom.js";
import { plural, time } from "/static/format.js";

const TONES = {
  Primary: "green", Secondary: "green", Up: "green", Alone: "orange", Syncing: "orange", Draining: "orange",
  Waiting: "orange", Stopped: "red",
};

export function nodePanel(module, node) {
  const silent = node.contact !== "answers";
  const tone = silent ? "grey" : TONES[node.role] || "grey";
  return h("section", { class: `node ${node.stale ? "stale" : ""}`, "data-key": node.name, "aria-label": `Node ${node.name}` },
    h("h3", {},
      h("span", { class: "node-name" }, node.name),
      h("span", { class: `badge ${tone}` }, silent && node.role ? `${node.role}?` : node.role || (node.contact === "asking" ? "asking…" : "silent"))),
    node.contact === "silent" && h("p", { class: "note orange" },
      "The operator cannot reach this sidecar", node.silentSince ? [" since ", time(node.silentSince)] : "", ". ",
      node.byPeer ? `${node.byPeer}. ` : "", node.role ? "Below is what it said last." : ""),
    node.podProblem && h("p", { class: "note orange" }, "Pod: ", node.podProblem),
    h("p", { class: "reason" }, node.reason),
    h("dl", { class: "facts" }, facts(module, node)),
    node.checkers && node.checkers.length > 0 && checkers(node));
}

function facts(module, node) {
  const rows = [];
  const row = (name, ...value) => rows.push(h("div", {}, h("dt", {}, name), h("dd", {}, ...value)));
  if (node.share !== undefined) {
    row("Clients", h("meter", { min: 0, max: 1, value: node.shareRatio, "aria-label": `Share of ${node.name}` }), ` ${node.share}`,
      node.draining ? " · draining" : "");
    row("Connections", String(node.connections));
  }
  if (node.application && node.application.phase) {
    const app = node.application;
    row("Application", app.phase || "–", app.ready ? " · ready" : "", app.restarts ? ` · ${plural(app.restarts, "restart")}` : "",
      app.detail && !app.ready ? h("span", { class: "detail" }, app.detail) : "");
  }
  if (node.holds && module.vips.length > 0) {
    row("Virtual IP", node.holds.length ? { true: "held and announced", false: "held, not announced" }[node.announcing] || "held" : "not held");
  }
  if (node.links && node.links.length > 0) {
    row("Links to peer", node.links.map((link) => h("span", { class: "link" },
      h("span", { class: link.up ? "tick green" : "tick red", "aria-hidden": "true" }, link.up ? "✓" : "✕"),
      ` ${link.name} `, h("span", { class: "unseen" }, link.up ? "up" : "down"))));
  }
  return rows;
}

function checkers(node) {
  return h("ul", { class: "checkers", "aria-label": `Checkers on ${node.name}` }, node.checkers.map((checker) =>
    h("li", {},
      h("span", { class: checker.passing ? "tick green" : "tick red", "aria-hidden": "true" }, checker.passing ? "✓" : "✕"),
      h("span", { class: "unseen" }, checker.passing ? "passing: " : "failing: "), ` ${checker.name}`,
      !checker.passing && checker.detail ? h("span", { class: "detail" }, checker.detail) : "")));
}
