// Signing in with a token.
import { ask } from "/static/api.js";
import { h } from "/static/dom.js";

export function showLogin(place, message, done) {
  const error = h("p", { id: "login-error", class: "note red", role: "alert", hidden: !message }, message || "");
  const input = h("input", {
    id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "login-error token-help",
  });
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const form = h("form", { class: "login" },
    h("h1", {}, "Sign in"),
    h("p", {}, "With a token of this cluster. What you may see and do is what Kubernetes allows its owner."),
    error,
    h("label", { for: "token" }, "Token"),
    input,
    button,
    h("div", { id: "token-help", class: "help" },
      h("p", {}, "For example of a service account that has the role twinhull-viewer or twinhull-operator-user:"),
      h("pre", { tabindex: "0" }, "kubectl create token NAME -n NAMESPACE --duration=8h")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    button.textContent = "Signing in…";
    try {
      const session = await ask("/api/login", { token: input.value });
      input.value = "";
      done(session);
    } catch (refused) {
      error.textContent = refused.message;
      error.hidden = false;
      input.select();
      input.focus();
    } finally {
      button.disabled = false;
      button.textContent = "Sign in";
    }
  });
  place.replaceChildren(form);
  place.hidden = false;
  input.focus();
}
