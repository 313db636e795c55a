// The timeline: a canvas, so that ten thousand spans stay quick, with the keyboard and a description for what it shows.
const LEFT = 158, RULER = 26;
const HEIGHT = { rank: 24, lane: 26, exposed: 11 };
const lanes = $("lanes");
let rows = [];

const fullEnd = () => Math.max(DATA.predicted.ns, DATA.measured ? measuredStep().ns : 0) * 1.01;
const xOf = (ns) => LEFT + (ns - state.view[0]) / (state.view[1] - state.view[0]) * (lanes.clientWidth - LEFT);
const nsOf = (x) => state.view[0] + (x - LEFT) / (lanes.clientWidth - LEFT) * (state.view[1] - state.view[0]);

function layOut() {
  rows = makeRows();
  let y = RULER;
  rows.forEach((row, i) => {
    const next = rows[i + 1];
    const paired = row.label === "" || !next || next.label !== "";  // last of its lane: some air below
    Object.assign(row, { y, h: HEIGHT[row.kind] });
    y += row.h + (row.kind === "lane" ? (paired ? 5 : 2) : row.kind === "exposed" ? (paired ? 8 : 2) : 0);
  });
  lanes.style.height = `${y + 4}px`;
}

function setView(from, to) {
  const end = fullEnd(), width = Math.min(end, Math.max(to - from, end / 20000));
  const begin = Math.min(Math.max(0, from), end - width);
  state.view = [begin, begin + width];
  changed("view");
}
function zoom(factor, at = (state.view[0] + state.view[1]) / 2) {
  setView(at - (at - state.view[0]) * factor, at + (state.view[1] - at) * factor);
}

function draw() {
  const ratio = window.devicePixelRatio || 1, width = lanes.clientWidth, height = lanes.clientHeight;
  lanes.width = Math.round(width * ratio);
  lanes.height = Math.round(height * ratio);
  const c = lanes.getContext("2d");
  const paint = Object.fromEntries(["ink", "soft", "line", "back", "raised", "exposed", "on-forward", ...FAMILY].map((k) => [k, colour(k)]));
  const dim = Number(colour("dim")), font = getComputedStyle(document.body).fontFamily;
  c.scale(ratio, ratio);
  c.fillStyle = paint.back;
  c.fillRect(0, 0, width, height);
  c.textBaseline = "middle";

  // The ruler and its lines; behind the rows the ends of the step.
  c.font = `11px ${font}`;
  for (const t of ticks(state.view[0], state.view[1], (width - LEFT) / 110)) {
    const x = Math.round(xOf(t)) + 0.5;
    if (x < LEFT || x > width) continue;
    c.fillStyle = paint.line;
    c.fillRect(x, RULER - 4, 1, height);
    c.fillStyle = paint.soft;
    if (x < width - 40) c.fillText(short(time(t)), x + 4, RULER / 2);
  }
  for (const row of rows) drawRow(c, row, paint, dim, width, font);
  const ends = [["predicted", DATA.predicted.ns], ...(DATA.measured ? [["measured", measuredStep().ns]] : [])];
  for (const [name, ns] of ends) {
    const x = xOf(ns);
    if (x < LEFT || x > width || (state.show !== "both" && state.show !== name && DATA.measured)) continue;
    c.strokeStyle = paint.ink;
    c.setLineDash(name === "predicted" ? [2, 3] : []);
    c.beginPath();
    c.moveTo(Math.round(x) + 0.5, RULER);
    c.lineTo(Math.round(x) + 0.5, height);
    c.stroke();
    c.setLineDash([]);
    const label = DATA.measured ? `${name} ${time(ns)}` : `end ${time(ns)}`, room = c.measureText(label).width + 8;
    c.fillStyle = paint.back;
    c.fillRect(x - room, 2, room + 1, RULER - 5);
    c.fillStyle = paint.ink;
    c.fillText(label, x - room + 4, RULER / 2);
  }
}

function drawRow(c, row, paint, dim, width, font) {
  if (row.kind === "rank") {
    c.font = `600 12px ${font}`;
    c.fillStyle = paint.ink;
    c.fillText(row.label, 10, row.y + row.h / 2 + 1);
    return;
  }
  c.font = `11px ${font}`;
  c.fillStyle = paint.soft;
  if (row.label) c.fillText(row.label, 10, row.y + row.h / 2);
  c.font = `10px ${font}`;
  c.textAlign = "right";
  if (row.kind === "lane") c.fillText(row.source.name, LEFT - 8, row.y + row.h / 2);
  c.textAlign = "left";
  c.save();
  c.beginPath();
  c.rect(LEFT, row.y, width - LEFT, row.h);
  c.clip();
  if (row.kind === "exposed") drawExposed(c, row, paint);
  else drawSpans(c, row, paint, dim, font);
  c.restore();
}

function drawExposed(c, row, paint) {
  const e = row.source.exposed;
  c.strokeStyle = paint.exposed;
  for (let i = 0; i < e.length; i += 2) {
    const a = xOf(e[i]), b = Math.max(xOf(e[i + 1]), a + 1);
    if (b < LEFT || a > lanes.clientWidth) continue;
    if (b - a < 3) {  // too narrow for hatching; fainter where it is less than a pixel
      c.globalAlpha = Math.max(0.3, Math.min(1, xOf(e[i + 1]) - a));
      c.fillStyle = paint.exposed;
      c.fillRect(a, row.y + 1, b - a, row.h - 2);
      c.globalAlpha = 1;
      continue;
    }
    c.save();
    c.beginPath();
    c.rect(a, row.y + 1, b - a, row.h - 2);
    c.stroke();
    c.clip();
    c.beginPath();
    for (let x = Math.max(a, LEFT) - row.h; x < Math.min(b, lanes.clientWidth); x += 4) { c.moveTo(x, row.y + row.h); c.lineTo(x + row.h, row.y); }
    c.stroke();
    c.restore();
  }
}

function drawSpans(c, row, paint, dim, font) {
  const s = row.source.spans, selected = state.selected && state.selected.row === row ? state.selected.at : -1;
  c.fillStyle = paint.raised;
  c.fillRect(LEFT, row.y, lanes.clientWidth, row.h);
  let painted = -1;  // right edge in whole pixels: of spans below a pixel one is enough
  row.order.forEach((i, place) => {
    const a = xOf(s.begin[i]), b = xOf(s.begin[i] + s.ns[i]);
    if (b < LEFT || a > lanes.clientWidth) return;
    const n = s.node[i], family = FAMILY[NODES.family[n]];
    const hidden = (state.matches && !state.matches[n]) || (state.criticalOnly && !isCritical(row, i) && row.source.name === "predicted");
    if (b - a < 1 && Math.floor(a) === painted && place !== selected && (!state.matches || hidden)) return;
    painted = Math.floor(b);
    const w = Math.max(b - a - (b - a > 3 ? 0.7 : 0), 1);
    c.globalAlpha = hidden ? dim : 1;
    c.fillStyle = paint[family];
    c.fillRect(a, row.y, w, row.h);
    if (isCritical(row, i)) {
      c.fillStyle = paint.ink;
      c.fillRect(a, row.y + row.h - 3, w, 3);
    }
    if (w > 26) {
      c.font = `11px ${font}`;
      c.fillStyle = family === "forward" ? paint["on-forward"] : "#101418";
      const left = Math.max(a, LEFT), label = fitting(c, n, Math.min(a + w, lanes.clientWidth) - left - 5);
      if (label) c.fillText(label, left + 3, row.y + row.h / 2 - 1);
    }
    c.globalAlpha = 1;
    if (state.matches && !hidden) outline(c, a, row, w, paint.ink, 1.5);
    if (place === selected) outline(c, a, row, w, paint.ink, 3);
  });
}
function outline(c, x, row, w, style, thick) {
  c.strokeStyle = style;
  c.lineWidth = thick;
  c.strokeRect(x + thick / 2, row.y + thick / 2, Math.max(w - thick, 1), row.h - thick);
  c.lineWidth = 1;
}
// The name, without its family where that does not fit, or nothing.
function fitting(c, n, room) {
  const full = nodeName(n), slash = full.indexOf("/");
  for (const text of [full, full.slice(slash + 1), full.slice(slash + 1).replace(/\/.*$/, "")]) if (c.measureText(text).width <= room) return text;
  return "";
}

// ---- Selection, mouse, keyboard.

function spanAt(x, y) {
  const row = rows.find((r) => r.kind === "lane" && y >= r.y && y < r.y + r.h + 2);
  if (!row || x < LEFT) return null;
  const s = row.source.spans;
  let best = null, distance = 4;  // pixels
  row.order.forEach((i, at) => {
    const a = xOf(s.begin[i]), b = xOf(s.begin[i] + s.ns[i]), d = x < a ? a - x : x > b ? x - b : 0;
    if (d < distance || (d === distance && d === 0)) { best = { row, at }; distance = d; }
  });
  return best;
}

function select(selected, reveal = true) {
  state.selected = selected;
  const details = $("details");
  details.replaceChildren();
  if (selected) {
    const s = selected.row.source.spans, i = selected.row.order[selected.at];
    describe(details, selected.row, i);
    const [from, to] = state.view, begin = s.begin[i], end = begin + s.ns[i];
    if (reveal && (end < from || begin > to)) setView((begin + end - to + from) / 2, (begin + end + to - from) / 2);
  }
  changed("selection");
}

// Selects the node where it is seen first; prefers the row's own source and rank.
function selectNode(node, near) {
  const holds = (row) => row.kind === "lane" && row.order.some((i) => row.source.spans.node[i] === node);
  const row = (near && rows.find((r) => holds(r) && r.item === near.item && r.source === near.source)) || rows.find(holds);
  if (row) select({ row, at: row.order.findIndex((i) => row.source.spans.node[i] === node) });
}

function nextMatch(direction) {
  if (!state.matches) return;
  const hits = [];
  rows.forEach((row) => row.order && row.order.forEach((i, at) => { if (state.matches[row.source.spans.node[i]]) hits.push({ row, at }); }));
  if (hits.length === 0) return;
  const now = state.selected ? hits.findIndex((h) => h.row === state.selected.row && h.at === state.selected.at) : -1;
  select(hits[now < 0 ? (direction > 0 ? 0 : hits.length - 1) : (now + direction + hits.length) % hits.length]);
}

function walk(key) {
  const laneRows = rows.filter((r) => r.kind === "lane" && r.order.length > 0);
  if (laneRows.length === 0) return;
  if (!state.selected) return select({ row: laneRows[0], at: 0 });
  const { row, at } = state.selected, s = row.source.spans, i = row.order[at];
  if (key === "ArrowRight") return select({ row, at: Math.min(at + 1, row.order.length - 1) });
  if (key === "ArrowLeft") return select({ row, at: Math.max(at - 1, 0) });
  if (key === "Home") return select({ row, at: 0 });
  if (key === "End") return select({ row, at: row.order.length - 1 });
  if (key === "Enter") { if (s.cause[i] >= 0) selectNode(s.cause[i], row); return; }
  const other = laneRows[laneRows.indexOf(row) + (key === "ArrowDown" ? 1 : -1)];
  if (!other) return;
  const middle = s.begin[i] + s.ns[i] / 2, o = other.source.spans;
  const distance = (k) => Math.abs(o.begin[k] + o.ns[k] / 2 - middle);
  select({ row: other, at: other.order.reduce((best, k, place) => distance(k) < distance(other.order[best]) ? place : best, 0) });
}

function showTip(event, fill) {
  const tip = $("tip");
  tip.replaceChildren();
  fill(tip);
  tip.hidden = false;
  tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 18 + tip.offsetHeight > window.innerHeight ? event.clientY - tip.offsetHeight - 12 : event.clientY + 18}px`;
}
const hideTip = () => { $("tip").hidden = true; };

let drag = null;
lanes.addEventListener("pointerdown", (e) => { drag = { x: e.offsetX, view: [...state.view], moved: false }; lanes.setPointerCapture(e.pointerId); });
lanes.addEventListener("pointermove", (e) => {
  if (drag) {
    const shift = (e.offsetX - drag.x) / (lanes.clientWidth - LEFT) * (drag.view[1] - drag.view[0]);
    drag.moved = drag.moved || Math.abs(e.offsetX - drag.x) > 3;
    if (drag.moved) { hideTip(); setView(drag.view[0] - shift, drag.view[1] - shift); }
    return;
  }
  const hit = spanAt(e.offsetX, e.offsetY);
  if (hit) showTip(e, (tip) => describe(tip, hit.row, hit.row.order[hit.at]));
  else hideTip();
});
lanes.addEventListener("pointerup", (e) => { if (drag && !drag.moved) select(spanAt(e.offsetX, e.offsetY), false); drag = null; });
lanes.addEventListener("pointercancel", () => { drag = null; });
lanes.addEventListener("pointerleave", hideTip);
lanes.addEventListener("dblclick", () => setView(0, fullEnd()));
lanes.addEventListener("wheel", (e) => {
  const all = state.view[1] - state.view[0] >= fullEnd() * 0.999;
  if (all && e.deltaY > 0) return;  // nothing more to zoom out of: the page scrolls
  e.preventDefault();
  const shift = (state.view[1] - state.view[0]) * 0.1 * Math.sign(e.deltaY || e.deltaX);
  if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) setView(state.view[0] + shift, state.view[1] + shift);
  else zoom(Math.exp(Math.max(-60, Math.min(60, e.deltaY)) / 250), nsOf(Math.max(e.offsetX, LEFT)));
}, { passive: false });
lanes.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const keys = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "Enter"];
  const shift = (state.view[1] - state.view[0]) * 0.2;
  if (e.shiftKey && e.key === "ArrowLeft") setView(state.view[0] - shift, state.view[1] - shift);
  else if (e.shiftKey && e.key === "ArrowRight") setView(state.view[0] + shift, state.view[1] + shift);
  else if (keys.includes(e.key)) walk(e.key);
  else return;
  e.preventDefault();
});

// ---- The buttons above, the legend below.

function choice(parent, label, values, current, pick) {
  const group = add(parent, "span", { class: "group", role: "group", "aria-label": label });
  const buttons = values.map(([value, text]) => add(group, "button", { type: "button", "aria-pressed": String(value === current), onclick: () => {
    buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(values[i][0] === value)));
    pick(value);
  } }, text));
}

function rebuild() {
  state.selected = null;
  $("details").replaceChildren();
  layOut();
  setView(...state.view);
}

function timelineTools() {
  const tools = $("timeline-tools");
  if (DATA.measured) {
    choice(tools, "Shown", [["both", "Both"], ["predicted", "Predicted"], ["measured", "Measured"]], "both", (v) => { state.show = v; rebuild(); });
    const steps = DATA.measured.steps;
    state.step = steps.findIndex((s) => s.step === DATA.measured.median_step);
    const pick = add(add(tools, "label", {}, "Measured step "), "select", { id: "step", onchange: (e) => { state.step = Number(e.target.value); rebuild(); } });
    steps.forEach((s, i) => add(pick, "option", { value: i, selected: i === state.step }, `${s.step}, ${time(s.ns)}${i === state.step ? " (median)" : ""}`));
  }
  if (ITEMS.length > RANKS_SHOWN) {
    const pick = add(add(tools, "label", {}, "Ranks "), "select", { id: "ranks", onchange: (e) => { state.page = Number(e.target.value); rebuild(); } });
    for (let p = 0; p * RANKS_SHOWN < ITEMS.length; ++p) add(pick, "option", { value: p }, ranges(ITEMS.slice(p * RANKS_SHOWN, (p + 1) * RANKS_SHOWN).map((i) => i.rank)));
  }
  add(tools, "button", { id: "critical", type: "button", "aria-pressed": "false", onclick: toggleCritical }, "Critical path only");
  const group = add(tools, "span", { class: "group", role: "group", "aria-label": "Zoom" });
  for (const [text, label, act] of [["−", "Zoom out", () => zoom(1.5)], ["+", "Zoom in", () => zoom(1 / 1.5)], ["All", "Show all of the step", () => setView(0, fullEnd())]]) {
    add(group, "button", { type: "button", "aria-label": label, onclick: act }, text);
  }
  const legend = $("timeline-legend"), used = new Set(NODES.family);
  const entry = (style, text, extra = "") => { const e = add(legend, "span"); add(e, "i", { class: `swatch ${extra}`, style }); e.append(text); };
  FAMILY.forEach((f, i) => { if (used.has(i)) entry(`background: var(--${f.replace(/ /g, "-")})`, f); });
  entry("", "critical path", "path");
  entry("", "communication while nothing computes", "hatch");
}
function toggleCritical() {
  state.criticalOnly = !state.criticalOnly;
  $("critical").setAttribute("aria-pressed", String(state.criticalOnly));
  changed("critical");
}
