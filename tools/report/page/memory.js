// Memory over the step: per tier the bytes in use, stacked by kind, on the timeline's scale; below, what lies there at
// the peak or at the cursor.
const STACK = [
  "parameter",
  "optimizer_state",
  "gradient",
  "gathered",
  "activation",
  "saved",
  "workspace",
  "input",
  "metric",
];
const CHART = { height: 170, top: 16, bottom: 20 };
let memoryPlan = 0;

// When each place of the issue lane begins: as predicted, or as measured where only that is shown. The bytes are the
// same, the plan decides them.
function placeTimes(plan) {
  const step = measuredStep();
  const rank = state.show === "measured" && step.ranks.find((r) => plan.ranks.includes(r.rank));
  if (!rank) return plan.place_ns;
  return plan.place_node.map((n) => rank.spans.begin[indexOfNode(rank.spans, n)]);
}

// A curve with its kinds in stacking order and, for each shown place, their sums from the bottom.
function stacked(curve) {
  const kinds = STACK.map((name) => curve.kinds.find((k) => k.kind === name)).filter(Boolean);
  const sums = curve.place.map(() => [0]);
  for (const k of kinds) k.bytes.forEach((b, p) => sums[p].push(sums[p][sums[p].length - 1] + b));
  return { kinds, sums };
}

function drawMemory() {
  const parent = $("memory-charts");
  const plan = DATA.plans[memoryPlan];
  parent.replaceChildren();
  if (!plan || !plan.memory) return;
  for (const curve of plan.memory) drawTier(parent, plan, curve);
}

// How a tier's chart maps nanoseconds and bytes to pixels.
function scalesOf(width, plan, curve, tier) {
  const { height, top, bottom } = CHART;
  const near = tier.budget > 0 && tier.budget < 2.5 * curve.peak_bytes; // the budget's line is on the chart
  const high = (near ? Math.max(tier.budget, curve.peak_bytes) : curve.peak_bytes) * 1.06;
  const [from, to] = state.view;
  const times = placeTimes(plan);
  const end = state.show === "measured" ? measuredStep().ns : DATA.predicted.ns;
  return {
    near,
    high,
    width,
    y: (b) => height - bottom - (b / high) * (height - top - bottom),
    x: (ns) => LEFT + ((ns - from) / (to - from)) * (width - LEFT),
    ns: (x) => from + ((x - LEFT) / (width - LEFT)) * (to - from),
    at: (p) => (p < curve.place.length ? times[curve.place[p]] : end), // when the p-th shown place begins
  };
}

function drawTier(parent, plan, curve) {
  const tier = SUMMARY.tiers.find((t) => t.name === curve.tier);
  const figure = add(parent, "figure", { class: "tier" });
  const caption = add(figure, "figcaption");
  add(caption, "b", {}, curve.tier);
  caption.append(
    ` peak ${bytes(tier.peak)} (${number(tier.peak)} bytes) at ${nodeName(plan.place_node[curve.peak_place])}` +
      (tier.measured ? `, measured ${bytes(tier.measured)}` : "") +
      (tier.budget ? `, ${percent(tier.peak, tier.budget)} of the budget of ${bytes(tier.budget)}` : ", no budget"),
  );
  const width = Math.max(300, parent.clientWidth);
  const scales = scalesOf(width, plan, curve, tier);
  const svg = add(figure, "svg", {
    height: CHART.height,
    viewBox: `0 0 ${width} ${CHART.height}`,
    role: "img",
    tabindex: 0,
    "aria-label": `${curve.tier} memory over the step by kind; left and right arrow keys move the moment listed below`,
  });
  const clip = `clip-${curve.tier}`;
  const box = { x: LEFT, y: 0, width: width - LEFT, height: CHART.height };
  add(add(svg, "clipPath", { id: clip }), "rect", box);
  const stack = stacked(curve);
  drawAxes(svg, scales);
  drawLayers(add(svg, "g", { "clip-path": `url(#${clip})` }), scales, curve, stack);
  drawBudget(svg, scales, tier);
  const cursor = add(svg, "line", {
    class: "cursor",
    y1: CHART.top - 4,
    y2: CHART.height - CHART.bottom,
    "clip-path": `url(#${clip})`,
  });
  const list = add(figure, "div", { class: "at", "aria-live": "polite" });
  moveCursor(svg, cursor, scales, curve, (p, isPeak) => listAt(list, plan, curve, stack, tier, p, isPeak));
}

function drawAxes(svg, { x, y, high, width }) {
  const unit = 1024 ** Math.floor(Math.log(high) / Math.log(1024));
  for (const t of ticks(0, high / unit, 4).map((t) => t * unit)) {
    if (t > high) continue;
    add(svg, "line", { class: "axis", x1: LEFT, x2: width, y1: y(t), y2: y(t) });
    add(svg, "text", { x: LEFT - 8, y: y(t) + 4, "text-anchor": "end" }, short(bytes(t)));
  }
  for (const t of ticks(state.view[0], state.view[1], (width - LEFT) / 110)) {
    if (x(t) >= LEFT && x(t) < width - 40) add(svg, "text", { x: x(t) + 4, y: CHART.height - 5 }, short(time(t)));
  }
}

// Each kind as a band of steps: a buffer lives from one place to another, nothing lies between.
function drawLayers(parent, { x, y, at }, curve, { kinds, sums }) {
  kinds.forEach((k, layer) => {
    let up = "";
    let down = "";
    for (let p = 0; p < curve.place.length; ++p) {
      const a = x(at(p)).toFixed(1);
      const b = x(at(p + 1)).toFixed(1);
      const low = y(sums[p][layer]).toFixed(1);
      const high = y(sums[p][layer + 1]).toFixed(1);
      up += `L${a} ${high}L${b} ${high}`;
      down = `L${b} ${low}L${a} ${low}${down}`;
    }
    add(parent, "path", { class: "layer", d: `M${up.slice(1)}${down}Z`, fill: `var(--${k.kind})` });
  });
}

function drawBudget(svg, { y, near, width }, tier) {
  if (!tier.budget) return;
  const at = near ? y(tier.budget) : 15;
  if (near) add(svg, "line", { class: "limit", x1: LEFT, x2: width, y1: at, y2: at });
  const text = `budget ${bytes(tier.budget)}${near ? "" : ", above the chart ↑"}`;
  add(svg, "text", { class: "strong", x: width, y: at - 4, "text-anchor": "end" }, text);
}

// Pointer and arrow keys move the cursor; without them it stands at the peak.
function moveCursor(svg, cursor, { x, ns, at, width }, curve, list) {
  const distance = (p) => Math.abs(curve.place[p] - curve.peak_place);
  const peak = curve.place.reduce((best, _, p) => (distance(p) < distance(best) ? p : best), 0);
  let now = peak;
  const show = (p) => {
    now = Math.min(Math.max(0, p), curve.place.length - 1);
    const middle = (x(at(now)) + x(at(now + 1))) / 2;
    cursor.setAttribute("x1", middle);
    cursor.setAttribute("x2", middle);
    list(now, now === peak);
  };
  const placeAt = (clientX) => {
    const box = svg.getBoundingClientRect();
    const moment = ns(((clientX - box.left) * width) / box.width);
    let low = 0;
    while (low + 1 < curve.place.length && at(low + 1) <= moment) ++low;
    return low;
  };
  svg.addEventListener("pointermove", (e) => show(placeAt(e.clientX)));
  svg.addEventListener("pointerleave", () => show(peak));
  svg.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (e.key === "Home" || e.key === "End") show(peak);
    else if (step) show(now + step);
    else return;
    e.preventDefault();
  });
  show(peak);
}

function listAt(parent, plan, curve, { kinds, sums }, tier, p, isPeak) {
  parent.replaceChildren();
  const place = curve.place[p];
  const total = sums[p][kinds.length];
  const left = add(parent, "div");
  const right = add(parent, "div");
  const moment = isPeak ? "At the peak" : `During ${nodeName(plan.place_node[place])}`;
  add(left, "h3", {}, `${moment}: ${bytes(total)}`);
  const t = add(add(left, "table"), "tbody");
  for (const k of [...kinds].reverse()) {
    if (k.bytes[p] === 0) continue;
    const tr = add(t, "tr");
    add(add(tr, "td"), "i", { class: "swatch", style: `background: var(--${k.kind})` });
    add(tr, "td", {}, k.kind.replace("_", " "));
    add(tr, "td", { class: "n" }, bytes(k.bytes[p]));
    add(tr, "td", { class: "n" }, percent(k.bytes[p], total));
  }
  const b = plan.buffers;
  const live = [];
  for (let i = 0; i < b.name.length && live.length < 200; ++i) {
    if (b.tiers[b.tier[i]] === curve.tier && b.birth[i] <= place && place <= b.death[i]) live.push(i);
  }
  add(right, "h3", {}, "Largest buffers");
  const body = add(add(right, "table"), "tbody");
  for (const i of live.slice(0, 8)) {
    const tr = add(body, "tr");
    add(tr, "td", { class: "w" }, b.name[i]);
    add(tr, "td", {}, b.kinds[b.kind[i]].replace("_", " "));
    add(tr, "td", { class: "n" }, bytes(b.bytes[i]));
  }
  const rest = live.length === 200 ? "more than 190" : live.length - 8;
  if (live.length > 8) add(right, "p", { class: "lead" }, `and ${rest} smaller ones`);
  const gaps = tier.peak - curve.peak_bytes;
  if (isPeak && gaps > 0) add(left, "p", { class: "lead" }, `and ${bytes(gaps)} of gaps between buffers`);
}

function memoryTools() {
  if (DATA.plans.length < 2) return;
  const plans = DATA.plans.map((p, i) => [i, ranges(p.ranks), i === 0]).filter(([i]) => DATA.plans[i].memory);
  pickFrom($("memory-tools"), "Ranks ", "memory-ranks", plans, (plan) => {
    memoryPlan = plan;
    drawMemory();
  });
}
