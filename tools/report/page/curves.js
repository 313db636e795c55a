// Training: small charts of one quantity each over the steps, with one cursor for all.
function curves() {
  const m = DATA.metrics;
  if (!m || m.step.length === 0) return;
  $("training").hidden = false;
  const evaluations = m.evaluations;
  const last = evaluations[evaluations.length - 1];
  // The task's values, as the run wrote them: top1, top5, or dice, iou, ..., or ap, ap50, ... The first is the main one.
  const values = last ? Object.keys(last).filter((key) => !["step", "eval_loss", "samples"].includes(key)) : [];
  const finite = m.loss.filter((v) => v !== null);
  $("training-text").textContent =
    `${number(m.steps)} steps` +
    (finite.length ? `, loss ${digits(finite[0])} → ${digits(finite[finite.length - 1])}` : "") +
    (finite.length < m.loss.length ? `, ${m.loss.length - finite.length} of them not finite` : "") +
    (last && values.length ? `, ${values[0]} ${digits(Number(last[values[0]]))} on ${number(last.samples)} test samples` : "") +
    ".";
  const at = (key) => evaluations.filter((e) => typeof e[key] === "number").map((e) => [e.step, e[key]]);
  const charts = [
    { title: "Loss", y: m.loss, smooth: true, points: at("eval_loss"), pointName: "evaluation" },
    { title: "Throughput, samples/s", y: m.samples_per_second, smooth: true, fromZero: true },
    { title: "Learning rate", y: m.lr, fromZero: true },
    { title: "Gradient norm", y: m.grad_norm, smooth: true },
  ];
  if (values.length > 0)
    charts.splice(1, 0, { title: "Evaluation", y: [], points: at(values[0]), pointName: values[0], fromZero: true });
  const shown = charts.filter((c) => c.y.some((v) => v !== null) || (c.points || []).length > 0);
  const draw = () => {
    $("curves").replaceChildren();
    const figures = shown.map(() => add($("curves"), "figure")); // all, before the first asks how wide it is
    const moves = shown.map((c, i) => lineChart(figures[i], m.step, c, (s) => moves.forEach((move) => move(s))));
  };
  draw();
  window.addEventListener("resize", draw);
  const fold = add($("training-table"), "details");
  add(fold, "summary", {}, "The same as a table");
  const picks = [
    ...new Set(
      Array.from({ length: Math.min(20, m.step.length) }, (_, i, a = Math.min(20, m.step.length)) =>
        a === 1 ? 0 : Math.round((i * (m.step.length - 1)) / (a - 1)),
      ),
    ),
  ];
  const cell = (v) => (v === null ? "–" : digits(v));
  table(
    fold,
    ["Step", "Loss", "Learning rate", "Gradient norm", "Samples/s"],
    picks.map((i) => [
      number(m.step[i]),
      cell(m.loss[i]),
      cell(m.lr[i]),
      cell(m.grad_norm[i]),
      cell(m.samples_per_second[i]),
    ]),
    [0, 1, 2, 3, 4],
  );
  if (evaluations.length > 0)
    table(
      fold,
      ["Evaluated at step", "Loss", ...values],
      evaluations.map((e) => [number(e.step), digits(Number(e.eval_loss)), ...values.map((v) => digits(Number(e[v])))]),
      [0, 1, ...values.map((_, i) => i + 2)],
    );
}

// Exponential mean over about a fortieth of the run.
function smoothed(y) {
  const keep = 1 - 1 / Math.max(1, y.length / 40);
  let mean = null;
  return y.map((v) => (v === null ? null : (mean = mean === null ? v : keep * mean + (1 - keep) * v)));
}

// How a chart maps steps and values to pixels.
const CURVE = { height: 150, left: 46, right: 6, bottom: 20, top: 8 };
function curveScales(width, steps, values, fromZero) {
  let low = fromZero ? 0 : Math.min(...values);
  let high = Math.max(...values);
  if (high === low) {
    low -= Math.abs(low) / 2 || 0.5;
    high += Math.abs(high) / 2 || 0.5;
  }
  const room = (high - low) * 0.06;
  high += room;
  if (!fromZero) low -= room;
  const first = steps[0];
  const last = steps[steps.length - 1];
  const wide = width - CURVE.left - CURVE.right;
  const tall = CURVE.height - CURVE.top - CURVE.bottom;
  return {
    low,
    high,
    first,
    last,
    width,
    x: (s) => CURVE.left + (last > first ? (s - first) / (last - first) : 0.5) * wide,
    y: (v) => CURVE.height - CURVE.bottom - ((v - low) / (high - low)) * tall,
    step: (x) => first + ((x - CURVE.left) / wide) * (last - first),
  };
}

function curveAxes(svg, { low, high, first, last, width, x, y }) {
  for (const t of ticks(low, high, 3)) {
    if (y(t) < CURVE.top - 1) continue;
    const text = Math.abs(t) < 1e-12 ? "0" : short(digits(t));
    add(svg, "line", { class: "axis", x1: CURVE.left, x2: width, y1: y(t), y2: y(t) });
    add(svg, "text", { x: CURVE.left - 6, y: y(t) + 4, "text-anchor": "end" }, text);
  }
  for (const t of ticks(first, last, 4)) {
    if (t < first || t > last || !Number.isInteger(t)) continue;
    add(svg, "text", { x: x(t), y: CURVE.height - 4, "text-anchor": "middle" }, number(t));
  }
}

// The line, thin and with its mean over it where there are many points; gaps where a value is not finite.
function curveLine(svg, { x, y }, steps, values, smooth) {
  const path = (list) => {
    let d = "";
    list.forEach((v, i) => {
      if (v === null) return;
      d += `${d && list[i - 1] !== null ? "L" : "M"}${x(steps[i]).toFixed(1)} ${y(v).toFixed(1)}`;
    });
    return d;
  };
  const line = { fill: "none", stroke: "var(--forward)" };
  const mean = smooth && values.length > 40;
  add(svg, "path", { ...line, d: path(values), "stroke-width": mean ? 1 : 1.6, opacity: mean ? 0.35 : 1 });
  if (mean) add(svg, "path", { ...line, d: path(smoothed(values)), "stroke-width": 1.8 });
}

function curvePoints(svg, { x, y }, points) {
  const line = points.map(([s, v]) => `${x(s)},${y(v)}`).join(" ");
  add(svg, "polyline", { points: line, fill: "none", stroke: "var(--update)", "stroke-dasharray": "3 3" });
  for (const [s, v] of points) {
    add(svg, "circle", { cx: x(s), cy: y(v), r: 3.5, fill: "var(--update)", stroke: "var(--back)" });
  }
}

// Draws one chart; returns what moves its cursor to a step (null: away).
function lineChart(figure, steps, { title, y, smooth, points = [], pointName, fromZero }, hover) {
  const caption = add(figure, "figcaption");
  add(caption, "b", {}, title);
  const value = add(caption, "span");
  const finite = y.filter((v) => v !== null);
  const end = finite[finite.length - 1];
  const width = Math.max(280, figure.clientWidth);
  const scales = curveScales(width, steps, [...finite, ...points.map((p) => p[1])], fromZero);
  const extremes = [Math.min(...finite), Math.max(...finite)].map(digits).join(" and ");
  const range = finite.length ? `: from ${digits(finite[0])} to ${digits(end)}, between ${extremes}` : "";
  const svg = add(figure, "svg", {
    height: CURVE.height,
    viewBox: `0 0 ${width} ${CURVE.height}`,
    role: "img",
    "aria-label": `${title} over steps ${scales.first} to ${scales.last}${range}`,
  });
  curveAxes(svg, scales);
  if (finite.length) curveLine(svg, scales, steps, y, smooth);
  curvePoints(svg, scales, points);
  const cursor = add(svg, "line", { class: "cursor", y1: CURVE.top, y2: CURVE.height - CURVE.bottom });

  const lastPoint = points[points.length - 1];
  const atEnd =
    (finite.length ? `  ${digits(end)} at the end` : "") +
    (lastPoint ? `  ${finite.length ? "● " : ""}${pointName} ${digits(lastPoint[1])}` : "");
  const move = (step) => {
    cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    value.textContent = atEnd;
    if (step === null) return;
    cursor.setAttribute("x1", scales.x(step));
    cursor.setAttribute("x2", scales.x(step));
    const before = points.filter((p) => p[0] <= step).pop();
    const own = finite.length ? y[steps.indexOf(step)] : before ? before[1] : null;
    value.textContent = `  step ${number(step)}: ${own === null ? "–" : digits(own)}`;
  };
  move(null);
  svg.addEventListener("pointermove", (e) => {
    const box = svg.getBoundingClientRect();
    const at = scales.step(((e.clientX - box.left) * width) / box.width);
    hover(steps.reduce((best, s) => (Math.abs(s - at) < Math.abs(best - at) ? s : best), steps[0]));
  });
  svg.addEventListener("pointerleave", () => hover(null));
  return move;
}
