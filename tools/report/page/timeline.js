// The timeline: a canvas, so that ten thousand spans stay quick, with the keyboard and a description for what it shows.
const LEFT = 158;
const RULER = 26;
const HEIGHT = { rank: 24, lane: 26, exposed: 11 };
const lanes = $("lanes");
let rows = [];
let rowsHeight = 0;

const fullEnd = () => Math.max(DATA.predicted.ns, DATA.measured ? measuredStep().ns : 0) * 1.01;
const xOf = (ns) => LEFT + ((ns - state.view[0]) / (state.view[1] - state.view[0])) * (lanes.clientWidth - LEFT);
const nsOf = (x) => state.view[0] + ((x - LEFT) / (lanes.clientWidth - LEFT)) * (state.view[1] - state.view[0]);

function layOut() {
  rows = makeRows();
  let y = RULER;
  rows.forEach((row, i) => {
    const next = rows[i + 1];
    const paired = row.label === "" || !next || next.label !== ""; // last of its lane: some air below
    Object.assign(row, { y, h: HEIGHT[row.kind] });
    y += row.h + (row.kind === "lane" ? (paired ? 5 : 2) : row.kind === "exposed" ? (paired ? 8 : 2) : 0);
  });
  rowsHeight = y + 4;
  lanes.style.height = `${rowsHeight}px`;
}

function setView(from, to) {
  const end = fullEnd();
  const width = Math.min(end, Math.max(to - from, end / 20000));
  const begin = Math.min(Math.max(0, from), end - width);
  state.view = [begin, begin + width];
  changed("view");
}
function zoom(factor, at = (state.view[0] + state.view[1]) / 2) {
  setView(at - (at - state.view[0]) * factor, at + (state.view[1] - at) * factor);
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  const width = lanes.clientWidth;
  const height = rowsHeight; // not clientHeight: on paper that follows the width
  lanes.width = Math.round(width * ratio);
  lanes.height = Math.round(height * ratio);
  const c = lanes.getContext("2d");
  const paint = Object.fromEntries(
    ["ink", "soft", "line", "back", "raised", "exposed", "on-forward", ...FAMILY].map((k) => [k, colour(k)]),
  );
  const dim = Number(colour("dim"));
  const font = getComputedStyle(document.body).fontFamily;
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
  drawEnds(c, paint, width, height);
}

// Where the step ends, as predicted and as measured; labels that would meet stand side by side.
function drawEnds(c, paint, width, height) {
  const ends = [["predicted", DATA.predicted.ns]];
  if (DATA.measured) ends.push(["measured", measuredStep().ns]);
  const shown = ends.filter(([name]) => ends.length === 1 || state.show === "both" || state.show === name);
  let free = width;
  for (const [name, ns] of shown.sort((a, b) => b[1] - a[1])) {
    const x = Math.round(xOf(ns)) + 0.5;
    if (x < LEFT || x > width) continue;
    c.strokeStyle = paint.ink;
    c.setLineDash(name === "predicted" ? [2, 3] : []);
    c.beginPath();
    c.moveTo(x, RULER);
    c.lineTo(x, height);
    c.stroke();
    c.setLineDash([]);
    c.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const label = ends.length > 1 ? `${name} ${time(ns)}` : `end ${time(ns)}`;
    const room = c.measureText(label).width + 8;
    const right = Math.min(x, free);
    free = right - room;
    c.fillStyle = paint.back;
    c.fillRect(free, 2, room + 1, RULER - 5);
    c.fillStyle = paint.ink;
    c.fillText(label, free + 4, RULER / 2);
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
    const a = xOf(e[i]);
    const b = Math.max(xOf(e[i + 1]), a + 1);
    if (b < LEFT || a > lanes.clientWidth) continue;
    if (b - a < 3) {
      // too narrow for hatching; fainter where it is less than a pixel
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
    for (let x = Math.max(a, LEFT) - row.h; x < Math.min(b, lanes.clientWidth); x += 4) {
      c.moveTo(x, row.y + row.h);
      c.lineTo(x + row.h, row.y);
    }
    c.stroke();
    c.restore();
  }
}

// What of a row is in view, from left to right. Of the spans that lie within one pixel, the longest stands for all, as
// faint as they leave the pixel empty; selected ones and matches are never left out.
function visible(row, selected) {
  const s = row.source.spans;
  const out = [];
  row.order.forEach((i, place) => {
    const a = xOf(s.begin[i]);
    const b = xOf(s.begin[i] + s.ns[i]);
    if (b < LEFT || a > lanes.clientWidth) return;
    const hidden = (state.matches && !state.matches[s.node[i]]) || (state.criticalOnly && !isCritical(row, i));
    const special = place === selected || (state.matches && !hidden);
    const span = {
      i,
      place,
      a,
      b,
      hidden,
      pixel: b - a < 1 && !special ? Math.floor(a) : -1,
      cover: Math.min(1, b - a),
    };
    const last = out[out.length - 1];
    if (!last || span.pixel < 0 || span.pixel !== last.pixel) return out.push(span);
    const cover = Math.min(1, last.cover + span.cover);
    out[out.length - 1] = Object.assign(b - a > last.b - last.a ? span : last, { cover });
  });
  return out;
}

function drawSpans(c, row, paint, dim, font) {
  const s = row.source.spans;
  const selected = state.selected && state.selected.row === row ? state.selected.at : -1;
  c.fillStyle = paint.raised;
  c.fillRect(LEFT, row.y, lanes.clientWidth, row.h);
  for (const { i, place, a, b, hidden, cover } of visible(row, selected)) {
    const n = s.node[i];
    const family = FAMILY[NODES.family[n]];
    const w = Math.max(b - a - (b - a > 3 ? 0.7 : 0), 1);
    c.globalAlpha = (hidden ? dim : 1) * Math.max(0.25, cover);
    c.fillStyle = paint[family];
    c.fillRect(a, row.y, w, row.h);
    c.globalAlpha = hidden ? dim : 1;
    if (isCritical(row, i)) {
      c.fillStyle = paint.ink;
      c.fillRect(a, row.y + row.h - 3, w, 3);
    }
    if (w > 26) {
      c.font = `11px ${font}`;
      c.fillStyle = family === "forward" ? paint["on-forward"] : "#101418";
      const left = Math.max(a, LEFT);
      const label = fitting(c, n, Math.min(a + w, lanes.clientWidth) - left - 5);
      if (label) c.fillText(label, left + 3, row.y + row.h / 2 - 1);
    }
    c.globalAlpha = 1;
    if (state.matches && !hidden) outline(c, a, row, w, paint.ink, 1.5);
    if (place === selected) outline(c, a, row, w, paint.ink, 3);
  }
}
function outline(c, x, row, w, style, thick) {
  c.strokeStyle = style;
  c.lineWidth = thick;
  c.strokeRect(x + thick / 2, row.y + thick / 2, Math.max(w - thick, 1), row.h - thick);
  c.lineWidth = 1;
}
// The name, without its family where that does not fit, or nothing.
function fitting(c, n, room) {
  const full = nodeName(n);
  const slash = full.indexOf("/");
  for (const text of [full, full.slice(slash + 1), full.slice(slash + 1).replace(/\/.*$/, "")])
    if (c.measureText(text).width <= room) return text;
  return "";
}
