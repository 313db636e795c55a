// Memory over the step: per tier the bytes in use, stacked by kind, on the timeline's scale; below, what lies there at
// the peak or at the cursor.
const STACK = ["parameter", "optimizer_state", "gradient", "gathered", "activation", "saved", "workspace", "input", "metric"];
const CHART = { height: 170, top: 16, bottom: 20 };
let memoryPlan = 0;

// A curve with its kinds in stacking order and, for each shown place, their sums from the bottom.
function stacked(curve) {
  const kinds = STACK.map((name) => curve.kinds.find((k) => k.kind === name)).filter(Boolean);
  const sums = curve.place.map(() => [0]);
  for (const k of kinds) k.bytes.forEach((b, p) => sums[p].push(sums[p][sums[p].length - 1] + b));
  return { kinds, sums };
}

function drawMemory() {
  const parent = $("memory-charts"), plan = DATA.plans[memoryPlan];
  parent.replaceChildren();
  if (!plan || !plan.memory) return;
  for (const curve of plan.memory) drawTier(parent, plan, curve);
}

function drawTier(parent, plan, curve) {
  const tier = SUMMARY.tiers.find((t) => t.name === curve.tier);
  const figure = add(parent, "figure", { class: "tier" });
  const caption = add(figure, "figcaption");
  add(caption, "b", {}, curve.tier);
  caption.append(` peak ${bytes(tier.peak)} (${number(tier.peak)} bytes) at ${nodeName(plan.place_node[curve.peak_place])}` +
    (tier.measured ? `, measured ${bytes(tier.measured)}` : "") + (tier.budget ? `, ${percent(tier.peak, tier.budget)} of the budget of ${bytes(tier.budget)}` : ", no budget"));
  const width = Math.max(300, parent.clientWidth), { height, top, bottom } = CHART;
  const near = tier.budget > 0 && tier.budget < 2.5 * curve.peak_bytes;
  const high = (near ? Math.max(tier.budget, curve.peak_bytes) : curve.peak_bytes) * 1.06;
  const y = (b) => height - bottom - b / high * (height - top - bottom);
  const x = (ns) => LEFT + (ns - state.view[0]) / (state.view[1] - state.view[0]) * (width - LEFT);
  const end = DATA.predicted.ns, { kinds, sums } = stacked(curve);
  const at = (p) => p < curve.place.length ? plan.place_ns[curve.place[p]] : end;

  const svg = add(figure, "svg", { height, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0,
    "aria-label": `${curve.tier} memory over the step by kind; left and right arrow keys move the moment that is listed below` });
  const clip = `clip-${curve.tier}`;
  add(add(svg, "clipPath", { id: clip }), "rect", { x: LEFT, y: 0, width: width - LEFT, height });
  const unit = 1024 ** Math.floor(Math.log(high) / Math.log(1024));
  for (const t of ticks(0, high / unit, 4)) {
    if (t * unit > high) continue;
    add(svg, "line", { class: "axis", x1: LEFT, x2: width, y1: y(t * unit), y2: y(t * unit) });
    add(svg, "text", { x: LEFT - 8, y: y(t * unit) + 4, "text-anchor": "end" }, short(bytes(t * unit)));
  }
  const layers = add(svg, "g", { "clip-path": `url(#${clip})` });
  kinds.forEach((k, layer) => {
    let up = "", down = "";
    for (let p = 0; p < curve.place.length; ++p) {
      const a = x(at(p)).toFixed(1), b = x(at(p + 1)).toFixed(1);
      up += `L${a} ${y(sums[p][layer + 1]).toFixed(1)}L${b} ${y(sums[p][layer + 1]).toFixed(1)}`;
      down = `L${b} ${y(sums[p][layer]).toFixed(1)}L${a} ${y(sums[p][layer]).toFixed(1)}${down}`;
    }
    add(layers, "path", { class: "layer", d: `M${up.slice(1)}${down}Z`, fill: `var(--${k.kind})` });
  });
  if (near) add(svg, "line", { class: "limit", x1: LEFT, x2: width, y1: y(tier.budget), y2: y(tier.budget) });
  if (tier.budget) add(svg, "text", { class: "strong", x: width, y: near ? y(tier.budget) - 4 : 11, "text-anchor": "end" }, `budget ${bytes(tier.budget)}${near ? "" : ", above the chart ↑"}`);
  for (const t of ticks(state.view[0], state.view[1], (width - LEFT) / 110)) {
    if (x(t) >= LEFT && x(t) < width - 40) add(svg, "text", { x: x(t) + 4, y: height - 5 }, short(time(t)));
  }
  const cursor = add(svg, "line", { class: "cursor", y1: top - 4, y2: height - bottom, "clip-path": `url(#${clip})` });
  const list = add(figure, "div", { class: "at", "aria-live": "polite" });
  const peak = curve.place.reduce((best, place, p) => Math.abs(place - curve.peak_place) < Math.abs(curve.place[best] - curve.peak_place) ? p : best, 0);
  let now = peak;
  const show = (p) => {
    now = Math.min(Math.max(0, p), curve.place.length - 1);
    const middle = (x(at(now)) + x(at(now + 1))) / 2;
    cursor.setAttribute("x1", middle);
    cursor.setAttribute("x2", middle);
    listAt(list, plan, curve, kinds, sums, tier, now, now === peak);
  };
  const placeAt = (clientX) => {
    const box = svg.getBoundingClientRect(), ns = state.view[0] + ((clientX - box.left) * width / box.width - LEFT) / (width - LEFT) * (state.view[1] - state.view[0]);
    let low = 0;
    while (low + 1 < curve.place.length && at(low + 1) <= ns) ++low;
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

function listAt(parent, plan, curve, kinds, sums, tier, p, isPeak) {
  parent.replaceChildren();
  const place = curve.place[p], total = sums[p][kinds.length];
  const left = add(parent, "div"), right = add(parent, "div");
  add(left, "h3", {}, `${isPeak ? "At the peak" : "During"} ${isPeak ? "" : nodeName(plan.place_node[place])}: ${bytes(total)}`.replace(" :", ":"));
  const t = add(add(left, "table"), "tbody");
  kinds.map((k, i) => ({ k, i })).reverse().forEach(({ k }) => {
    if (k.bytes[p] === 0) return;
    const tr = add(t, "tr");
    add(add(tr, "td"), "i", { class: "swatch", style: `background: var(--${k.kind})` });
    add(tr, "td", {}, k.kind.replace("_", " "));
    add(tr, "td", { class: "n" }, bytes(k.bytes[p]));
    add(tr, "td", { class: "n" }, percent(k.bytes[p], total));
  });
  const b = plan.buffers, live = [];
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
  if (live.length > 8) add(right, "p", { class: "lead" }, `and ${live.length === 200 ? "more than 190" : live.length - 8} smaller ones`);
  const gaps = tier.peak - curve.peak_bytes;
  if (isPeak && gaps > 0) add(left, "p", { class: "lead" }, `and ${bytes(gaps)} of gaps between buffers`);
}

function memoryTools() {
  if (DATA.plans.length < 2) return;
  const pick = add(add($("memory-tools"), "label", {}, "Ranks "), "select", { onchange: (e) => { memoryPlan = Number(e.target.value); drawMemory(); } });
  DATA.plans.forEach((p, i) => { if (p.memory) add(pick, "option", { value: i }, ranges(p.ranks)); });
}
