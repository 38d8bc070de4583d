// The comparison: which groups' distributions are shown, and whether masks are outlined.
"use strict";
(() => {
  const WIDTH = 200;
  const HEIGHT = 48;
  const $ = (id) => document.getElementById(id);
  let data = null;

  window.maphc2f = (kind, key, value) => {
    data = value;
    for (const name of ["a", "b"]) $(`choose-${name}`).addEventListener("change", show);
    for (const button of document.querySelectorAll(".cell-button")) {
      button.addEventListener("click", () => {
        $("choose-a").value = button.dataset.a;
        $("choose-b").value = button.dataset.b;
        show();
        $("h-descriptors").scrollIntoView({ block: "start" });
      });
    }
    $("outlines").addEventListener("change", (event) => document.body.classList.toggle("outlined", event.target.checked));
    document.body.classList.toggle("outlined", $("outlines").checked);
    show();
    document.documentElement.dataset.ready = "1";
  };

  const path = (curve, top) => {
    if (!curve.some((value) => value > 0)) return "";
    const points = curve.map((value, k) => `${((WIDTH * k) / (curve.length - 1)).toFixed(1)} ${(HEIGHT * (1 - value / top)).toFixed(1)}`);
    return `M0 ${HEIGHT}L${points.join("L")}L${WIDTH} ${HEIGHT}z`;
  };

  const show = () => {
    const [a, b] = ["a", "b"].map((name) => Number($(`choose-${name}`).value));
    const pair = data.pairs[a][b];
    for (const plot of document.querySelectorAll(".plot")) {
      const number = Number(plot.dataset.plot);
      const curves = [data.curves[0][a][number], data.curves[1][b][number]];
      const top = Math.max(...curves[0], ...curves[1]) || 1;
      plot.querySelector(".curve-a").setAttribute("d", path(curves[0], top));
      plot.querySelector(".curve-b").setAttribute("d", path(curves[1], top));
      const distance = pair.each[number];
      const text = distance === null ? "–" : distance.toFixed(3);
      plot.querySelector(".figure").textContent = text;
      const svg = plot.querySelector("svg");
      svg.setAttribute("aria-label", svg.getAttribute("aria-label").replace(/(, energy distance .*)?$/, `, energy distance ${text}`));
    }
    $("said").textContent = pair.multiple === null ? "too few masks to tell a distance" : `${pair.multiple.toFixed(2)} times the distance of halves; energy distance ${pair.distance.toFixed(3)}`;
    for (const button of document.querySelectorAll(".cell-button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.a) === a && Number(button.dataset.b) === b));
    }
  };
})();
