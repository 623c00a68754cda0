// One module.
import { conditions, events, timeline } from "/static/detail.js";
import { h } from "/static/dom.js";
import { bytes, duration, plural, time } from "/static/format.js";
import { nodePanel } from "/static/node.js";
import { verification } from "/static/verification.js";

export const SHAPES = { green: "●", orange: "▲", red: "■" };

export function card(module) {
  const name = `name-${module.key}`;
  // What has ended well makes room for the module's state, but for the newest order, which somebody waits for.
  const recent = module.orders.filter((entry, index) => index === 0 || entry.state !== "done");
  const earlier = module.orders.filter((entry) => !recent.includes(entry));
  return h("article", { class: `module ${module.colour}`, "data-key": module.key, "aria-labelledby": name },
    h("header", { "data-key": "header" },
      h("h2", { id: name }, h("span", { class: "namespace" }, `${module.namespace} /`), ` ${module.name}`),
      h("span", { class: "kind" }, module.kind === "FarmModule" ? "farm" : "mirror"),
      h("p", { class: "state" }, h("span", { "aria-hidden": "true" }, SHAPES[module.colour]), ` ${module.state}`)),
    module.why && h("p", { class: "why", "data-key": "why" }, module.why),
    module.problems.map((problem, index) => h("p", { class: "note red", "data-key": `problem ${index}` },
      h("strong", {}, problem.field), problem.node ? ` on ${problem.node}` : "", `: ${problem.message}. `, h("em", {}, problem.mend))),
    module.rollout && h("p", { class: "note", "data-key": "rollout" }, "Rollout: ", module.rollout),
    recent.map(order),
    h("div", { class: "lines", "data-key": "lines" }, module.vips.map(vip), module.sync && sync(module.sync), module.verification && verification(module.verification)),
    h("div", { class: "nodes", "data-key": "nodes" }, module.nodes.map((node) => nodePanel(module, node))),
    actions(module),
    h("details", { "data-key": "more" },
      h("summary", {}, "Last failover, events, conditions"),
      h("div", { class: "more" },
        earlier.length > 0 && h("section", { class: "earlier" }, h("h3", {}, "Earlier orders"), earlier.map(order)),
        h("section", {}, h("h3", {}, "Last failover"), timeline(module.failover)),
        h("section", {}, h("h3", {}, "Events"), events(module.events)),
        h("section", {}, h("h3", {}, "Conditions"), conditions(module.conditions)))));
}

function vip(entry) {
  const answers = entry.answers.length;
  return h("p", { class: "line" }, h("span", { class: "label" }, "Virtual IP"),
    h("span", {}, h("strong", {}, entry.address), entry.ports ? ` (${entry.ports})` : "", " ",
      answers === 1 ? `answered by ${entry.answers[0]}`
        : h("strong", { class: "bad" }, answers ? `answered by BOTH: ${entry.answers.join(", ")}` : "nobody answers"),
      entry.problem && h("span", { class: "detail" }, entry.problem)));
}

function sync(state) {
  const progress = state.progress;
  return h("div", { class: "line" }, h("span", { class: "label" }, "Data"),
    h("span", { class: "grow" },
      h("strong", {}, { InSync: "in sync", Syncing: "resynchronising", OutOfSync: "out of sync", Split: "split", Unknown: "unknown" }[state.word] || state.word),
      ` · ${state.text}`,
      progress && h("span", { class: "progress" },
        h("progress", { max: 100, value: progress.percent, "aria-label": "Resynchronisation" }),
        h("span", {}, progress.percent === null ? bytes(progress.done) : `${progress.percent} % · ${bytes(progress.done)} of ${bytes(progress.total)}`,
          progress.filesTotal ? ` · ${progress.filesDone} of ${plural(progress.filesTotal, "file")}` : "",
          progress.rate ? ` · ${bytes(progress.rate)}/s` : "",
          progress.secondsLeft !== null ? ` · about ${duration(progress.secondsLeft)} left` : " · time left not known yet"))));
}

function order(entry) {
  const tones = { running: "blue", done: "green", failed: "red", late: "orange" };
  const words = { running: "…", done: "✓", failed: "✕", late: "?" };
  return h("p", { class: `note order ${tones[entry.state]}`, "data-key": entry.id },
    h("span", { "aria-hidden": "true" }, words[entry.state]), " ",
    h("strong", {}, `${entry.action}${entry.node ? ` (${entry.node})` : ""}`), ` ordered by ${entry.user} `, time(entry.given), ": ",
    { running: "", done: "done", failed: "FAILED: ", late: "no end yet: " }[entry.state],
    entry.state === "done" ? (entry.message && entry.message !== "done" ? `, ${entry.message}` : "") : entry.message,
    entry.ended ? ` (${duration(entry.ended - entry.given)})` : "");
}

function actions(module) {
  const usual = module.plans.filter((plan) => plan.action !== "force-primary");
  const forced = module.plans.filter((plan) => plan.action === "force-primary");
  const button = (plan, kind) => h("button", {
    type: "button", class: kind, "data-key": plan.key, "data-module": module.key, "data-plan": plan.key,
    "data-refused": plan.refusal ? "true" : null, title: plan.refusal || null,
  }, `${plan.label}${plan.refusal ? "" : "…"}`, plan.refusal && h("span", { class: "unseen" }, " (not possible now)"));
  return [
    h("div", { class: "actions", "data-key": "actions", role: "group", "aria-label": `Orders for ${module.name}` }, usual.map((plan) => button(plan, ""))),
    forced.length > 0 && h("div", { class: "actions force", "data-key": "force", role: "group", "aria-label": `Emergency orders for ${module.name}` },
      h("span", { class: "hint" }, "If you know better than the nodes:"), forced.map((plan) => button(plan, "danger"))),
  ];
}
