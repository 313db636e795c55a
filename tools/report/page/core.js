// The data, how numbers are written, small helpers for elements, and what all parts of the page share.
const DATA = JSON.parse(document.getElementById("data").textContent);
const NODES = DATA.nodes;
const SUMMARY = DATA.summary;

// What is selected, searched and in view; parts that draw listen with on(), whoever changes it calls changed().
const state = {
  query: "",
  matches: null, // per node: true; null: no search
  selected: null, // {row, at}: a row of the timeline and the place in it
  criticalOnly: false,
  show: "both",
  step: 0,
  page: 0,
  view: [0, 1], // nanoseconds
};
const listeners = [];
const on = (draw) => listeners.push(draw);
const changed = (what) => listeners.forEach((draw) => draw(what));

const $ = (id) => document.getElementById(id);

// Text is always set as text, never as markup: names come from files.
function add(parent, tag, attributes = {}, text) {
  const svg = parent.namespaceURI.endsWith("svg") || tag === "svg";
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value === true) e.setAttribute(name, "");
    else if (value !== false && value !== undefined) e.setAttribute(name, value);
  }
  if (text !== undefined) e.textContent = text;
  parent.append(e);
  return e;
}

const colour = (name) =>
  getComputedStyle(document.documentElement)
    .getPropertyValue("--" + name.replace(/ /g, "-"))
    .trim();

// Three digits: 0.123, 1.23, 12.3, 123.
function digits(v) {
  const a = Math.abs(v);
  if (a === 0) return "0";
  return a >= 1e5 || a < 1e-3
    ? v.toExponential(2)
    : a >= 100
      ? v.toFixed(0)
      : a >= 10
        ? v.toFixed(1)
        : a >= 1
          ? v.toFixed(2)
          : v.toPrecision(3);
}
function scaled(v, units, base) {
  let u = 0;
  while (u + 1 < units.length && Math.abs(v) >= base) {
    v /= base;
    ++u;
  }
  return (u === 0 ? String(Math.round(v)) : digits(v)) + " " + units[u];
}
const bytes = (v) => scaled(v, ["B", "KiB", "MiB", "GiB", "TiB"], 1024);
const count = (v) => scaled(v, ["", "k", "M", "G", "T", "P"], 1000).trim();
const time = (ns) =>
  Math.abs(ns) < 1e3
    ? `${Math.round(ns)} ns`
    : Math.abs(ns) < 1e6
      ? `${digits(ns / 1e3)} µs`
      : Math.abs(ns) < 1e9
        ? `${digits(ns / 1e6)} ms`
        : `${digits(ns / 1e9)} s`;
const percent = (part, whole) =>
  whole > 0 ? (part > 0 && part / whole < 0.0005 ? "< 0.1 %" : `${((100 * part) / whole).toFixed(1)} %`) : "–";
// On axes, where the steps are round: "5 ms", not "5.00 ms".
const short = (text) => text.replace(/(\.\d*?)0+(?=[ e]|$)/, "$1").replace(/\.(?=[ e]|$)/, "");
const number = (v) => v.toLocaleString("en");

// [0, 1, 2, 5] -> "0–2, 5"
function ranges(list) {
  const out = [];
  for (let i = 0; i < list.length;) {
    let k = i;
    while (k + 1 < list.length && list[k + 1] === list[k] + 1) ++k;
    out.push(k === i ? `${list[i]}` : k === i + 1 ? `${list[i]}, ${list[k]}` : `${list[i]}–${list[k]}`);
    i = k + 1;
  }
  return out.join(", ");
}

// An asynchronous operation is shown under its own name where it runs, not its half's.
const nodeName = (n) => (NODES.role[n] === 2 ? NODES.name[n].replace(/\.done$/, "") : NODES.name[n]);

// Round steps for an axis over [low, high].
function ticks(low, high, wanted) {
  const raw = (high - low) / Math.max(1, wanted) || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(v);
  return out;
}

function table(parent, head, rows, numeric = []) {
  const t = add(parent, "table");
  const tr = add(add(t, "thead"), "tr");
  head.forEach((h, i) => add(tr, "th", { scope: "col", class: numeric.includes(i) ? "n" : undefined }, h));
  const body = add(t, "tbody");
  for (const row of rows) {
    const r = add(body, "tr");
    row.forEach((cell, i) => add(r, "td", { class: numeric.includes(i) ? "n" : "w" }, cell));
  }
  return t;
}

function definition(list, term, value) {
  if (value === undefined || value === "") return;
  add(list, "dt", {}, term);
  add(list, "dd", {}, value);
}
