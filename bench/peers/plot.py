# SPDX-License-Identifier: Apache-2.0
"""Bars of CPU-seconds per million records, on a log scale, as SVG."""
import math
from xml.sax.saxutils import escape

import tables
from report import number

WIDTH, LEFT, RIGHT, ROW, HEAD, GAP = 900, 400, 110, 24, 46, 22
OURS, THEIRS, PALE, TEXT = "#0b6e99", "#8a94a0", "#e3e7eb", "#1c2530"


def text(x, y, content, size=13, anchor="start", weight="normal", fill=TEXT):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}" fill="{fill}">{escape(content)}</text>')


def scale_of(values):
    """From the power of ten below the least to the one above the most."""
    low = 10 ** math.floor(math.log10(min(values)))
    high = 10 ** math.ceil(math.log10(max(values) * 1.001))
    room = WIDTH - LEFT - RIGHT
    return low, high, lambda value: LEFT + room * math.log(value / low) / math.log(high / low)


def panel(found, top):
    """The shapes of one piece of work, and where it ends."""
    rows = tables.ran_first(found["rows"])[0]
    low, high, x = scale_of([row["cpu_s_per_million"] for row in rows])
    bottom = top + HEAD + ROW * len(rows)
    shapes = [text(16, top + 18, found["title"], 15, weight="bold")]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        at = x(10 ** power)
        shapes.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top + HEAD - 6}" y2="{bottom}" '
                      f'stroke="{PALE}"/>')
        shapes.append(text(at, top + HEAD - 10, f"{10 ** power:,g}", 11, "middle", fill=THEIRS))
    for i, row in enumerate(rows):
        y, value = top + HEAD + ROW * i, row["cpu_s_per_million"]
        is_ours = row["key"].startswith("tidemill")
        shapes.append(text(LEFT - 10, y + 16, row["title"], 13, "end",
                           "bold" if is_ours else "normal"))
        shapes.append(f'<rect x="{LEFT}" y="{y + 4}" width="{max(x(value) - LEFT, 2):.1f}" '
                      f'height="{ROW - 8}" rx="2" fill="{OURS if is_ours else THEIRS}"/>')
        shapes.append(text(x(value) + 6, y + 16, number(value), 12))
    return shapes, bottom + GAP


def svg(works, machine):
    shapes, y = [text(16, 28, "CPU-seconds per million records (log scale, less is better)", 17,
                      weight="bold"), text(16, 48, machine, 11, fill=THEIRS)], 62
    for found in works:
        if tables.ran_first(found["rows"])[0]:
            more, y = panel(found, y)
            shapes += more
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" '
        f'viewBox="0 0 {WIDTH} {y}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif">',
        f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>', *shapes, "</svg>", ""])
