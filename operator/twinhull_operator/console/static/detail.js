// What one opens: the last failover step by step, events, conditions.
import { h } from "/static/dom.js";
import { time } from "/static/format.js";

export function timeline(failover) {
  if (!failover) return h("p", { class: "hint" }, "No failover is known of this module.");
  const span = failover.took || 1;
  return [
    h("p", {}, `To ${failover.node}, `, time(failover.at), `: ${failover.cause || "no cause is known"}. `,
      h("strong", {}, `${failover.took.toFixed(2)} s`), " from the first to the last step."),
    h("ol", { class: "timeline" }, failover.steps.map((step) =>
      h("li", { "--at": String(step.after / span) },
        h("span", { class: "after" }, `+${step.after.toFixed(3)} s`),
        h("span", { class: "track", "aria-hidden": "true" }),
        h("span", { class: "step" }, step.label)))),
  ];
}

export function events(list) {
  if (!list.length) return h("p", { class: "hint" }, "No events yet.");
  return h("ol", { class: "events", tabindex: "0", "aria-label": "Events, newest first" }, list.map((event) =>
    h("li", { class: event.type === "Warning" ? "warning" : "" },
      time(event.time), " ", h("span", { class: "code" }, event.code), " ",
      h("span", { class: "from" }, event.node), " ",
      h("span", { class: "message" }, event.message))));
}

export function conditions(list) {
  return h("ul", { class: "conditions" }, list.map((condition) =>
    h("li", {}, h("span", { class: "code" }, `${condition.type}: ${condition.status}`), " ",
      h("span", { class: "message" }, condition.message))));
}
