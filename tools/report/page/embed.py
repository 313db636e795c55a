#!/usr/bin/env python3
"""Puts style and scripts into the page and the page into C++.

  embed.py report.html report.css core.js ... main.js > page.cc

{{css}} and {{js}} of the first file are replaced by the others, scripts in the order given. A compiler may limit a
string literal to 64 KiB, so the text becomes several that it joins.
"""

import sys

PIECE = 12000
FENCE = "page"  # )page" must not be in the text


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        page = file.read()
    parts = {"css": "", "js": ""}
    for name in sys.argv[2:]:
        with open(name, encoding="utf-8") as file:
            parts[name.rsplit(".", 1)[1]] += file.read()
    for kind, text in parts.items():
        if "</script" in text or "</style" in text or "{{" in text:
            sys.exit(f"embed.py: the {kind} would end its element early, or holds a placeholder")
        page = page.replace("{{" + kind + "}}", text)
    if f'){FENCE}"' in page:
        sys.exit("embed.py: the page holds the end of a raw string")
    pieces = [page[i:i + PIECE] for i in range(0, len(page), PIECE)]
    literals = "\n".join(f'    R"{FENCE}({piece}){FENCE}"' for piece in pieces)
    print(f"""#include "tools/report/page/page.h"

namespace millrace {{

absl::string_view ReportPage() {{
  static constexpr char kPage[] =
{literals};
  return absl::string_view(kPage, sizeof(kPage) - 1);
}}

}}  // namespace millrace""")


main()
