// The head of the page, the theme, the keys that work everywhere; puts all parts up.
function fact(term, value, detail, state) {
  const box = add($("facts"), "div", { class: state });
  add(box, "dt", {}, term);
  const dd = add(box, "dd");
  add(dd, "b", {}, value);
  add(dd, "span", {}, detail);
}

function header() {
  const s = SUMMARY;
  const ns = (seconds) => time(seconds * 1e9);
  $("name").textContent = s.name;
  $("description").textContent = s.description || "";
  $("plan").textContent = `plan ${s.plan_hash}` + (s.weights_sha256 ? `, weights ${s.weights_sha256}` : "");
  const bound =
    s.lower_bound_seconds > 0
      ? `× ${digits(s.predicted_seconds / s.lower_bound_seconds)} of the lower bound ${ns(s.lower_bound_seconds)}`
      : "";
  fact("Step, predicted", ns(s.predicted_seconds), bound);
  if (s.measured_seconds)
    fact(
      "Step, measured",
      ns(s.measured_seconds),
      `median of all steps, × ${digits(s.measured_seconds / s.predicted_seconds)} of the prediction`,
    );
  if (s.mfu > 0) fact("Model FLOPs utilisation", percent(s.mfu, 1), "of the peak rate that the machine file states");
  if (s.issue)
    fact(
      "Issue",
      `${ns(s.issue.seconds_per_node)} a node`,
      `${ns(s.issue.seconds_per_step)} of the host's time a step, ${number(s.issue.captured_runs)} captured runs`,
    );
  const comm = s.exposed_comm_seconds + s.hidden_comm_seconds;
  fact(
    "Communication",
    comm > 0 ? `${percent(s.hidden_comm_seconds, comm)} hidden` : "none",
    comm > 0
      ? `${ns(s.hidden_comm_seconds)} under compute, ${ns(s.exposed_comm_seconds)} exposed` +
          (DATA.measured ? `; measured exposed ${time(DATA.measured.exposed_ns)}` : "")
      : "",
  );
  for (const t of s.tiers.filter((t) => t.peak > 0)) {
    fact(
      `Peak memory, ${t.name}`,
      bytes(t.peak),
      [
        t.budget ? `of ${bytes(t.budget)}` : "no budget",
        t.measured ? (t.measured === t.peak ? "measured the same to the byte" : `measured ${bytes(t.measured)}`) : "",
        t.peak > t.bound ? `${percent(t.peak - t.bound, t.bound)} above what is alive at once` : "no gaps",
      ]
        .filter(Boolean)
        .join(", "),
    );
  }
  const all = DATA.checks.length;
  const bad = DATA.checks.filter((c) => !c.ok);
  const names = (checks) => checks.map((c) => c.name).join(", ");
  if (all > 0 && bad.length === 0)
    fact("Certificate", `✓ ${all} of ${all}`, `all checks hold: ${names(DATA.checks)}`, "good");
  if (bad.length > 0) fact("Certificate", `✗ ${all - bad.length} of ${all}`, `fails: ${names(bad)}`, "bad");
  fact(
    "Machine",
    s.machine || "none",
    `${number(s.world_size)} rank${s.world_size === 1 ? "" : "s"}, ${count(s.parameters)} parameters, ` +
      `${number(s.nodes)} nodes, ${count(s.flops_per_step)}FLOP a step`,
  );
  for (const note of DATA.notes) add($("notes"), "li", {}, note);
  const p = DATA.predicted.groups[0];
  const path = DATA.critical.node.length;
  $("timeline-text").textContent =
    `One step. ${path} spans make up the critical path: they decide how long the step is. ` +
    "Wheel or + and − zoom, dragging pans, the arrow keys walk from node to node; ? lists all keys." +
    (p && p.ranks.length > 1 && !DATA.measured
      ? ` Ranks ${ranges(p.ranks)} do the same at the same time and are drawn once.`
      : "");
  $("memory-text").textContent =
    "What lies in memory while the step runs, by kind, on the timeline's scale. " +
    "Hovering or the arrow keys list the moment under the cursor.";
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  changed("theme");
}
const isDark = () => document.documentElement.dataset.theme === "dark";
const toggleTheme = () => setTheme(isDark() ? "light" : "dark");

function keys(e) {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement.tagName);
  if ($("help").open) return;
  if (e.key === "Escape") {
    $("search").value = "";
    search("");
    select(null);
    if (typing) lanes.focus();
    return;
  }
  if (typing || e.ctrlKey || e.metaKey || e.altKey) return;
  const act = {
    "/": () => $("search").focus(),
    "?": () => $("help").showModal(),
    n: () => nextMatch(1),
    N: () => nextMatch(-1),
    d: toggleTheme,
    c: toggleCritical,
    "+": () => zoom(1 / 1.5),
    "=": () => zoom(1 / 1.5),
    "-": () => zoom(1.5),
    0: () => setView(0, fullEnd()),
  }[e.key];
  if (!act) return;
  act();
  e.preventDefault();
}

function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  document.documentElement.dataset.theme = dark.matches ? "dark" : "light";
  header();
  timelineTools();
  timelineLegend();
  memoryTools();
  layOut();
  state.view = [0, fullEnd()];
  nodeTable();
  certificate();
  configuration();
  curves();
  drawMemory();
  draw();

  let waiting = null; // many changes, one drawing
  const redraw = (what) => {
    waiting = waiting || new Set();
    if (waiting.size === 0)
      requestAnimationFrame(() => {
        const now = waiting;
        waiting = null;
        draw();
        if (now.has("view")) drawMemory();
      });
    waiting.add(what);
  };
  on(redraw);
  new ResizeObserver(() => redraw("view")).observe($("timeline"));
  dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
  let before = null; // paper is light
  addEventListener("beforeprint", () => {
    before = isDark();
    document.documentElement.dataset.theme = "light";
    draw();
  });
  addEventListener("afterprint", () => setTheme(before ? "dark" : "light"));
  document.addEventListener("keydown", keys);
  $("search").addEventListener("input", (e) => search(e.target.value));
  $("search").addEventListener("keydown", (e) => {
    if (e.key === "Enter") {
      nextMatch(e.shiftKey ? -1 : 1);
      e.preventDefault();
    }
  });
  $("theme").addEventListener("click", toggleTheme);
  $("help-button").addEventListener("click", () => $("help").showModal());
}
start();
