// Tables: nodes with predicted beside measured, the certificate, the configuration.
const ROWS_AT_ONCE = 400;

// One row per node that takes time; the start half of an asynchronous operation only issues.
function nodeRows() {
  const measured = DATA.measured ? DATA.measured.node_ns : [];
  const seen = new Map();
  for (const group of DATA.predicted.groups) {
    group.spans.node.forEach((n, i) => {
      if (NODES.role[n] === 1 || seen.has(n)) return;
      const m = measured[n] === undefined ? null : measured[n];
      const ns = group.spans.ns[i];
      seen.set(n, {
        node: n,
        name: nodeName(n),
        op: NODES.ops[NODES.op[n]],
        lane: planOfGroup(group).lanes[group.spans.lane[i]].name,
        begin: group.spans.begin[i],
        ns,
        measured: m,
        ratio: m !== null && ns > 0 ? m / ns : null,
        bytes: NODES.bytes[n],
        flops: NODES.flops[n],
        slack: group.spans.slack ? group.spans.slack[i] : null,
        path: group.critical.has(n),
      });
    });
  }
  return [...seen.values()];
}

function nodeTable() {
  const all = nodeRows();
  const has = Boolean(DATA.measured);
  const none = "–";
  const columns = [
    ["name", "Node", (r) => r.name],
    ["op", "Operation", (r) => r.op],
    ["lane", "Lane", (r) => r.lane],
    ["begin", "Begins", (r) => time(r.begin)],
    ["ns", "Predicted", (r) => time(r.ns)],
    ...(has
      ? [
          ["measured", "Measured", (r) => (r.measured === null ? none : time(r.measured))],
          ["ratio", "Ratio", (r) => (r.ratio === null ? none : digits(r.ratio))],
        ]
      : []),
    ...(all.some((r) => r.slack !== null) ? [["slack", "Slack", (r) => (r.path ? "critical" : time(r.slack))]] : []),
    ["bytes", "Bytes", (r) => (r.bytes ? bytes(r.bytes) : none)],
    ["flops", "FLOPs", (r) => (r.flops ? count(r.flops) : none)],
  ];
  const t = add($("nodes-table"), "table");
  const head = add(add(t, "thead"), "tr");
  const body = add(t, "tbody");
  let sort = "begin";
  let up = true;
  let limit = ROWS_AT_ONCE;
  const isText = (key) => ["name", "op", "lane"].includes(key);
  for (const [key, title] of columns) {
    const th = add(head, "th", { scope: "col", class: isText(key) ? undefined : "n", "data-key": key });
    const button = add(th, "button", { type: "button" }, title);
    button.addEventListener("click", () => {
      up = sort === key ? !up : isText(key) || key === "begin";
      sort = key;
      fill();
    });
  }
  const fill = () => {
    for (const th of head.children) {
      if (th.dataset.key === sort) th.setAttribute("aria-sort", up ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    }
    const rows = all.filter((r) => !state.matches || state.matches[r.node]);
    const low = (v) => (v === null ? -Infinity : v);
    const texts = (a, b) => a.localeCompare(b, "en", { numeric: true });
    const compare = isText(sort) ? (a, b) => texts(a[sort], b[sort]) : (a, b) => low(a[sort]) - low(b[sort]);
    rows.sort((a, b) => (up ? compare(a, b) : compare(b, a)));
    body.replaceChildren();
    for (const r of rows.slice(0, limit)) {
      const tr = add(body, "tr", { onclick: () => goTo(r.node), "data-node": r.node });
      for (const [key, , text] of columns) {
        const td = add(tr, "td", { class: isText(key) ? "w" : "n" });
        if (key === "ratio" && r.ratio !== null) ratioBar(td, r.ratio);
        if (key === "name") add(td, "button", { type: "button" }, r.name);
        else td.append(text(r));
      }
    }
    if (rows.length > limit) {
      const td = add(add(body, "tr"), "td", { colspan: columns.length });
      const button = add(td, "button", { type: "button" }, `Show all ${number(rows.length)} nodes`);
      button.addEventListener("click", () => {
        limit = Infinity;
        fill();
      });
    }
    mark();
  };
  const mark = () => {
    const node = state.selected
      ? state.selected.row.source.spans.node[state.selected.row.order[state.selected.at]]
      : -1;
    for (const tr of body.children)
      if (Number(tr.dataset.node) === node) tr.setAttribute("aria-current", "true");
      else tr.removeAttribute("aria-current");
  };
  on((what) => {
    if (what === "search") fill();
    if (what === "selection") mark();
  });
  $("nodes-text").textContent = (has ? accuracy(all) : "As predicted.") + " A click shows a node on the timeline.";
  fill();
}

function accuracy(rows) {
  const ratios = rows.map((r) => r.ratio).filter((r) => r !== null);
  ratios.sort((a, b) => a - b);
  const at = (part) => digits(ratios[Math.floor(ratios.length * part)] || 0);
  return (
    `Predicted beside measured: the median over ${DATA.measured.recorded_steps} recorded steps and all ranks. ` +
    `Half of the nodes take between × ${at(0.25)} and × ${at(0.75)} of their prediction; ` +
    "collectives include waiting for other ranks."
  );
}

function goTo(node) {
  selectNode(node);
  lanes.scrollIntoView({ block: "nearest" });
}

// From the middle, which is 1: to the right slower than predicted, to the left faster; the ends are × 4 and ÷ 4.
function ratioBar(parent, ratio) {
  const part = Math.max(-1, Math.min(1, Math.log2(ratio) / 2)) * 50;
  add(add(parent, "span", { class: "ratio", "aria-hidden": "true" }), "i", {
    style: `left: ${50 + Math.min(0, part)}%; width: ${Math.abs(part)}%`,
  });
}

function certificate() {
  if (DATA.checks.length === 0) return;
  $("certificate").hidden = false;
  table(
    $("checks"),
    ["Check", "", "What was established"],
    DATA.checks.map((c) => [c.name, c.ok ? "✓ holds" : "✗ fails", c.facts]),
  );
}

function configuration() {
  $("command").textContent = DATA.command;
  $("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(DATA.command);
      $("copy").textContent = "Copied";
    } catch (error) {
      // not allowed from a file: the text is selected instead
      getSelection().selectAllChildren($("command"));
      $("copy").textContent = "Selected";
    }
  });
  const folder = (SUMMARY.file || "").replace(/[^/]*$/, "");
  if (SUMMARY.file) $("pipeline-file").textContent = `The pipeline: ${SUMMARY.file}`;
  const t = table(
    $("config"),
    ["Setting", "Value", "From"],
    DATA.config.map((c) => [c.path, c.value, c.where.replace(folder, "") || c.origin]),
  );
  const lines = [...t.tBodies[0].rows];
  const defaults = DATA.config.filter((c) => c.origin === "default").length;
  const show = (all) =>
    lines.forEach((tr, i) => {
      tr.className = DATA.config[i].origin;
      tr.hidden = !all && DATA.config[i].origin === "default";
    });
  if (defaults > 0) {
    const label = add($("configuration-tools"), "label");
    const box = add(label, "input", { type: "checkbox", id: "defaults", onchange: () => show(box.checked) });
    label.append(` ${defaults} defaults, too`);
  }
  show(false);
}
