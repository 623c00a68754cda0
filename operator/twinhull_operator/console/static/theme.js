// Before the first paint: the theme that was chosen here, else the system's.
"use strict";
(() => {
  const names = ["auto", "light", "dark"];
  const read = () => {
    try { return localStorage.getItem("twinhull-theme") || "auto"; } catch { return "auto"; }
  };
  const apply = (name) => { document.documentElement.dataset.theme = names.includes(name) ? name : "auto"; };
  apply(read());
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => { button.textContent = `Theme: ${document.documentElement.dataset.theme}`; };
    show();
    button.addEventListener("click", () => {
      const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
      apply(next);
      show();
      try { localStorage.setItem("twinhull-theme", next); } catch { /* only for this page then */ }
    });
  });
})();
