"use strict";
(() => {
  // Every text from the data goes in through textContent: a file name is never read as HTML.
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const CLASSES = ["normal", "abnormal"];
  const scores = data.scores;
  const labels = Array.from(data.labels, Number);
  const sorted = [0, 1].map((label) => Float64Array.from(scores.filter((_, i) => labels[i] === label)).sort());
  const both = sorted[0].length > 0 && sorted[1].length > 0;
  const all = Float64Array.from(scores).sort();

  let threshold = data.threshold;

  // ---- small tools ----
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const shape = (parent, tag, attributes, text) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const round = (value, digits) => Number(value.toPrecision(clamp(digits, 1, 17)));
  const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)} %`);

  /** How many of an ascending array are strictly above the cut. */
  const above = (ascending, cut) => {
    let low = 0;
    let high = ascending.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ascending[middle] > cut) high = middle;
      else low = middle + 1;
    }
    return ascending.length - low;
  };
  const outcome = (i) => {
    const alarm = scores[i] > threshold;
    if (labels[i]) return alarm ? "caught" : "missed";
    return alarm ? "false alarm" : "passed";
  };
  const mistaken = (name) => name === "missed" || name === "false alarm";
  /** How far an image lies on the wrong side: negative when it is right. */
  const margin = (i) => (labels[i] ? threshold - scores[i] : scores[i] - threshold);

  /** A tick distance of 1, 2 or 5 times a power of ten. */
  const ticks = (low, high, count) => {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k += 1) found.push(Number((k * step).toPrecision(12)));
    return found;
  };

  // ---- the axis of the scores, as in axis.py: bent where some lie far away ----
  const axis = data.axis;
  const place = (score) => (axis.width ? Math.asinh((score - axis.centre) / axis.width) : score);
  const unplace = (at) => (axis.width ? axis.centre + axis.width * Math.sinh(at) : at);
  const range = [place(axis.low), place(axis.high)];
  const share = (score) => (clamp(place(score), ...range) - range[0]) / (range[1] - range[0]);
  const atShare = (part) => unplace(range[0] + clamp(part, 0, 1) * (range[1] - range[0]));

  /** Digits that tell a score from its neighbours on the chart, also when all lie around 1000. */
  const digits = (score) => {
    const room = axis.width ? 10 * Math.hypot(axis.width, score - axis.centre) : range[1] - range[0];
    return Math.max(5, 4 + Math.ceil(Math.log10(Math.max(Math.abs(score), axis.width ? 0 : Math.max(...range.map(Math.abs))) / room)));
  };
  const short = (value) => String(round(value, digits(value)));

  // ---- intervals: exact ones of all counts came with the data ----
  const interval = (count, of) => (data.upper[of] ? [1 - data.upper[of][of - count], data.upper[of][count]] : null);
  const thousand = (rate) => (1000 * rate).toFixed(rate === 0 || rate >= 0.01 ? 0 : 1);
  const written = (count, of, alarms) => {
    if (!data.upper[of]) return "";
    const [low, high] = interval(count, of);
    return alarms
      ? `${thousand(count / of)} in 1,000 good parts, ${thousand(low)} to ${thousand(high)}`
      : `${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)} %`;
  };

  // ---- distribution ----
  const BINS = 48;
  const histograms = sorted.map((values) => {
    const shares = new Array(BINS).fill(0);
    for (const value of values) {
      shares[clamp(Math.floor(BINS * share(value)), 0, BINS - 1)] += 1 / values.length;
    }
    return shares;
  });
  const distribution = { margin: { left: 44, right: 14, top: 24, bottom: 38 } };

  const drawDistribution = () => {
    const svg = $("distribution");
    svg.replaceChildren();
    const width = svg.clientWidth || 640;
    const height = svg.clientHeight || 290;
    const { left, right, top, bottom } = distribution.margin;
    const tallest = Math.max(...histograms.flat());
    const x = (score) => left + share(score) * (width - left - right);
    const y = (part) => height - bottom - (part / tallest) * (height - top - bottom);
    distribution.x = x;
    distribution.score = (px) => atShare((px - left) / (width - left - right));

    distribution.side = shape(svg, "rect", { class: "side", y: top, height: height - top - bottom });
    distribution.end = width - right;
    for (const part of ticks(0, tallest, 4)) {
      shape(svg, "line", { class: "axis", x1: left, x2: width - right, y1: y(part), y2: y(part) });
      shape(svg, "text", { x: left - 7, y: y(part) + 4, "text-anchor": "end" }, `${round(100 * part, 3)} %`);
    }
    let last = -Infinity;
    for (const score of axis.width ? axis.ticks : ticks(...range, Math.max(3, width / 90))) {
      if (x(score) - last < 52) continue; // one number would run into the other
      last = x(score);
      const text = axis.width ? score.toLocaleString("en", { maximumSignificantDigits: 12 }) : short(score);
      shape(svg, "text", { x: last, y: height - bottom + 17, "text-anchor": "middle" }, text);
    }
    shape(svg, "text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, axis.width ? "anomaly score (far scores are drawn closer together)" : "anomaly score");
    histograms.forEach((shares, label) => {
      let path = `M${left},${y(0)}`;
      shares.forEach((part, bin) => {
        path += `V${y(part).toFixed(1)}H${(left + ((bin + 1) / BINS) * (width - left - right)).toFixed(1)}`;
      });
      if (sorted[label].length) shape(svg, "path", { class: `bar ${CLASSES[label]}`, d: `${path}V${y(0)}Z` });
    });
    const beyond = above(all, axis.high);
    const below = all.length - above(all, axis.low);
    if (beyond) shape(svg, "text", { x: width - right, y: top + 14, "text-anchor": "end" }, `${beyond} beyond ▸`);
    if (below) shape(svg, "text", { x: left + 4, y: top + 14 }, `◂ ${below} below`);
    const stored = x(data.threshold);
    shape(svg, "line", { class: "stored", x1: stored, x2: stored, y1: top, y2: height - bottom });
    distribution.cut = shape(svg, "line", { class: "cut", y1: top, y2: height - bottom });
    distribution.grip = shape(svg, "circle", { class: "grip", cy: height - bottom, r: 6 });
    distribution.label = shape(svg, "text", { class: "cut-label", y: top - 8 });
  };

  const moveCut = () => {
    const px = distribution.x(threshold);
    distribution.side.setAttribute("x", px);
    distribution.side.setAttribute("width", Math.max(0, distribution.end - px));
    distribution.cut.setAttribute("x1", px);
    distribution.cut.setAttribute("x2", px);
    distribution.grip.setAttribute("cx", px);
    distribution.label.setAttribute("x", px);
    distribution.label.setAttribute("text-anchor", px > distribution.end - 70 ? "end" : px < 110 ? "start" : "middle");
    distribution.label.textContent = short(threshold);
  };

  // ---- ROC ----
  const roc = { points: [] };
  if (both) {
    // One point per distinct score, from strict to lax; its cut lies half way to the next lower score.
    const cuts = Array.from(new Set(all)).reverse();
    roc.points.push({ fpr: 0, tpr: 0, cut: cuts[0] });
    cuts.forEach((score, k) => {
      const middle = k + 1 < cuts.length ? score / 2 + cuts[k + 1] / 2 : score - Math.max(1e-9, Math.abs(score) * 1e-6);
      const cut = middle < score ? middle : cuts[k + 1];
      roc.points.push({ fpr: above(sorted[0], cut) / sorted[0].length, tpr: above(sorted[1], cut) / sorted[1].length, cut });
    });
  } else {
    $("roc-panel").remove();
    document.querySelector(".columns").classList.add("alone");
  }

  const drawRoc = () => {
    if (!both) return;
    const svg = $("roc");
    svg.replaceChildren();
    const width = svg.clientWidth || 360;
    const height = svg.clientHeight || 290;
    const size = Math.min(width - 52, height - 52);
    const left = 42 + (width - 52 - size) / 2;
    const top = 10;
    roc.x = (fpr) => left + fpr * size;
    roc.y = (tpr) => top + (1 - tpr) * size;
    for (const rate of [0, 0.25, 0.5, 0.75, 1]) {
      shape(svg, "line", { class: "axis", x1: left, x2: left + size, y1: roc.y(rate), y2: roc.y(rate) });
      shape(svg, "line", { class: "axis", x1: roc.x(rate), x2: roc.x(rate), y1: top, y2: top + size });
      shape(svg, "text", { x: left - 7, y: roc.y(rate) + 4, "text-anchor": "end" }, rate);
      shape(svg, "text", { x: roc.x(rate), y: top + size + 17, "text-anchor": "middle" }, rate);
    }
    shape(svg, "text", { x: left + size / 2, y: top + size + 35, "text-anchor": "middle" }, "false-positive rate");
    const corners = [];
    let last = null;
    for (const p of roc.points) {
      const [px, py] = [roc.x(p.fpr), roc.y(p.tpr)];
      // Points closer than the eye can tell are skipped, except the end.
      if (last && Math.hypot(px - last[0], py - last[1]) < 0.5 && p !== roc.points.at(-1)) continue;
      corners.push(`${px.toFixed(1)},${py.toFixed(1)}`);
      last = [px, py];
    }
    const path = corners.join("L");
    shape(svg, "path", { class: "area", d: `M${path}L${roc.x(1)},${roc.y(0)}Z` });
    shape(svg, "line", { class: "chance", x1: roc.x(0), y1: roc.y(0), x2: roc.x(1), y2: roc.y(1) });
    shape(svg, "path", { class: "curve", d: `M${path}` });
    roc.point = shape(svg, "circle", { class: "point", r: 7 });
  };

  // ---- what the threshold decides ----
  const showDecision = () => {
    const fp = above(sorted[0], threshold);
    const tp = above(sorted[1], threshold);
    const tn = sorted[0].length - fp;
    const fn = sorted[1].length - tp;
    for (const [name, count] of Object.entries({ tn, fp, fn, tp })) {
      document.querySelector(`[data-count="${name}"]`).textContent = count.toLocaleString("en");
    }
    const fpr = sorted[0].length ? fp / sorted[0].length : null;
    const tpr = sorted[1].length ? tp / sorted[1].length : null;
    const precision = both && tp + fp ? tp / (tp + fp) : null;
    const f1 = both ? (2 * tp) / (2 * tp + fp + fn) : null;
    const texts = { fpr: percent(fpr), tpr: percent(tpr), precision: percent(precision), f1: f1 === null ? "–" : f1.toFixed(3) };
    for (const [name, text] of Object.entries(texts)) document.querySelector(`[data-rate="${name}"]`).textContent = text;
    document.querySelector('[data-interval="tpr"]').textContent = written(tp, sorted[1].length, false);
    document.querySelector('[data-interval="fpr"]').textContent = written(fp, sorted[0].length, true);
    showKinds();
    if (both) {
      roc.point.setAttribute("cx", roc.x(fpr));
      roc.point.setAttribute("cy", roc.y(tpr));
    }
  };

  // ---- the same, kind by kind: defects first, good parts below ----
  const kinds = [1, 0].flatMap((label) => {
    const own = data.defects.map((name, k) => ({ name, label, scores: Float64Array.from(scores.filter((_, i) => labels[i] === label && data.defect[i] === k)).sort() }));
    const there = own.filter((kind) => kind.scores.length);
    const whole = { name: label ? "all defects" : "all good parts", label, scores: sorted[label], whole: true };
    return there.length > 1 ? [whole, ...there] : there;
  });
  for (const kind of kinds) {
    kind.track = element("div", { className: `track ${CLASSES[kind.label]}` }, element("i"), element("b"));
    if (!kind.label && data.promised !== null) kind.track.append(element("u"));
    kind.rate = element("span");
    kind.bounds = element("small");
    const counted = element("small", { textContent: `${kind.scores.length.toLocaleString("en")} ${kind.label ? "abnormal" : "normal"}` });
    $("kinds").append(element("tr", { className: kind.whole ? "whole" : "" }, element("th", { scope: "row", textContent: kind.name }, counted), element("td", {}, kind.track), element("td", { className: "number" }, kind.rate, kind.bounds)));
  }
  const showKinds = () => {
    for (const { label, scores: own, track, rate, bounds } of kinds) {
      const count = above(own, threshold);
      const [low, high] = interval(count, own.length) ?? [0, 0];
      const [area, line, promise] = track.children;
      Object.assign(area.style, { left: `${100 * low}%`, right: `${100 - 100 * high}%` });
      line.style.left = `${(100 * count) / own.length}%`;
      if (promise) promise.style.left = `${100 * data.promised}%`;
      rate.textContent = `${label ? "caught" : "false alarms"} ${percent(count / own.length)}`;
      bounds.textContent = written(count, own.length, !label);
    }
  };

  // ---- gallery ----
  const gallery = data.gallery;
  const shuffled = new Map(gallery.map((entry, k) => [entry.row, (k * 2654435761) % 4294967296]));
  const badge = (i) => {
    const name = outcome(i);
    return element("span", { className: `badge ${CLASSES[labels[i]]}${mistaken(name) ? " mistake" : ""}`, textContent: name });
  };
  const filters = {
    all: () => true,
    mistakes: (i) => mistaken(outcome(i)),
    missed: (i) => outcome(i) === "missed",
    "false alarms": (i) => outcome(i) === "false alarm",
    correct: (i) => !mistaken(outcome(i)),
    normal: (i) => !labels[i],
    abnormal: (i) => labels[i] === 1,
  };
  const orders = {
    worst: (a, b) => margin(b) - margin(a),
    misses: (a, b) => labels[b] - labels[a] || scores[a] - scores[b],
    alarms: (a, b) => labels[a] - labels[b] || scores[b] - scores[a],
    high: (a, b) => scores[b] - scores[a],
    low: (a, b) => scores[a] - scores[b],
    random: (a, b) => shuffled.get(a) - shuffled.get(b),
    name: (a, b) => (data.paths[a] < data.paths[b] ? -1 : 1),
  };
  const byRow = new Map(gallery.map((entry) => [entry.row, entry]));
  let shown = [];
  let opened = 0;

  const fillFilter = (select, extra) => {
    for (const name of Object.keys(filters)) select.append(element("option", { value: name, textContent: name }));
    if (extra.length < 2) return;
    const group = element("optgroup", { label: "defect" });
    extra.forEach((defect, k) => group.append(element("option", { value: `defect ${k}`, textContent: defect })));
    select.append(group);
  };
  const passes = (choice) => {
    if (filters[choice]) return filters[choice];
    const number = Number(choice.slice("defect ".length));
    return (i) => data.defect[i] === number;
  };
  const picture = (entry, view) =>
    element("img", { src: entry[view] || entry.image, className: entry.small ? "small" : "", alt: "", decoding: "async" });

  const drawGallery = () => {
    if (!gallery.length) return;
    const checked = document.querySelector('input[name="view"]:checked');
    const view = checked ? checked.value : "image";
    shown = gallery.map((entry) => entry.row).filter(passes($("show").value)).sort(orders[$("sort").value]);
    $("shown").textContent = `${shown.length} shown`;
    const tiles = shown.map((i, position) => {
      const name = data.paths[i];
      const tile = element("button", { type: "button", title: name });
      tile.className = `tile ${CLASSES[labels[i]]}${mistaken(outcome(i)) ? " mistake" : ""}`;
      tile.append(
        picture(byRow.get(i), view),
        element(
          "div",
          {},
          element("span", { className: "name", textContent: name.slice(name.lastIndexOf("/") + 1) }),
          element("span", { className: "line" }, element("span", { textContent: data.defects[data.defect[i]] }), element("span", { textContent: short(scores[i]) })),
          badge(i),
        ),
      );
      tile.addEventListener("click", () => enlarge(position));
      return tile;
    });
    $("tiles").replaceChildren(...tiles);
  };

  const figures = (entry) =>
    ["undamaged", "image", "attention map", "anomaly map", "overlay", "truth", "restored"]
      .filter((view) => entry[view])
      .map((view) => element("figure", { className: view }, picture(entry, view), element("figcaption", { textContent: view })));

  const enlarge = (position) => {
    if (!shown.length) return;
    opened = (position + shown.length) % shown.length;
    const i = shown[opened];
    const entry = byRow.get(i);
    $("large-name").textContent = data.paths[i];
    $("large-facts").replaceChildren(`${data.defects[data.defect[i]]} · ${CLASSES[labels[i]]} · score ${short(scores[i])} · threshold ${short(threshold)} `, badge(i));
    $("large-views").replaceChildren(...figures(entry));
    const zoom = entry.zoom;
    $("zoom-facts").hidden = !zoom;
    $("zoom-views").replaceChildren(...(zoom ? figures(zoom) : []));
    if (zoom) {
      const [top, left, bottom, right] = zoom.place.map((share) => 100 * share);
      const frame = element("i", { className: "frame" });
      Object.assign(frame.style, { top: `${top}%`, left: `${left}%`, height: `${bottom - top}%`, width: `${right - left}%` });
      const whole = $("large-views").querySelector("figure.image img");
      whole.replaceWith(element("div", { className: "framed" }, whole.cloneNode(), frame));
    }
    if (!$("large").open) $("large").showModal();
  };

  if (gallery.length) {
    fillFilter($("show"), data.defects);
    $("tiles").parentElement.addEventListener("change", drawGallery);
    $("previous").addEventListener("click", () => enlarge(opened - 1));
    $("next").addEventListener("click", () => enlarge(opened + 1));
    $("close").addEventListener("click", () => $("large").close());
    $("large").addEventListener("click", (event) => event.target === $("large") && $("large").close());
    $("large").addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") enlarge(opened - 1);
      if (event.key === "ArrowRight") enlarge(opened + 1);
    });
  }

  // ---- table ----
  const PAGE = 100;
  const table = { column: "score", descending: true, page: 0 };
  const cells = {
    path: (i) => data.paths[i],
    defect: (i) => data.defects[data.defect[i]],
    label: (i) => labels[i],
    score: (i) => scores[i],
    outcome,
  };
  const everyone = scores.map((_, i) => i);

  const drawTable = () => {
    const words = $("search").value.toLowerCase();
    const keep = passes($("outcome").value);
    const value = cells[table.column];
    const sign = table.descending ? -1 : 1;
    const found = everyone.filter((i) => keep(i) && (!words || data.paths[i].toLowerCase().includes(words) || cells.defect(i).toLowerCase().includes(words)));
    found.sort((a, b) => sign * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) || a - b);
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    table.page = clamp(table.page, 0, pages - 1);
    const lines = found.slice(table.page * PAGE, (table.page + 1) * PAGE).map((i) =>
      element(
        "tr",
        {},
        element("td", { textContent: data.paths[i] }),
        element("td", { textContent: cells.defect(i) }),
        element("td", { textContent: CLASSES[labels[i]] }),
        element("td", { className: "number", textContent: short(scores[i]), title: String(scores[i]) }),
        element("td", {}, badge(i)),
      ),
    );
    document.querySelector("#table tbody").replaceChildren(...lines);
    $("found").textContent = `${found.length.toLocaleString("en")} of ${scores.length.toLocaleString("en")} images`;
    $("page").textContent = `page ${table.page + 1} of ${pages}`;
    $("back").disabled = table.page === 0;
    $("forward").disabled = table.page + 1 >= pages;
    for (const button of document.querySelectorAll("#table th button")) {
      const own = button.dataset.column === table.column;
      if (own) button.parentElement.setAttribute("aria-sort", table.descending ? "descending" : "ascending");
      else button.parentElement.removeAttribute("aria-sort");
    }
  };
  const turn = (page) => {
    table.page = page;
    drawTable();
  };
  fillFilter($("outcome"), data.defects);
  $("outcome").addEventListener("change", () => turn(0));
  $("search").addEventListener("input", () => turn(0));
  $("back").addEventListener("click", () => turn(table.page - 1));
  $("forward").addEventListener("click", () => turn(table.page + 1));
  for (const button of document.querySelectorAll("#table th button")) {
    button.addEventListener("click", () => {
      const column = button.dataset.column;
      table.descending = column === table.column ? !table.descending : column === "score";
      table.column = column;
      turn(0);
    });
  }

  // ---- the one place where the threshold changes ----
  const STEPS = 1000; // of the slider, along the axis
  let waiting = 0;
  const setThreshold = (value) => {
    if (!Number.isFinite(value)) return;
    threshold = value;
    $("slider").value = STEPS * share(value);
    $("slider").setAttribute("aria-valuetext", short(value));
    if (document.activeElement !== $("exact")) $("exact").value = round(value, digits(value) + 3);
    $("reset").disabled = value === data.threshold;
    moveCut();
    showDecision();
    // Images and table follow once the hand rests: they are hundreds of elements.
    clearTimeout(waiting);
    waiting = setTimeout(settle, 120);
  };
  const settle = () => {
    clearTimeout(waiting);
    drawGallery();
    drawTable();
    const stored = threshold === data.threshold;
    try {
      history.replaceState(null, "", stored ? location.pathname + location.search : `#threshold=${threshold}`);
    } catch {
      // Some viewers embed the page where the address is not theirs to change.
    }
  };
  const fromAddress = () => {
    const match = /^#threshold=(.+)$/.exec(location.hash);
    const value = match ? Number(decodeURIComponent(match[1])) : NaN;
    return Number.isFinite(value) ? value : null;
  };
  /** No more digits than a hand can set: they would only clutter the address. */
  const byHand = (value) => setThreshold(round(value, digits(value)));

  const drag = (svg, set) => {
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      set(event);
    });
    svg.addEventListener("pointermove", (event) => event.buttons && set(event));
  };
  drag($("distribution"), (event) => byHand(distribution.score(event.clientX - $("distribution").getBoundingClientRect().left)));
  if (both) {
    drag($("roc"), (event) => {
      const box = $("roc").getBoundingClientRect();
      const distance = (p) => Math.hypot(roc.x(p.fpr) - event.clientX + box.left, roc.y(p.tpr) - event.clientY + box.top);
      setThreshold(roc.points.reduce((best, p) => (distance(p) < distance(best) ? p : best)).cut);
    });
  }
  Object.assign($("slider"), { min: 0, max: STEPS, step: 1 });
  $("slider").addEventListener("input", () => byHand(atShare($("slider").valueAsNumber / STEPS)));
  $("exact").addEventListener("input", () => setThreshold($("exact").valueAsNumber));
  $("reset").addEventListener("click", () => setThreshold(data.threshold));
  window.addEventListener("hashchange", () => setThreshold(fromAddress() ?? data.threshold));
  for (const link of document.querySelectorAll("nav a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault(); // the fragment belongs to the threshold
      $(link.dataset.section).scrollIntoView();
    });
  }
  const drawCharts = () => {
    drawDistribution();
    drawRoc();
    moveCut();
    showDecision();
  };
  window.addEventListener("resize", drawCharts);

  drawCharts();
  setThreshold(fromAddress() ?? data.threshold);
  settle();
})();
