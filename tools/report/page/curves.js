// Training: small charts of one quantity each over the steps, with one cursor for all.
function curves() {
  const m = DATA.metrics;
  if (!m || m.step.length === 0) return;
  $("training").hidden = false;
  const evaluations = m.evaluations, last = evaluations[evaluations.length - 1];
  const finite = m.loss.filter((v) => v !== null);
  $("training-text").textContent = `${number(m.steps)} steps` + (finite.length ? `, loss ${digits(finite[0])} → ${digits(finite[finite.length - 1])}` : "") +
    (finite.length < m.loss.length ? `, ${m.loss.length - finite.length} of them not finite` : "") + (last ? `, test accuracy ${digits(100 * last.top1)} % on ${number(last.samples)} samples` : "") + ".";
  const at = (key) => evaluations.filter((e) => typeof e[key] === "number").map((e) => [e.step, e[key]]);
  const charts = [
    { title: "Loss", y: m.loss, smooth: true, points: at("eval_loss"), pointName: "evaluation" },
    { title: "Throughput, samples/s", y: m.samples_per_second, smooth: true, fromZero: true },
    { title: "Learning rate", y: m.lr, fromZero: true },
    { title: "Gradient norm", y: m.grad_norm, smooth: true },
  ];
  if (evaluations.length > 0) charts.splice(1, 0, { title: "Test accuracy", y: [], points: at("top1"), pointName: "top-1", fromZero: true });
  const shown = charts.filter((c) => c.y.some((v) => v !== null) || (c.points || []).length > 0);
  const draw = () => {
    $("curves").replaceChildren();
    const figures = shown.map(() => add($("curves"), "figure"));  // all, before the first asks how wide it is
    const moves = shown.map((c, i) => lineChart(figures[i], m.step, c, (s) => moves.forEach((move) => move(s))));
  };
  draw();
  window.addEventListener("resize", draw);
  const fold = add($("training-table"), "details");
  add(fold, "summary", {}, "The same as a table");
  const picks = [...new Set(Array.from({ length: Math.min(20, m.step.length) }, (_, i, a = Math.min(20, m.step.length)) => a === 1 ? 0 : Math.round(i * (m.step.length - 1) / (a - 1))))];
  const cell = (v) => v === null ? "–" : digits(v);
  table(fold, ["Step", "Loss", "Learning rate", "Gradient norm", "Samples/s"],
    picks.map((i) => [number(m.step[i]), cell(m.loss[i]), cell(m.lr[i]), cell(m.grad_norm[i]), cell(m.samples_per_second[i])]), [0, 1, 2, 3, 4]);
  if (evaluations.length > 0) table(fold, ["Evaluated at step", "Loss", "Top-1", "Top-5"], evaluations.map((e) => [number(e.step), digits(Number(e.eval_loss)), digits(e.top1), digits(e.top5)]), [0, 1, 2, 3]);
}

// Exponential mean over about a fortieth of the run.
function smoothed(y) {
  const keep = 1 - 1 / Math.max(1, y.length / 40);
  let mean = null;
  return y.map((v) => v === null ? null : (mean = mean === null ? v : keep * mean + (1 - keep) * v));
}

// Draws one chart; returns what moves its cursor to a step (null: away).
function lineChart(figure, steps, { title, y, smooth, points = [], pointName, fromZero }, hover) {
  const caption = add(figure, "figcaption");
  add(caption, "b", {}, title);
  const value = add(caption, "span");
  const width = Math.max(280, figure.clientWidth), height = 150, left = 46, bottom = 20, top = 8;
  const all = [...y.filter((v) => v !== null), ...points.map((p) => p[1])];
  let low = fromZero ? 0 : Math.min(...all), high = Math.max(...all);
  if (high === low) { low -= Math.abs(low) / 2 || 0.5; high += Math.abs(high) / 2 || 0.5; }
  const room = (high - low) * 0.06;
  high += room;
  if (!fromZero) low -= room;
  const first = steps[0], final = steps[steps.length - 1];
  const X = (s) => left + (final > first ? (s - first) / (final - first) : 0.5) * (width - left - 6), Y = (v) => height - bottom - (v - low) / (high - low) * (height - top - bottom);
  const usual = y.filter((v) => v !== null);
  const svg = add(figure, "svg", { height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${title} over steps ${first} to ${final}` + (usual.length ? `: from ${digits(usual[0])} to ${digits(usual[usual.length - 1])}, lowest ${digits(Math.min(...usual))}, highest ${digits(Math.max(...usual))}` : "") });
  for (const t of ticks(low, high, 3)) {
    if (Y(t) < top - 1) continue;
    add(svg, "line", { class: "axis", x1: left, x2: width, y1: Y(t), y2: Y(t) });
    add(svg, "text", { x: left - 6, y: Y(t) + 4, "text-anchor": "end" }, Math.abs(t) < 1e-12 ? "0" : short(digits(t)));
  }
  for (const t of ticks(first, final, 4)) if (t >= first && t <= final && Number.isInteger(t)) add(svg, "text", { x: X(t), y: height - 4, "text-anchor": "middle" }, number(t));
  const path = (values) => values.reduce((d, v, i) => v === null ? d : `${d}${d && values[i - 1] !== null ? "L" : "M"}${X(steps[i]).toFixed(1)} ${Y(v).toFixed(1)}`, "");
  const mean = smooth && y.length > 40;
  if (usual.length) add(svg, "path", { d: path(y), fill: "none", stroke: "var(--forward)", "stroke-width": mean ? 1 : 1.6, opacity: mean ? 0.35 : 1 });
  if (mean) add(svg, "path", { d: path(smoothed(y)), fill: "none", stroke: "var(--forward)", "stroke-width": 1.8 });
  if (points.length > 1) add(svg, "polyline", { points: points.map(([s, v]) => `${X(s)},${Y(v)}`).join(" "), fill: "none", stroke: "var(--update)", "stroke-dasharray": "3 3" });
  for (const [s, v] of points) add(svg, "circle", { cx: X(s), cy: Y(v), r: 3.5, fill: "var(--update)", stroke: "var(--back)" });
  const cursor = add(svg, "line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
  const lastPoint = points[points.length - 1];
  const rest = () => { value.textContent = (usual.length ? `  ${digits(usual[usual.length - 1])} at the end` : "") + (lastPoint ? `  ${usual.length ? "● " : ""}${pointName} ${digits(lastPoint[1])}` : ""); };
  rest();
  const move = (step) => {
    cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    if (step === null) return rest();
    cursor.setAttribute("x1", X(step));
    cursor.setAttribute("x2", X(step));
    const i = steps.indexOf(step), before = points.filter((p) => p[0] <= step).pop();
    value.textContent = `  step ${number(step)}: ${usual.length && y[i] !== null ? digits(y[i]) : before ? digits(before[1]) : "–"}`;
  };
  svg.addEventListener("pointermove", (e) => {
    const box = svg.getBoundingClientRect(), s = first + ((e.clientX - box.left) * width / box.width - left) / (width - left - 6) * (final - first);
    hover(steps.reduce((best, v) => Math.abs(v - s) < Math.abs(best - s) ? v : best, first));
  });
  svg.addEventListener("pointerleave", () => hover(null));
  return move;
}
