// The timeline's rows: one per rank, lane and source (predicted, measured), and what is to be said of a span.
const FAMILY = NODES.families;
const RANKS_SHOWN = 4;
const EDGE = [
  "it reads the result",
  "the graph asks for this order",
  "the memory it writes was in use until then",
  "before it in the lane",
  "which issued it",
  "which gave the credit back",
];

const planOfGroup = (group) => DATA.plans[group.plan];
const groupOfRank = (rank) => DATA.predicted.groups.find((g) => g.ranks.includes(rank));

// Per group its nodes on the critical path, whichever of its ranks they are on.
DATA.predicted.groups.forEach((g) => (g.critical = new Set()));
DATA.critical.node.forEach((n, i) => {
  const group = groupOfRank(DATA.critical.rank[i]);
  if (group) group.critical.add(n);
});
const measuredStep = () => DATA.measured && DATA.measured.steps[state.step];

// What may be shown: the measured ranks one by one, or, before a run, ranks that do the same as one.
const ITEMS = DATA.measured
  ? DATA.measured.steps[0].ranks.map((m) => ({ label: `rank ${m.rank}`, rank: m.rank, group: groupOfRank(m.rank) }))
  : DATA.predicted.groups.map((g) => ({
      label: g.ranks.length > 1 ? `ranks ${ranges(g.ranks)}, alike` : `rank ${g.ranks[0]}`,
      rank: g.ranks[0],
      group: g,
    }));

// Spans of one lane in order of begin, as indices into the columns.
function ofLane(spans, lane) {
  const out = [];
  for (let i = 0; i < spans.node.length; ++i) if (spans.lane[i] === lane) out.push(i);
  return out.sort((a, b) => spans.begin[a] - spans.begin[b] || spans.ns[a] - spans.ns[b]);
}

function makeRows() {
  const rows = [];
  for (const item of ITEMS.slice(state.page * RANKS_SHOWN, (state.page + 1) * RANKS_SHOWN)) {
    rows.push({ kind: "rank", label: item.label });
    const step = measuredStep();
    const measured = step && step.ranks.find((r) => r.rank === item.rank);
    const group = item.group;
    if (!group) continue;
    const sources = [];
    if (state.show !== "measured" || !measured)
      sources.push({ name: "predicted", spans: group.spans, exposed: group.exposed });
    if (state.show !== "predicted" && measured)
      sources.push({ name: "measured", spans: measured.spans, exposed: measured.exposed });
    planOfGroup(group).lanes.forEach((lane, l) =>
      sources.forEach((source, s) =>
        rows.push({
          kind: "lane",
          label: s === 0 ? lane.name : "",
          source,
          item,
          group,
          lane: l,
          laneName: lane.name,
          order: ofLane(source.spans, l),
        }),
      ),
    );
    sources.forEach((source, s) => rows.push({ kind: "exposed", label: s === 0 ? "exposed comm." : "", source, item }));
  }
  return rows;
}

// Predicted: the simulator's path over all ranks. Measured: from the rank's last node back along what each one waited
// for, which is where this rank's time went.
function isCritical(row, i) {
  const spans = row.source.spans;
  if (row.source.name === "predicted") return row.group.critical.has(spans.node[i]);
  if (!spans.path) {
    spans.path = new Set();
    const ends = (k) => spans.begin[k] + spans.ns[k];
    let at = spans.node.reduce((last, _, k) => (ends(k) > ends(last) ? k : last), 0);
    for (; at !== undefined && !spans.path.has(at); at = indexOfNode(spans, spans.cause[at])) spans.path.add(at);
  }
  return spans.path.has(i);
}

function indexOfNode(spans, node) {
  if (!spans.at) {
    spans.at = new Map();
    spans.node.forEach((n, i) => spans.at.set(n, i));
  }
  return spans.at.get(node);
}

// Writes all there is to know about a span into `parent`.
function describe(parent, row, i) {
  const s = row.source.spans;
  const n = s.node[i];
  const plan = planOfGroup(row.group);
  add(parent, "strong", {}, nodeName(n));
  const list = add(parent, "dl", { class: "facts-of" });
  const role = ["", "issues ", "completes "][NODES.role[n]];
  definition(
    list,
    "Operation",
    role + NODES.ops[NODES.op[n]] + (NODES.stage[n] >= 0 ? `, stage ${NODES.stage[n]}` : ""),
  );
  definition(list, "Where", `${row.item.label}, ${row.laneName}, ${row.source.name}`);
  definition(list, "Begins", `${time(s.begin[i])} after the step's start`);
  definition(list, "Takes", time(s.ns[i]) + compared(row, n, s.ns[i]));
  if (NODES.bytes[n] > 0) definition(list, "Bytes", bytes(NODES.bytes[n]));
  if (NODES.flops[n] > 0)
    definition(
      list,
      "FLOPs",
      count(NODES.flops[n]) + (s.ns[i] > 0 ? `, ${count((NODES.flops[n] / s.ns[i]) * 1e9)}FLOP/s` : ""),
    );
  if (plan.reasons) definition(list, "Stands here", plan.reasons[plan.reason[n]]);
  if (s.cause[i] >= 0) definition(list, "Waited for", `${NODES.name[s.cause[i]]} (${EDGE[s.edge[i]]})`);
  if (s.wait[i] > 0) definition(list, "Ready before", time(s.wait[i]));
  if (s.slack) definition(list, "Slack", s.slack[i] > 0 ? `${time(s.slack[i])} without a longer step` : "none");
  if (isCritical(row, i))
    definition(list, "Path", row.source.name === "predicted" ? "on the critical path" : "on this rank's critical path");
}

function compared(row, node, ns) {
  if (row.source.name === "predicted") {
    const measured = DATA.measured && DATA.measured.node_ns[node];
    return measured ? `, measured ${time(measured)} in the median` : "";
  }
  const at = indexOfNode(row.group.spans, node);
  const predicted = at === undefined ? 0 : row.group.spans.ns[at];
  return predicted > 0 ? `, predicted ${time(predicted)} (× ${digits(ns / predicted)})` : "";
}

// Every word of the query is in the node's name or operation.
function search(query) {
  state.query = query.trim().toLowerCase();
  const words = state.query.split(/\s+/);
  state.matches =
    state.query === ""
      ? null
      : NODES.name.map((name, n) =>
          words.every((w) => name.toLowerCase().includes(w) || NODES.ops[NODES.op[n]].toLowerCase().includes(w)),
        );
  const found = state.matches ? state.matches.filter(Boolean).length : 0;
  $("found").textContent = state.matches ? `${found} node${found === 1 ? "" : "s"}` : "";
  changed("search");
}
