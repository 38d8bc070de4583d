// The gallery: filters and sorts columns in memory, draws only the rows in view, and reads thumbnails, facts and
// pictures when they are looked at. Text from data reaches the page as text alone, never as HTML.
"use strict";
(() => {
  const MOST_SHEETS = 40; // kept in memory
  const MOST_LOADS = 6; // at once
  const GAP = 10;
  const CAPTION = 22;
  const MARGIN_ROWS = 3; // drawn above and below the view

  const $ = (id) => document.getElementById(id);
  const padded = (number, digits) => String(number).padStart(digits, "0");
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") element.className = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };

  // ---------------------------------------------------------------- data, as scripts hand it over

  const given = new Map();
  const loading = new Map();
  let meta = null;
  let columns = null;
  let loaded = 0;

  window.maphc2f = (kind, key, value) => {
    if (kind === "corpus") begin(value);
    else if (kind === "columns") take(key, value);
    else given.set(`${kind} ${key}`, value);
  };

  const load = (file, kind, key) => {
    const name = `${kind} ${key}`;
    if (given.has(name)) return Promise.resolve(given.get(name));
    if (!loading.has(name)) {
      const promise = new Promise((resolve, reject) => {
        const script = make("script", { src: file });
        script.onload = () => {
          script.remove();
          loading.delete(name);
          resolve(given.get(name));
          while (given.size > 60) given.delete(given.keys().next().value); // memory stays flat
        };
        script.onerror = () => {
          script.remove();
          loading.delete(name);
          reject(new Error(`${file} is missing from this report`));
        };
        document.head.append(script);
      });
      loading.set(name, promise);
    }
    return loading.get(name);
  };

  const unpack = (text) => {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let k = 0; k < raw.length; k++) bytes[k] = raw.charCodeAt(k);
    return bytes;
  };

  const begin = (value) => {
    meta = value;
    columns = {
      category: new Uint16Array(meta.total),
      mechanisms: new Uint16Array(meta.total),
      status: new Uint8Array(meta.total),
      severity: new Uint16Array(meta.total),
      sqe: new Uint16Array(meta.total),
      area: new Float32Array(meta.total),
    };
    meta.detailed = meta.details === "all" ? null : new Set(meta.details);
    fillFilters();
  };

  const take = (number, chunk) => {
    for (const [name, column] of Object.entries(columns)) {
      const bytes = unpack(chunk[name]);
      const type = column.constructor;
      column.set(new type(bytes.buffer, 0, bytes.byteLength / type.BYTES_PER_ELEMENT), number * meta.chunk);
    }
    loaded = number * meta.chunk + chunk.count;
    if (number === 0) start();
  };

  // ---------------------------------------------------------------- filters

  const form = $("filters");
  const numbers = new Intl.NumberFormat("en");
  let view = new Uint32Array(0);

  const fillFilters = () => {
    const add = (select, value, text) => select.append(make("option", { value }, text));
    for (const name of meta.categories) add(form.elements.category, name, name);
    for (const m of meta.mechanisms) add(form.elements.mechanism, m.name, m.title);
    for (const name of meta.statuses) add(form.elements.status, name, name);
    if (!meta.scored) {
      form.querySelector('[data-range="sqe"]').hidden = true;
      for (const option of form.elements.sort.querySelectorAll('[value$="sqe"]')) option.remove();
    }
  };

  const countOptions = () => {
    const by = { category: new Uint32Array(meta.categories.length), status: new Uint32Array(meta.statuses.length) };
    const mechanism = new Uint32Array(meta.mechanisms.length);
    for (let k = 0; k < loaded; k++) {
      by.category[columns.category[k]]++;
      by.status[columns.status[k]]++;
      for (let bit = 0; bit < mechanism.length; bit++) mechanism[bit] += (columns.mechanisms[k] >> bit) & 1;
    }
    const label = (select, counts, text) => {
      [...select.options].slice(1).forEach((option, k) => {
        option.textContent = `${text(k)} (${numbers.format(counts[k])})`;
        option.hidden = !counts[k];
      });
    };
    label(form.elements.category, by.category, (k) => meta.categories[k]);
    label(form.elements.mechanism, mechanism, (k) => meta.mechanisms[k].title);
    label(form.elements.status, by.status, (k) => meta.statuses[k]);
  };

  const bounds = (name) => {
    const from = form.elements[`${name}-from`];
    const to = form.elements[`${name}-to`];
    return [Math.min(+from.value, +to.value), Math.max(+from.value, +to.value)];
  };

  const showRange = (name) => {
    const [low, high] = bounds(name);
    const field = form.querySelector(`[data-range="${name}"]`);
    field.querySelector("output").textContent = low === 0 && high === 100 ? "any" : `${low / 100} – ${high / 100}`;
    const rail = field.querySelector(".rail");
    rail.style.setProperty("--from", `${low}%`);
    rail.style.setProperty("--to", `${high}%`);
  };

  const filter = () => {
    const category = meta.categories.indexOf(form.elements.category.value);
    const mechanism = meta.mechanisms.findIndex((m) => m.name === form.elements.mechanism.value);
    const status = meta.statuses.indexOf(form.elements.status.value);
    const limits = ["severity", "sqe"].map((name) => {
      const [low, high] = bounds(name);
      return [columns[name], (low * meta.steps) / 100, (high * meta.steps) / 100, low > 0 || high < 100];
    });
    const found = new Uint32Array(loaded);
    let count = 0;
    for (let k = 0; k < loaded; k++) {
      if (category >= 0 && columns.category[k] !== category) continue;
      if (mechanism >= 0 && !((columns.mechanisms[k] >> mechanism) & 1)) continue;
      if (status >= 0 && columns.status[k] !== status) continue;
      if (limits.some(([column, low, high, set]) => set && (column[k] < low || column[k] > high))) continue;
      found[count++] = k;
    }
    view = sorted(found.subarray(0, count));
  };

  const sorted = (found) => {
    const [, minus, name] = /^(-?)(.*)$/.exec(form.elements.sort.value);
    if (name === "index") return found;
    const key = columns[name];
    const sign = minus ? -1 : 1;
    return found.sort((a, b) => sign * (key[a] - key[b]) || a - b);
  };

  const refresh = ({ top = true } = {}) => {
    filter();
    const all = loaded === meta.total;
    const text = view.length === meta.total ? `${numbers.format(view.length)} samples` : `${numbers.format(view.length)} of ${numbers.format(meta.total)} samples`;
    $("tally").textContent = all ? text : `${text}; reading the rest …`;
    $("none").hidden = view.length > 0 || !all;
    cursor = Math.min(cursor, Math.max(view.length - 1, 0));
    if (top) cursor = 0;
    layOut();
  };

  const changed = () => {
    for (const name of ["severity", "sqe"]) showRange(name);
    remember();
    refresh();
  };

  // ---------------------------------------------------------------- the address says what is seen

  const remember = (sample = null) => {
    const said = new URLSearchParams();
    for (const name of ["category", "mechanism", "status"]) if (form.elements[name].value) said.set(name, form.elements[name].value);
    for (const name of ["severity", "sqe"]) {
      const [low, high] = bounds(name);
      if (low > 0 || high < 100) said.set(name, `${low / 100}-${high / 100}`);
    }
    if (form.elements.sort.value !== "index") said.set("sort", form.elements.sort.value);
    if (form.elements.outlines.checked) said.set("outlines", "1");
    if (sample !== null) said.set("sample", sample);
    try {
      history.replaceState(null, "", `#${said}`);
    } catch {
      // a browser may refuse it to pages on disk
    }
  };

  const recall = () => {
    const said = new URLSearchParams(location.hash.slice(1));
    for (const name of ["category", "mechanism", "status"]) form.elements[name].value = said.get(name) ?? "";
    form.elements.sort.value = said.get("sort") ?? "index";
    if (form.elements.sort.selectedIndex < 0) form.elements.sort.value = "index";
    for (const name of ["category", "mechanism", "status"]) if (form.elements[name].selectedIndex < 0) form.elements[name].value = "";
    form.elements.outlines.checked = said.has("outlines");
    for (const name of ["severity", "sqe"]) {
      const [low, high] = (said.get(name) ?? "0-1").split("-").map((text) => 100 * parseFloat(text));
      form.elements[`${name}-from`].value = Number.isFinite(low) ? low : 0;
      form.elements[`${name}-to`].value = Number.isFinite(high) ? high : 100;
      showRange(name);
    }
    return said.has("sample") ? Number(said.get("sample")) : null;
  };

  // ---------------------------------------------------------------- the grid

  const grid = $("grid");
  const rows = new Map(); // of cells, by number of the row
  let across = 1;
  let side = 150;
  let cursor = 0; // place in the view that the keys move

  const layOut = () => {
    const width = grid.clientWidth;
    const least = width < 520 ? 104 : 148;
    across = Math.max(2, Math.floor((width + GAP) / (least + GAP)));
    side = (width - (across - 1) * GAP) / across;
    const count = Math.ceil(view.length / across);
    grid.style.height = `${Math.max(0, count * (side + CAPTION + GAP) - GAP)}px`;
    grid.setAttribute("aria-rowcount", count);
    grid.setAttribute("aria-colcount", across);
    for (const row of rows.values()) row.remove();
    rows.clear();
    drawRows();
  };

  const drawRows = () => {
    const height = side + CAPTION + GAP;
    const top = -grid.getBoundingClientRect().top;
    const count = Math.ceil(view.length / across);
    const first = Math.max(0, Math.floor(top / height) - MARGIN_ROWS);
    const last = Math.min(count, Math.ceil((top + innerHeight) / height) + MARGIN_ROWS);
    const keep = Math.floor(cursor / across); // the row that holds the focus stays
    for (const [number, row] of rows) {
      if ((number < first || number >= last) && number !== keep) {
        row.remove();
        rows.delete(number);
      }
    }
    for (let number = first; number < last; number++) if (!rows.has(number)) addRow(number, height);
    if (view.length && !rows.has(keep)) addRow(keep, height);
    pump();
  };

  const addRow = (number, height) => {
    const row = make("div", { class: "row", role: "row", "aria-rowindex": number + 1 });
    row.style.transform = `translateY(${number * height}px)`;
    const stop = Math.min(view.length, (number + 1) * across);
    for (let place = number * across; place < stop; place++) row.append(cellOf(place));
    const after = [...rows.keys()].filter((k) => k > number).sort((a, b) => a - b)[0];
    if (after === undefined) grid.append(row);
    else rows.get(after).before(row); // readers go in the order of the page
    rows.set(number, row);
  };

  const wordsOf = (k) => meta.mechanisms.filter((_, bit) => (columns.mechanisms[k] >> bit) & 1).map((m) => m.name).join(" + ");

  const cellOf = (place) => {
    const k = view[place];
    const ok = meta.statuses[columns.status[k]] === "ok";
    const quality = meta.scored && ok ? (columns.sqe[k] / meta.steps).toFixed(2) : "";
    const canvas = make("canvas", { width: meta.sheet.side, height: meta.sheet.side, "aria-hidden": "true" });
    const caption = make("span", { class: "caption" }, make("span", {}, ok ? wordsOf(k) : meta.statuses[columns.status[k]]), make("span", { class: "figure" }, quality));
    const words = [`sample ${k}`, `${wordsOf(k)} on ${meta.categories[columns.category[k]]}`, quality && `quality ${quality}`, `severity ${(columns.severity[k] / meta.steps).toFixed(2)}`, !ok && `no defect, ${meta.statuses[columns.status[k]]}`];
    const cell = make(
      "button",
      { type: "button", role: "gridcell", class: ok ? "cell" : "cell failed", "aria-colindex": (place % across) + 1, "aria-label": words.filter(Boolean).join(", "), tabindex: place === cursor ? "0" : "-1" },
      canvas,
      caption,
    );
    cell.style.width = `${side}px`;
    cell.style.height = `${side + CAPTION}px`;
    canvas.style.height = `${side}px`;
    cell.dataset.place = place;
    cell.dataset.sample = k;
    return cell;
  };

  // ---------------------------------------------------------------- thumbnails

  const sheets = new Map(); // file -> Image, the one used last at the end
  const underWay = new Set();
  const broken = new Set();
  let drawn = 0;

  const sheetFile = (folder, k) => `data/${folder}/${padded(Math.floor(k / meta.sheet.samples), 5)}.webp`;

  const drawThumbnail = (canvas, k) => {
    const wanted = form.elements.outlines.checked ? ["sheets", "outlines"] : ["sheets"];
    const images = wanted.map((folder) => sheets.get(sheetFile(folder, k)));
    if (images.some((image) => !image)) return false;
    const { samples, across: wide, side: px } = meta.sheet;
    const place = k % samples;
    const context = canvas.getContext("2d");
    for (const image of images) context.drawImage(image, px * (place % wide), px * Math.floor(place / wide), px, px, 0, 0, px, px);
    return true;
  };

  const pump = () => {
    const middle = innerHeight / 2;
    const wanted = [];
    for (const row of rows.values()) {
      const far = Math.abs(row.getBoundingClientRect().top + side / 2 - middle);
      for (const cell of row.children) {
        if (cell.dataset.drawn) continue;
        if (drawThumbnail(cell.firstChild, Number(cell.dataset.sample))) {
          cell.dataset.drawn = "1";
          if (!drawn++) performance.mark("maphc2f-first-picture");
        } else wanted.push([far, Number(cell.dataset.sample)]);
      }
    }
    wanted.sort((a, b) => a[0] - b[0]);
    for (const [, k] of wanted) {
      fetchSheet(sheetFile("sheets", k));
      if (form.elements.outlines.checked) fetchSheet(sheetFile("outlines", k));
    }
  };

  const fetchSheet = (file) => {
    if (underWay.size >= MOST_LOADS || underWay.has(file) || broken.has(file) || sheets.has(file)) return;
    underWay.add(file);
    const image = new Image();
    image.src = file;
    image
      .decode()
      .then(() => sheets.set(file, image))
      .catch(() => broken.add(file))
      .finally(() => {
        underWay.delete(file);
        pump();
        for (const old of sheets.keys()) {
          if (sheets.size <= MOST_SHEETS) break;
          sheets.delete(old);
        }
      });
  };

  // ---------------------------------------------------------------- keys in the grid

  const focusAt = (place) => {
    if (!view.length) return;
    const old = cellAt(cursor);
    if (old) old.tabIndex = -1;
    cursor = Math.max(0, Math.min(view.length - 1, place));
    const height = side + CAPTION + GAP;
    const top = grid.getBoundingClientRect().top + Math.floor(cursor / across) * height;
    const covered = $("tally").getBoundingClientRect().bottom > 0 ? document.querySelector(".top").offsetHeight + 8 : 8;
    if (top < covered) scrollBy(0, top - covered);
    else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight + 8);
    drawRows();
    const cell = cellAt(cursor);
    cell.tabIndex = 0;
    cell.focus({ preventScroll: true });
  };

  const cellAt = (place) => rows.get(Math.floor(place / across))?.children[place % across];

  grid.addEventListener("keydown", (event) => {
    const page = across * Math.max(1, Math.floor(innerHeight / (side + CAPTION + GAP)));
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, PageUp: -page, PageDown: page, Home: -cursor, End: view.length - 1 - cursor };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    focusAt(cursor + steps[event.key]);
  });
  grid.addEventListener("focusin", (event) => {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const old = cellAt(cursor);
    if (old) old.tabIndex = -1;
    cursor = Number(cell.dataset.place);
    cell.tabIndex = 0;
  });
  grid.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) openDetail(Number(cell.dataset.sample));
  });

  // ---------------------------------------------------------------- one sample

  const dialog = $("detail");
  const stage = $("d-stage");
  let opened = -1;
  let zoom = { scale: 1, x: 0, y: 0 };
  let zoomTo = null;
  let moved = false; // the slider, by the user

  const openDetail = (k) => {
    opened = k;
    const place = view.indexOf(k);
    if (place >= 0) cursor = place;
    if (!dialog.open) dialog.showModal();
    remember(k);
    $("d-title").textContent = `${wordsOf(k)} on ${meta.categories[columns.category[k]]}`;
    $("d-previous").disabled = place <= 0;
    $("d-next").disabled = place < 0 || place >= view.length - 1;
    const isDetailed = !meta.detailed || meta.detailed.has(k);
    const chunk = Math.floor(k / meta.facts.samples);
    const facts = load(`data/facts/${padded(chunk, 5)}.js`, "facts", chunk);
    const pictures = isDetailed ? load(`data/details/${padded(k, 7)}.js`, "details", k) : Promise.resolve(null);
    dialog.setAttribute("aria-busy", "true");
    Promise.all([facts, pictures])
      .then(([found, shown]) => {
        if (opened !== k) return;
        const row = k % meta.facts.samples;
        showPictures(k, found, row, shown);
        showFacts(k, found, row);
      })
      .catch((error) => {
        if (opened === k) $("d-facts").replaceChildren(make("p", { class: "bad" }, error.message));
      })
      .finally(() => dialog.setAttribute("aria-busy", "false"));
  };

  const step = (by) => {
    const place = view.indexOf(opened) + by;
    if (opened >= 0 && place >= 0 && place < view.length) openDetail(view[place]);
  };

  const showPictures = (k, found, row, shown) => {
    $("d-tools").hidden = !shown;
    $("d-note").hidden = Boolean(shown);
    $("d-fields").replaceChildren();
    if (!shown) {
      const canvas = make("canvas", { width: meta.sheet.side, height: meta.sheet.side, class: "layer", role: "img", "aria-label": "thumbnail of the result" });
      stage.replaceChildren(canvas);
      const draw = () => drawThumbnail(canvas, k) || (fetchSheet(sheetFile("sheets", k)), setTimeout(draw, 60));
      draw();
      $("d-note").textContent = `Thumbnail only: this report has all pictures of ${numbers.format(meta.detailed.size)} of ${numbers.format(meta.total)} samples. A report with --details ${meta.total} has them of all.`;
      return;
    }
    const box = ["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"].map((name) => found.columns[name][row]);
    zoomTo = { box, side: shown.side };
    $("d-zoom").disabled = box[2] === 0;
    const source = make("img", { class: "layer", src: shown.source, alt: "the photograph" });
    const result = make("div", { class: "half" }, make("img", { class: "layer", src: shown.result, alt: "the result" }));
    const mask = make("img", { class: "layer mask", src: shown.mask, alt: "the mask" });
    stage.replaceChildren(source, result, mask, make("div", { class: "seam", "aria-hidden": "true" }));
    $("d-fields").replaceChildren(...shown.fields.map((field) => fieldFigure(field, shown.side)));
    if (!moved && box[2]) {
      // the whole defect is seen at first, and the seam stands ready beside it
      $("d-slider").value = Math.min(97, Math.max(3, Math.round((100 * box[1]) / shown.side) - 3));
    }
    applyZoom();
    slide();
  };

  const slide = () => {
    stage.style.setProperty("--seam", `${$("d-slider").value}%`);
    $("d-slider").setAttribute("aria-valuetext", `${$("d-slider").value} % photograph`);
  };

  const applyZoom = () => {
    const on = $("d-zoom").checked && zoomTo && zoomTo.box[2] > 0;
    zoom = { scale: 1, x: 0, y: 0 };
    if (on) {
      const [y0, x0, y1, x1] = zoomTo.box.map((v) => v / zoomTo.side);
      const scale = Math.max(2, Math.min(10, 1 / (1.4 * Math.max(y1 - y0, x1 - x0))));
      const shift = (low, high) => Math.max(1 - scale, Math.min(0, 0.5 - (scale * (low + high)) / 2));
      zoom = { scale, x: shift(x0, x1), y: shift(y0, y1) };
    }
    dialog.classList.toggle("zoomed", zoom.scale > 1);
    for (const picture of dialog.querySelectorAll(".layer, .field-picture canvas")) {
      picture.style.transform = `translate(${100 * zoom.x}%, ${100 * zoom.y}%) scale(${zoom.scale})`;
    }
    stage.classList.toggle("masked", $("d-mask").checked);
  };

  const figure = (value) => (value === 0 ? "0" : Math.abs(value) >= 0.001 && Math.abs(value) < 1e5 ? String(+value.toPrecision(3)) : value.toExponential(1));
  const withUnit = (value, unit) => (unit === "1" ? figure(value) : `${figure(value)} ${unit}`);

  const colourAt = (value, peak) => {
    const scale = value < 0 ? meta.colours.below : meta.colours.above;
    const at = 3 * Math.round(peak > 0 ? (255 * Math.abs(value)) / peak : 0);
    return [scale[at], scale[at + 1], scale[at + 2]];
  };

  const fieldFigure = (field, side_px) => {
    const low = Math.min(0, field.low);
    const high = Math.max(0, field.high);
    const peak = Math.max(-low, high);
    const words = `${field.name.replaceAll("_", " ")}: ${field.meaning}; from ${withUnit(low, field.unit)} to ${withUnit(high, field.unit)}`;
    const canvas = make("canvas", { role: "img", "aria-label": words });
    const legend = make("canvas", { class: "legend", width: 256, height: 1, "aria-hidden": "true" });
    const at = make("span", { class: "at", "aria-hidden": "true" });
    const bar = legend.getContext("2d");
    const ramp = bar.createImageData(256, 1);
    for (let k = 0; k < 256; k++) ramp.data.set([...colourAt(low + ((high - low) * k) / 255, peak), 255], 4 * k);
    bar.putImageData(ramp, 0, 0);
    const image = new Image();
    image.onload = () => colourField(canvas, image, field, peak, at, side_px);
    image.src = field.grey;
    return make(
      "figure",
      { class: "field-figure" },
      make("figcaption", {}, make("b", {}, field.name.replaceAll("_", " ")), make("span", { class: "meaning" }, field.meaning)),
      make("div", { class: "field-picture" }, canvas, at),
      legend,
      make("div", { class: "ends" }, make("span", {}, low < 0 ? withUnit(low, field.unit) : "0"), make("span", {}, high > 0 || low === 0 ? withUnit(high, field.unit) : "0")),
    );
  };

  const colourField = (canvas, image, field, peak, at, side_px) => {
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, image.width, image.height);
    const values = new Float32Array(image.width * image.height);
    const table = new Map();
    for (let k = 0; k < values.length; k++) {
      const grey = pixels.data[4 * k];
      values[k] = field.low + ((field.high - field.low) * grey) / 255;
      if (!table.has(grey)) table.set(grey, colourAt(values[k], peak));
      const colour = table.get(grey);
      pixels.data[4 * k] = colour[0];
      pixels.data[4 * k + 1] = colour[1];
      pixels.data[4 * k + 2] = colour[2];
    }
    context.putImageData(pixels, 0, 0);
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const x = Math.min(image.width - 1, Math.floor(((event.clientX - box.left) / box.width) * image.width));
      const y = Math.min(image.height - 1, Math.floor(((event.clientY - box.top) / box.height) * image.height));
      if (x < 0 || y < 0) return;
      const shown = (n) => Math.floor((n * side_px) / image.width);
      at.textContent = `${withUnit(values[y * image.width + x], field.unit)} at ${shown(x)}, ${shown(y)}`;
    });
    canvas.addEventListener("pointerleave", () => at.replaceChildren());
  };

  // ---------------------------------------------------------------- facts and commands

  const factText = (value, unit) => {
    if (typeof value === "boolean") return value ? "yes" : "no";
    if (typeof value !== "number") return String(value);
    const scaled = unit.startsWith("%") ? 100 * value : value;
    const text = Number.isInteger(scaled) ? numbers.format(scaled) : figure(scaled);
    return unit && unit !== "of 0..7" ? `${text}${unit === "°" ? "" : " "}${unit}` : text;
  };

  const factList = (facts, valueOf) => {
    const list = make("dl", { class: "facts" });
    facts.forEach(([name, label, unit], k) => {
      const value = valueOf(name, k);
      if (value === undefined || value === null || value === "" || (name === "donor" && value < 0)) return;
      const text = /sha256|path|index|row|shard|group/.test(name) ? String(value) : factText(value, unit);
      const content = /sha256|path/.test(name) ? make("code", {}, text) : text;
      list.append(make("div", {}, make("dt", {}, label), make("dd", {}, content)));
    });
    return list;
  };

  const command = (text, purpose) => {
    const code = make("code", {}, text);
    const button = make("button", { type: "button", class: "quiet", "aria-label": `Copy: ${text}` }, "copy");
    button.addEventListener("click", () => {
      const chosen = getSelection();
      chosen.selectAllChildren(code);
      const done = () => (button.textContent = "copied");
      navigator.clipboard?.writeText(text).then(done, () => {}); // where it is refused, the text is marked
    });
    return make("div", { class: "command" }, make("span", {}, purpose), code, button);
  };

  const showFacts = (k, found, row) => {
    const sections = meta.facts.sections;
    const id = found.columns.id[row];
    const value = (name) => (name === "index" ? k : found.columns[name][row]);
    const parts = [make("h3", {}, sections.sample.title), factList(sections.sample.facts, value)];
    const defects = found.defects[row];
    defects.forEach((defect, number) => {
      const title = make("h3", {}, defects.length > 1 ? `${sections.defect.title} ${number + 1}` : sections.defect.title);
      if (defect[0] > 0 && defects.length > 1) {
        const colour = meta.instances[(defect[0] - 1) % meta.instances.length];
        const chip = make("span", { class: "chip", "aria-hidden": "true" });
        chip.style.background = `rgb(${colour.join(" ")})`;
        title.prepend(chip);
      }
      parts.push(title, factList(sections.defect.facts, (_, at) => defect[at + 1]));
    });
    const source = found.sources[found.columns.source[row]] ?? [];
    parts.push(make("h3", {}, sections.source.title), factList(sections.source.facts, (_, at) => source[at]));
    const origin = factList(sections.provenance.facts, value);
    origin.prepend(make("div", {}, make("dt", {}, "id"), make("dd", {}, make("code", {}, id))), make("div", {}, make("dt", {}, "root seed"), make("dd", {}, make("code", {}, meta.seed))));
    parts.push(make("h3", {}, sections.provenance.title), origin);
    $("d-facts").replaceChildren(...parts);
    $("d-commands").replaceChildren(
      make("h3", {}, "Make it again"),
      make("p", { class: "note" }, "OUT is the folder of the corpus."),
      command(`maphc2f reproduce OUT ${id}`, "from its plan row alone"),
      ...(found.columns.status[row] === "ok" ? [command(`maphc2f sheet OUT sample.png --sample ${id}`, "as a picture")] : []),
    );
  };

  // ---------------------------------------------------------------- keys and pointers in the detail

  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.type === "range") return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "m" && !$("d-tools").hidden) $("d-mask").click();
    else if (event.key === "z" && !$("d-tools").hidden && !$("d-zoom").disabled) $("d-zoom").click();
  });
  dialog.addEventListener("close", () => {
    if (dialog.open) return; // the event comes late, and another sample is seen already
    const k = opened;
    opened = -1;
    remember();
    const place = view.indexOf(k);
    focusAt(place >= 0 ? place : cursor);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
  $("d-close").addEventListener("click", () => dialog.close());
  $("d-previous").addEventListener("click", () => step(-1));
  $("d-next").addEventListener("click", () => step(1));
  $("d-slider").addEventListener("input", () => {
    moved = true;
    slide();
  });
  $("d-mask").addEventListener("change", applyZoom);
  $("d-zoom").addEventListener("change", applyZoom);
  const drag = (event) => {
    if (!(event.buttons & 1) || $("d-tools").hidden) return;
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    $("d-slider").value = Math.round((100 * (event.clientX - box.left)) / box.width);
    moved = true;
    slide();
  };
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", drag);

  // ---------------------------------------------------------------- search

  const find = async (text) => {
    const wanted = text.trim().toLowerCase();
    form.elements.find.setCustomValidity("");
    if (!wanted) return;
    let k = -1;
    if (/^[0-9a-f]{6,16}$/.test(wanted)) {
      const bytes = unpack(await load("data/ids.js", "ids", 0));
      for (let at = 0; at < meta.total && k < 0; at++) {
        let id = "";
        for (let b = 0; b < 8 && wanted.startsWith(id.slice(0, wanted.length)); b++) id += padded(bytes[8 * at + b].toString(16), 2);
        if (id.length === 16 && id.startsWith(wanted)) k = at;
      }
    }
    if (k < 0 && /^\d+$/.test(wanted) && Number(wanted) < meta.total) k = Number(wanted);
    if (k >= 0) openDetail(k);
    else {
      form.elements.find.setCustomValidity("no sample has this id or number");
      form.elements.find.reportValidity();
    }
  };

  // ---------------------------------------------------------------- start

  const start = () => {
    const sample = recall();
    refresh();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      find(form.elements.find.value);
    });
    form.addEventListener("input", (event) => {
      if (event.target.name === "find") event.target.setCustomValidity("");
      else if (event.target.name === "outlines") {
        remember();
        layOut();
      } else changed();
    });
    form.elements.find.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        find(event.target.value);
      }
    });
    form.addEventListener("reset", () => setTimeout(changed));
    $("clear").addEventListener("click", () => form.reset());
    addEventListener("hashchange", () => {
      const other = recall();
      refresh();
      if (other !== null) openDetail(other);
    });
    let due = false;
    addEventListener("scroll", () => {
      if (due) return;
      due = true;
      requestAnimationFrame(() => {
        due = false;
        drawRows();
      });
    }, { passive: true });
    let width = grid.clientWidth;
    new ResizeObserver(() => {
      if (grid.clientWidth === width) return;
      width = grid.clientWidth;
      layOut();
    }).observe(grid);
    readRest().then(() => {
      countOptions();
      if (loaded > meta.chunk) refresh({ top: false });
      if (sample !== null && sample >= 0 && sample < meta.total) openDetail(sample);
      document.documentElement.dataset.ready = "1";
    });
  };

  const readRest = async () => {
    for (let number = 1; number * meta.chunk < meta.total; number++) {
      await new Promise((resolve, reject) => {
        const script = make("script", { src: `data/columns/${padded(number, 5)}.js` });
        script.onload = resolve;
        script.onerror = () => reject(new Error(`${script.src} is missing from this report`));
        document.head.append(script);
      });
    }
  };
})();
