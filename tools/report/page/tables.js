// Tables: nodes with predicted beside measured, the certificate, the configuration.
const ROWS_AT_ONCE = 400;

// One row per node that takes time; the start half of an asynchronous operation only issues.
function nodeRows() {
  const measured = DATA.measured ? DATA.measured.node_ns : [], seen = new Map();
  for (const group of DATA.predicted.groups) {
    group.spans.node.forEach((n, i) => {
      if (NODES.role[n] === 1 || seen.has(n)) return;
      const m = measured[n] === undefined ? null : measured[n], ns = group.spans.ns[i];
      seen.set(n, { node: n, name: nodeName(n), op: NODES.ops[NODES.op[n]], lane: planOfGroup(group).lanes[group.spans.lane[i]].name, begin: group.spans.begin[i],
        ns, measured: m, ratio: m !== null && ns > 0 ? m / ns : null, bytes: NODES.bytes[n], flops: NODES.flops[n],
        slack: group.spans.slack ? group.spans.slack[i] : null, path: group.ranks.some((r) => critical.has(`${r} ${n}`)) });
    });
  }
  return [...seen.values()];
}

function nodeTable() {
  const all = nodeRows(), has = Boolean(DATA.measured);
  const none = "–";
  const columns = [
    ["name", "Node", (r) => r.name], ["op", "Operation", (r) => r.op], ["lane", "Lane", (r) => r.lane],
    ["begin", "Begins", (r) => time(r.begin)], ["ns", "Predicted", (r) => time(r.ns)],
    ...(has ? [["measured", "Measured", (r) => r.measured === null ? none : time(r.measured)], ["ratio", "Ratio", (r) => r.ratio === null ? none : digits(r.ratio)]] : []),
    ...(all.some((r) => r.slack !== null) ? [["slack", "Slack", (r) => r.path ? "critical" : time(r.slack)]] : []),
    ["bytes", "Bytes", (r) => r.bytes ? bytes(r.bytes) : none], ["flops", "FLOPs", (r) => r.flops ? count(r.flops) : none],
  ];
  const t = add($("nodes-table"), "table"), head = add(add(t, "thead"), "tr"), body = add(t, "tbody");
  let sort = "begin", up = true, limit = ROWS_AT_ONCE;
  const isText = (key) => ["name", "op", "lane"].includes(key);
  for (const [key, title] of columns) {
    const th = add(head, "th", { scope: "col", class: isText(key) ? undefined : "n", "data-key": key });
    add(th, "button", { type: "button", onclick: () => { up = sort === key ? !up : isText(key) || key === "begin"; sort = key; fill(); } }, title);
  }
  const fill = () => {
    for (const th of head.children) {
      if (th.dataset.key === sort) th.setAttribute("aria-sort", up ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    }
    const rows = all.filter((r) => !state.matches || state.matches[r.node]);
    const low = (v) => v === null ? -Infinity : v;
    rows.sort((a, b) => (isText(sort) ? a[sort].localeCompare(b[sort], "en", { numeric: true }) : low(a[sort]) - low(b[sort])) * (up ? 1 : -1));
    body.replaceChildren();
    for (const r of rows.slice(0, limit)) {
      const tr = add(body, "tr", { onclick: () => selectNode(r.node), "data-node": r.node });
      for (const [key, , text] of columns) {
        const td = add(tr, "td", { class: isText(key) ? "w" : "n" });
        if (key === "ratio" && r.ratio !== null) ratioBar(td, r.ratio);
        td.append(text(r));
      }
    }
    if (rows.length > limit) {
      const td = add(add(body, "tr"), "td", { colspan: columns.length });
      add(td, "button", { type: "button", onclick: () => { limit = Infinity; fill(); } }, `Show all ${number(rows.length)} nodes`);
    }
    mark();
  };
  const mark = () => {
    const node = state.selected ? state.selected.row.source.spans.node[state.selected.row.order[state.selected.at]] : -1;
    for (const tr of body.children) if (Number(tr.dataset.node) === node) tr.setAttribute("aria-current", "true"); else tr.removeAttribute("aria-current");
  };
  on((what) => { if (what === "search") fill(); if (what === "selection") mark(); });
  const ratios = all.filter((r) => r.ratio !== null).map((r) => r.ratio).sort((a, b) => a - b);
  $("nodes-text").textContent = (has ? `Predicted beside measured: the median over ${DATA.measured.recorded_steps} recorded steps and all ranks. Half of the nodes take between ×${digits(ratios[Math.floor(ratios.length / 4)] || 0)} and ×${digits(ratios[Math.floor(ratios.length * 3 / 4)] || 0)} of their prediction; collectives include waiting for other ranks. `
    : "As predicted. ") + "A click shows a node on the timeline.";
  fill();
}

// From the middle, which is 1: to the right slower than predicted, to the left faster; the ends are × 4 and ÷ 4.
function ratioBar(parent, ratio) {
  const part = Math.max(-1, Math.min(1, Math.log2(ratio) / 2)) * 50;
  add(add(parent, "span", { class: "ratio", "aria-hidden": "true" }), "i", { style: `left: ${50 + Math.min(0, part)}%; width: ${Math.abs(part)}%` });
}

function certificate() {
  if (DATA.checks.length === 0) return;
  $("certificate").hidden = false;
  table($("checks"), ["Check", "", "What was established"], DATA.checks.map((c) => [c.name, c.ok ? "✓ holds" : "✗ fails", c.facts]));
}

function configuration() {
  $("command").textContent = DATA.command;
  $("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(DATA.command);
      $("copy").textContent = "Copied";
    } catch (error) {  // not allowed from a file: the text is selected instead
      getSelection().selectAllChildren($("command"));
      $("copy").textContent = "Selected";
    }
  });
  const t = table($("config"), ["Setting", "Value", "From"], DATA.config.map((c) => [c.path, c.value, c.where || c.origin]));
  const lines = [...t.tBodies[0].rows], defaults = DATA.config.filter((c) => c.origin === "default").length;
  const show = (all) => lines.forEach((tr, i) => {
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
