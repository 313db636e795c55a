#!/usr/bin/env python3
"""Draws a Chrome trace of a schedule (millrace export --format chrome, or the trace.json of a run) as a picture: one bar
per node, one row per rank and lane.

  bazel-bin/tools/millrace export digits_vit_zero3 --format chrome --out t.json
  python3 tools/trace_svg.py t.json pipelines/digits_vit_zero3.svg
"""
import html, json, sys

COLOURS = {"forward": "#4c78a8", "recompute": "#8fb0d1", "backward": "#f58518", "all_gather": "#54a24b", "reduce_scatter": "#b279a2",
           "all_reduce": "#b279a2", "adamw": "#e45756", "sgd": "#e45756", "load_batch": "#9d9d9d"}
WIDTH, ROW, LEFT = 1000, 34, 120


def main():
    events = json.load(open(sys.argv[1]))
    events = events["traceEvents"] if isinstance(events, dict) else events
    names, rows, seen = {}, {}, set()
    for e in events:
        if e.get("ph") == "M" and e["name"] == "process_name":
            names[e["pid"]] = e["args"]["name"].split(" (")[0]
        if e.get("ph") == "M" and e["name"] == "thread_name":
            names[e["pid"], e["tid"]] = e["args"]["name"]
    for e in events:
        if e.get("ph") == "X" and "op" in e.get("args", {}):
            rows.setdefault((e["pid"], e["tid"]), []).append(e)
    if not rows:
        sys.exit("no slices in " + sys.argv[1])
    begin = min(e["ts"] for r in rows.values() for e in r)
    end = max(e["ts"] + e["dur"] for r in rows.values() for e in r)
    scale = (WIDTH - LEFT - 10) / (end - begin)
    height = ROW * len(rows) + 40
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="10">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    for i, key in enumerate(sorted(rows)):
        y = 6 + i * ROW
        out.append(f'<text x="4" y="{y + 17}">{html.escape(names.get(key[0], str(key[0])))} · {html.escape(names.get(key, str(key[1])))}</text>')
        for e in rows[key]:
            x, w = LEFT + (e["ts"] - begin) * scale, max(e["dur"] * scale, 0.6)
            colour = COLOURS.get(e["args"]["op"], "#bab0ac")
            seen.add(e["args"]["op"])
            out.append(f'<rect x="{x:.1f}" y="{y}" width="{w:.1f}" height="{ROW - 8}" fill="{colour}" stroke="white" '
                       f'stroke-width="0.4"><title>{html.escape(e["name"])}: {e["dur"]:.1f} us</title></rect>')
            if w > 52:
                label = e["name"].replace("forward/", "F ").replace("backward/", "B ")[:int(w / 5.5)]
                out.append(f'<text x="{x + 3:.1f}" y="{y + 16}" fill="white">{html.escape(label)}</text>')
    for i, (op, colour) in enumerate((op, colour) for op, colour in COLOURS.items() if op in seen):
        out.append(f'<rect x="{LEFT + i * 108}" y="{height - 24}" width="10" height="10" fill="{colour}"/>'
                   f'<text x="{LEFT + i * 108 + 14}" y="{height - 15}">{op}</text>')
    out.append(f'<text x="4" y="{height - 15}">{(end - begin) / 1000:.2f} ms</text></svg>')
    open(sys.argv[2], "w").write("\n".join(out) + "\n")


main()
