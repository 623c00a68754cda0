// Puts it together: session, stream, list of modules.
import { ask, setCsrf } from "/static/api.js";
import { SHAPES, card } from "/static/card.js";
import { h, morph, morphChildren } from "/static/dom.js";
import { plural, time } from "/static/format.js";
import { showLogin } from "/static/login.js";
import { openOrder } from "/static/order.js";
import { Stream } from "/static/stream.js";

const at = (id) => document.getElementById(id);
const state = { modules: new Map(), loaded: false, filter: "all", text: "", api: null, lost: null, waiting: false };
const WORDS = { green: "protected", orange: "not protected or in transition", red: "not serving" };

function say(text) { at("said").textContent = text; }

function draw() {
  if (state.waiting) return;
  state.waiting = true;
  requestAnimationFrame(() => { state.waiting = false; drawNow(); });
}

function drawNow() {
  const all = [...state.modules.values()].sort((a, b) => `${a.namespace}/${a.name}`.localeCompare(`${b.namespace}/${b.name}`));
  const text = state.text.toLowerCase();
  const shown = all.filter((m) => (state.filter === "all" || m.colour === state.filter) && `${m.namespace}/${m.name}`.toLowerCase().includes(text));
  banner();
  tools(all);
  const place = at("modules");
  place.setAttribute("aria-busy", String(!state.loaded));
  if (!state.loaded) morphChildren(place, [h("p", { class: "empty" }, "Loading the modules…")]);
  else if (!all.length) morphChildren(place, [nothing()]);
  else if (!shown.length) morphChildren(place, [h("p", { class: "empty" }, "No module matches. Choose “All” or clear the search.")]);
  else morphChildren(place, shown.map(card));
  const bad = all.filter((m) => m.colour === "red").length;
  document.title = state.loaded && all.length ? `${bad ? `${SHAPES.red} ${bad} not serving · ` : ""}twinhull` : "twinhull";
}

function nothing() {
  return h("div", { class: "empty" }, h("h2", {}, "No modules"),
    h("p", {}, "There is none yet in the namespaces that the operator keeps, or you may not see any (you need ",
      h("code", {}, "get"), " on ", h("code", {}, "mirrormodules"), " and ", h("code", {}, "farmmodules"), "). The first one:"),
    h("pre", { tabindex: "0" }, "kubectl apply -f examples/postgres-mirror.yaml"));
}

function banner() {
  const parts = [];
  if (state.lost) parts.push(h("p", { class: "note red" }, state.lost.message || "The connection to the console is lost.",
    " What you see is as it was at ", time(state.lost.since / 1000), ". Trying again…"));
  if (state.api && !state.api.reachable) parts.push(h("p", { class: "note orange" }, "The API server does not answer the operator since ", time(state.api.since),
    ". The nodes do not need it: what the sidecars say is live. Orders wait, because nobody can be asked whether you may give them; ",
    "on a node, twinhullctl still does."));
  morphChildren(at("banner"), parts);
  document.body.classList.toggle("stale", Boolean(state.lost));
}

function tools(all) {
  const count = (colour) => all.filter((m) => m.colour === colour).length;
  const chip = (name, label) => h("button", { type: "button", class: `chip ${name}`, "data-filter": name, "aria-pressed": String(state.filter === name) }, label);
  const next = h("div", { id: "tools", hidden: !all.length },
    h("h1", { class: "unseen" }, "Modules"),
    h("div", { class: "chips", role: "group", "aria-label": "Show" },
      chip("all", `All ${all.length}`),
      ["red", "orange", "green"].map((colour) => chip(colour, [h("span", { "aria-hidden": "true" }, `${SHAPES[colour]} `), `${count(colour)} ${WORDS[colour]}`]))),
    h("input", { id: "search", type: "search", placeholder: "Search", "aria-label": "Search modules", autocomplete: "off" }));
  morph(at("tools"), next);
}

function received(module) {
  const before = state.modules.get(module.key);
  state.modules.set(module.key, module);
  if (!before) return;
  if (before.state !== module.state) say(`${module.namespace}/${module.name}: ${module.state}. ${module.why}`);
  for (const order of module.orders) {
    const old = before.orders.find((known) => known.id === order.id);
    if (order.state !== "running" && (!old || old.state === "running")) say(`${order.action} of ${module.name}: ${order.state}. ${order.message}`);
  }
}

const stream = new Stream({
  console(data) { state.api = data.api; state.lost = null; draw(); },
  modules(list) { state.modules = new Map(list.map((m) => [m.key, m])); state.loaded = true; draw(); },
  module(one) { received(one); draw(); },
  gone(key) { state.modules.delete(key); draw(); },
  lost(since, message) { state.lost = { since, message }; draw(); },
  ended(data) { signedOut(data.message); },
});

function signedIn(session) {
  setCsrf(session.csrf);
  at("login").hidden = true;
  at("login").replaceChildren();
  at("who").textContent = session.user;
  at("who").hidden = at("logout").hidden = false;
  state.loaded = false;
  state.lost = null;
  state.modules = new Map();
  drawNow();
  at("main").focus();
  stream.open();
}

function signedOut(message) {
  stream.close();
  setCsrf("");
  if (at("dialog").open) at("dialog").close();
  Object.assign(state, { loaded: false, modules: new Map(), api: null, lost: null });
  banner();
  at("who").hidden = at("logout").hidden = at("tools").hidden = true;
  at("modules").replaceChildren();
  document.title = "twinhull: sign in";
  showLogin(at("login"), message, signedIn);
}

at("logout").addEventListener("click", async () => {
  await ask("/api/logout", {}).catch(() => {});
  signedOut("");
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-plan], button[data-filter]");
  if (!button) return;
  if (button.dataset.filter) { state.filter = button.dataset.filter; draw(); }
  else if (state.lost) say("The connection to the console is lost; orders wait until it is back.");
  else openOrder(button.dataset.module, button.dataset.plan, (refused) => signedOut(refused.message), say);
});
document.addEventListener("input", (event) => {
  if (event.target.id === "search") { state.text = event.target.value; say(""); draw(); }
});

async function start() {
  try {
    const session = await ask("/api/session");
    if (session.user) signedIn(session);
    else signedOut(session.code === "SignedOut" ? "" : session.message);
  } catch (refused) {
    at("modules").replaceChildren(h("p", { class: "empty", role: "alert" }, `${refused.message} Trying again…`));
    setTimeout(start, 3000);
  }
}
start();
