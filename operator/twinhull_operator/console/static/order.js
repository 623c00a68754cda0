// An order: what it will do, a confirmation, and the answer.
import { ask } from "/static/api.js";
import { h } from "/static/dom.js";

const dialog = document.getElementById("dialog");

// `lost(refused)` is told when the session is over.
export async function openOrder(moduleKey, planKey, lost, say) {
  const opener = document.activeElement;
  dialog.onclose = () => { if (opener && opener.isConnected) opener.focus(); };
  dialog.replaceChildren(h("p", { id: "dialog-title", "aria-busy": "true" }, "Looking what this will do…"));
  dialog.showModal();
  try {
    const query = new URLSearchParams({ module: moduleKey, plan: planKey });
    show(moduleKey, await ask(`/api/plan?${query}`), "", lost, say);
  } catch (refused) {
    fail(refused, lost);
  }
}

function fail(refused, lost) {
  if (refused.status === 401) {
    dialog.close();
    lost(refused);
    return;
  }
  dialog.replaceChildren(h("h2", { id: "dialog-title" }, "That cannot be done"), h("p", { class: "note red", role: "alert" }, refused.message),
    h("div", { class: "buttons" }, closer("Close")));
}

function closer(text) {
  const button = h("button", { type: "button", autofocus: true }, text);
  button.addEventListener("click", () => dialog.close());
  return button;
}

function show(moduleKey, plan, note, lost, say) {
  const name = moduleKey.split("/").slice(1).join("/");
  const why = plan.refusal || plan.forbidden;
  const error = h("p", { class: "note red", role: "alert", hidden: !note }, note);
  const title = h("h2", { id: "dialog-title" }, `${plan.label}: ${name}`);
  const effects = plan.effects.length > 0 && [h("p", {}, "What will happen:"), h("ul", { class: "effects" }, plan.effects.map((text) => h("li", {}, text)))];
  if (why) {
    dialog.replaceChildren(title, h("p", { class: "note orange", role: "alert" }, why), ...(plan.refusal ? [] : [effects].flat().filter(Boolean)),
      h("div", { class: "buttons" }, closer("Close")));
    return;
  }
  const word = plan.confirm && h("input", { id: "confirm", autocomplete: "off", spellcheck: "false", required: true });
  const go = h("button", { type: "submit", class: plan.danger === "loses" ? "primary danger" : "primary" }, plan.label);
  const form = h("form", { method: "dialog" }, title,
    plan.danger === "loses" && h("p", { class: "note red" }, h("strong", {}, "Data may be lost. "), "Do this only if the other node is gone for good, or its data does not matter."),
    plan.danger === "interrupts" && h("p", { class: "note orange" }, "Clients will notice this."),
    plan.danger === "calm" && h("p", { class: "note green" }, "Clients go on being served."),
    effects, word && [h("label", { for: "confirm" }, "Type ", h("strong", {}, plan.confirm), " to go on"), word], error,
    h("div", { class: "buttons" }, closer("Cancel"), go));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      await ask("/api/orders", { module: moduleKey, plan: plan.key, stamp: plan.stamp, confirm: word ? word.value : "" });
      say(`${plan.label} of ${name} was ordered.`);
      dialog.close();
    } catch (refused) {
      if (refused.status === 401) fail(refused, lost);
      else if (refused.fields.plan) show(moduleKey, { ...refused.fields.plan, forbidden: "" }, refused.message, lost, say);
      else { error.textContent = refused.message; error.hidden = false; go.disabled = false; }
    }
  });
  dialog.replaceChildren(form);
  (word || form.querySelector(".buttons button")).focus();
}
