// What is selected on the timeline, and how mouse, keyboard and buttons change it.
function spanAt(x, y) {
  const row = rows.find((r) => r.kind === "lane" && y >= r.y && y < r.y + r.h + 2);
  if (!row || x < LEFT) return null;
  const s = row.source.spans;
  let best = null;
  let distance = 4; // pixels
  row.order.forEach((i, at) => {
    const a = xOf(s.begin[i]);
    const b = xOf(s.begin[i] + s.ns[i]);
    const d = Math.max(0, a - x, x - b);
    if (d < distance || (d === distance && d === 0)) {
      best = { row, at };
      distance = d;
    }
  });
  return best;
}

function select(selected, reveal = true) {
  state.selected = selected;
  const details = $("details");
  details.replaceChildren();
  if (selected) {
    const s = selected.row.source.spans;
    const i = selected.row.order[selected.at];
    describe(details, selected.row, i);
    const [from, to] = state.view;
    const begin = s.begin[i];
    const end = begin + s.ns[i];
    if (reveal && (end < from || begin > to)) setView((begin + end - to + from) / 2, (begin + end + to - from) / 2);
  }
  changed("selection");
}

// Selects the node where it is seen first; prefers the row's own source and rank.
function selectNode(node, near) {
  const holds = (row) => row.kind === "lane" && row.order.some((i) => row.source.spans.node[i] === node);
  const row =
    (near && rows.find((r) => holds(r) && r.item === near.item && r.source === near.source)) || rows.find(holds);
  if (row) select({ row, at: row.order.findIndex((i) => row.source.spans.node[i] === node) });
}

function nextMatch(direction) {
  if (!state.matches) return;
  const hits = [];
  for (const row of rows.filter((r) => r.kind === "lane")) {
    row.order.forEach((i, at) => {
      if (state.matches[row.source.spans.node[i]]) hits.push({ row, at });
    });
  }
  if (hits.length === 0) return;
  const now = state.selected ? hits.findIndex((h) => h.row === state.selected.row && h.at === state.selected.at) : -1;
  select(hits[now < 0 ? (direction > 0 ? 0 : hits.length - 1) : (now + direction + hits.length) % hits.length]);
}

function walk(key) {
  const laneRows = rows.filter((r) => r.kind === "lane" && r.order.length > 0);
  if (laneRows.length === 0) return;
  if (!state.selected) return select({ row: laneRows[0], at: 0 });
  const { row, at } = state.selected;
  const s = row.source.spans;
  const i = row.order[at];
  if (key === "ArrowRight") return select({ row, at: Math.min(at + 1, row.order.length - 1) });
  if (key === "ArrowLeft") return select({ row, at: Math.max(at - 1, 0) });
  if (key === "Home") return select({ row, at: 0 });
  if (key === "End") return select({ row, at: row.order.length - 1 });
  if (key === "Enter") {
    if (s.cause[i] >= 0) selectNode(s.cause[i], row);
    return;
  }
  const other = laneRows[laneRows.indexOf(row) + (key === "ArrowDown" ? 1 : -1)];
  if (!other) return;
  const middle = s.begin[i] + s.ns[i] / 2;
  const o = other.source.spans;
  const distance = (k) => Math.abs(o.begin[k] + o.ns[k] / 2 - middle);
  select({
    row: other,
    at: other.order.reduce((best, k, place) => (distance(k) < distance(other.order[best]) ? place : best), 0),
  });
}

function showTip(event, fill) {
  const tip = $("tip");
  tip.replaceChildren();
  fill(tip);
  tip.hidden = false;
  tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`;
  const above = event.clientY + 18 + tip.offsetHeight > window.innerHeight;
  tip.style.top = `${above ? event.clientY - tip.offsetHeight - 12 : event.clientY + 18}px`;
}
const hideTip = () => {
  $("tip").hidden = true;
};

let drag = null;
lanes.addEventListener("pointerdown", (e) => {
  drag = { x: e.offsetX, view: [...state.view], moved: false };
  lanes.setPointerCapture(e.pointerId);
});
lanes.addEventListener("pointermove", (e) => {
  if (drag) {
    const shift = ((e.offsetX - drag.x) / (lanes.clientWidth - LEFT)) * (drag.view[1] - drag.view[0]);
    drag.moved = drag.moved || Math.abs(e.offsetX - drag.x) > 3;
    if (drag.moved) {
      hideTip();
      setView(drag.view[0] - shift, drag.view[1] - shift);
    }
    return;
  }
  const hit = spanAt(e.offsetX, e.offsetY);
  if (hit) showTip(e, (tip) => describe(tip, hit.row, hit.row.order[hit.at]));
  else hideTip();
});
lanes.addEventListener("pointerup", (e) => {
  if (drag && !drag.moved) select(spanAt(e.offsetX, e.offsetY), false);
  drag = null;
});
lanes.addEventListener("pointercancel", () => {
  drag = null;
});
lanes.addEventListener("pointerleave", hideTip);
lanes.addEventListener("dblclick", () => setView(0, fullEnd()));
lanes.addEventListener(
  "wheel",
  (e) => {
    const all = state.view[1] - state.view[0] >= fullEnd() * 0.999;
    if (all && e.deltaY > 0) return; // nothing more to zoom out of: the page scrolls
    e.preventDefault();
    const shift = (state.view[1] - state.view[0]) * 0.1 * Math.sign(e.deltaY || e.deltaX);
    if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) setView(state.view[0] + shift, state.view[1] + shift);
    else zoom(Math.exp(Math.max(-60, Math.min(60, e.deltaY)) / 250), nsOf(Math.max(e.offsetX, LEFT)));
  },
  { passive: false },
);
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

// The buttons above, the legend below.

function choice(parent, label, values, current, pick) {
  const group = add(parent, "span", { class: "group", role: "group", "aria-label": label });
  const buttons = values.map(([value, text]) =>
    add(
      group,
      "button",
      {
        type: "button",
        "aria-pressed": String(value === current),
        onclick: () => {
          buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(values[i][0] === value)));
          pick(value);
        },
      },
      text,
    ),
  );
}

function rebuild() {
  state.selected = null;
  $("details").replaceChildren();
  layOut();
  setView(...state.view);
}

function pickFrom(parent, label, id, options, pick) {
  const select = add(add(parent, "label", {}, label), "select", { id });
  options.forEach(([value, text, selected]) => add(select, "option", { value, selected }, text));
  select.addEventListener("change", () => pick(Number(select.value)));
}

function timelineTools() {
  const tools = $("timeline-tools");
  if (DATA.measured) {
    const shown = [
      ["both", "Both"],
      ["predicted", "Predicted"],
      ["measured", "Measured"],
    ];
    choice(tools, "Shown", shown, "both", (value) => {
      state.show = value;
      rebuild();
    });
    const steps = DATA.measured.steps;
    const median = steps.findIndex((s) => s.step === DATA.measured.median_step);
    const named = (s, i) => [i, `${s.step}, ${time(s.ns)}${i === median ? " (median)" : ""}`, i === median];
    state.step = median;
    pickFrom(tools, "Measured step ", "step", steps.map(named), (step) => {
      state.step = step;
      rebuild();
    });
  }
  if (ITEMS.length > RANKS_SHOWN) {
    const pages = [];
    for (let i = 0; i < ITEMS.length; i += RANKS_SHOWN) {
      pages.push([pages.length, ranges(ITEMS.slice(i, i + RANKS_SHOWN).map((item) => item.rank)), i === 0]);
    }
    pickFrom(tools, "Ranks ", "ranks", pages, (page) => {
      state.page = page;
      rebuild();
    });
  }
  const button = { id: "critical", type: "button", "aria-pressed": "false", onclick: toggleCritical };
  add(tools, "button", button, "Critical path only");
  const group = add(tools, "span", { class: "group", role: "group", "aria-label": "Zoom" });
  const zooms = [
    ["−", "Zoom out", () => zoom(1.5)],
    ["+", "Zoom in", () => zoom(1 / 1.5)],
    ["All", "Show all of the step", () => setView(0, fullEnd())],
  ];
  for (const [text, label, act] of zooms) {
    add(group, "button", { type: "button", "aria-label": label, onclick: act }, text);
  }
}

function timelineLegend() {
  const used = new Set(NODES.family);
  const entry = (text, swatch, style) => {
    const e = add($("timeline-legend"), "span");
    add(e, "i", { class: `swatch ${swatch}`, style });
    e.append(text);
  };
  FAMILY.forEach((f, i) => {
    if (used.has(i)) entry(f, "", `background: var(--${f.replace(/ /g, "-")})`);
  });
  entry("critical path", "path");
  entry("communication while nothing computes", "hatch");
}

function toggleCritical() {
  state.criticalOnly = !state.criticalOnly;
  $("critical").setAttribute("aria-pressed", String(state.criticalOnly));
  changed("critical");
}
