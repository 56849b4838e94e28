# SPDX-License-Identifier: Apache-2.0
"""Results as tables: plain ones for the terminal, Markdown for a page."""


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(head, rows, is_markdown):
    """The first column is text, the others are flush right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for row in [head, *rows]:
        cells = [cell.ljust(width) if i == 0 else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        lines.append(f"| {' | '.join(cells)} |" if is_markdown else "  ".join(cells).rstrip())
    if is_markdown:
        lines.insert(1, "|---|" + "---:|" * (len(head) - 1))
    return "\n".join(lines)


def machine(found, is_markdown):
    about = found["machine"]
    text = (f"{about['cores']} cores of {about['processor']}, {about['memory']}, "
            f"{about['system']}, {about['date']}. "
            + ", ".join(f"{name} {about[name]}" for name in
                        ("tidemill", "ONNX Runtime", "Python", "numpy", "orjson")) + ". "
            + (f"Medians of {found['rounds']} rounds." if found["rounds"] > 1 else "One round."))
    return text + ("" if is_markdown else "\n")


def contender_row(result):
    rate = result["rows_per_s"]
    apart = (result["rows_per_s_most"] - result["rows_per_s_least"]) / rate
    return [result["title"], number(rate), f"{100 * apart:.0f}%",
            f"{100 * result['others']:.0f}%", number(result["cpu_s_per_million"]),
            *(number(result.get(kind)) for kind in ("private_mb", "largest_mb", "tree_mb"))]


def is_reached(value, aim):
    sign, bound = aim.split()
    return value >= float(bound) if sign == ">=" else value <= float(bound)


def ratio_row(ratio):
    verdict = ""
    if ratio["aim"]:
        verdict = "reached" if is_reached(ratio["value"], ratio["aim"]) else "missed"
    return [ratio["title"], f"{ratio['value']:.2f}", ratio["aim"], verdict]


def workload(found, is_markdown):
    title = f"\n### {found['title']}\n" if is_markdown else f"{found['title']}\n"
    results = table(["", "rows/s", "spread", "others", "CPU-s per million", "own MB", "largest MB",
                     "all MB"],
                    [contender_row(result) for result in found["results"].values()], is_markdown)
    ratios = table(["", "value", "aim", ""], [ratio_row(ratio) for ratio in found["ratios"]],
                   is_markdown)
    return f"{title}\n{results}\n\n{ratios}\n"
