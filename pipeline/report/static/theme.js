// Colours as the system has them, light or dark; what was chosen is kept.
"use strict";
(() => {
  const ORDER = ["system", "light", "dark"];
  const WORDS = { system: "as the system has them", light: "light", dark: "dark" };
  const SIGNS = { system: "◐", light: "○", dark: "●" };
  const kept = () => {
    try {
      return localStorage.getItem("maphc2f-theme");
    } catch {
      return null; // a browser may refuse storage to pages on disk
    }
  };
  let theme = ORDER.includes(kept()) ? kept() : "system";
  const apply = () => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };
  apply(); // before anything is painted
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      button.textContent = SIGNS[theme];
      button.setAttribute("aria-label", `Colours: ${WORDS[theme]}`);
      button.title = `Colours: ${WORDS[theme]}`;
    };
    show();
    button.addEventListener("click", () => {
      theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
      try {
        localStorage.setItem("maphc2f-theme", theme);
      } catch {
        // it lasts as long as the page
      }
      apply();
      show();
    });
  });
})();
