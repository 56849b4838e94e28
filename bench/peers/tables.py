# SPDX-License-Identifier: Apache-2.0
"""Results of the side-by-side runs as Markdown."""
from report import number, table

HEAD = ["", "records", "records/s", "CPU-s per million", "CPU-s / ours", "speed, ours / theirs",
        "start s", "start CPU-s", "CPU-s per million with the start", "private MB", "all MB",
        "others", "rounds"]


def megabytes(value):
    return f"{value:,.0f}"


def ours_of(rows):
    """The row that the others are compared with: the first of tidemill's that ran."""
    ours = (row for row in rows if row["key"].startswith("tidemill") and "seconds" in row)
    return next(ours, None)


def cells(row, ours):
    against = ["", ""] if ours is None else [
        number(row["cpu_s_per_million"] / ours["cpu_s_per_million"]),
        number(ours["rows_per_s"] / row["rows_per_s"])]
    return [row["title"], f"{row['rows']:,}", number(row["rows_per_s"]),
            number(row["cpu_s_per_million"]), *against, f"{row['start_s']:.2f}",
            f"{row['start_cpu_s']:.2f}", number(row["cpu_s_per_million_whole"]),
            megabytes(row["private_mb"]), megabytes(row["tree_mb"]), f"{100 * row['others']:.0f}%",
            f"{row['rounds']}"]


def ran_first(rows):
    """Those with figures, cheapest first; then the others."""
    ran = sorted((row for row in rows if "seconds" in row), key=lambda r: r["cpu_s_per_million"])
    return ran, [row for row in rows if "seconds" not in row]


def contenders(rows):
    ran, others = ran_first(rows)
    ours = ours_of(rows)
    parts = [table(HEAD, [cells(row, ours) for row in ran], True)] if ran else []
    remarks = [f"* {row['title']}: {row['reason']}." for row in others]
    remarks += [f"* {row['title']}: {number(row['client_cpu_s_per_million'])} of the CPU-seconds "
                "per million are the client's."
                for row in ran if row.get("client_cpu_s_per_million")]
    return "\n\n".join(parts + (["\n".join(remarks)] if remarks else []))


def ideal(found, rows):
    ours = ours_of(rows)
    text = (f"Zero-padding ideal: {number(found['rows_per_s'])} records/s, "
            f"{number(found['tokens_per_s'])} tokens/s, {number(found['cpu_s_per_million'])} "
            "CPU-seconds per million (the model alone, full batches of one length)")
    for row in ran_first(rows)[0]:
        if row is ours or row["key"] == "loop_sorted":
            text += f"; {row['title']} reaches {row['rows_per_s'] / found['rows_per_s']:.2f} of it"
    return text + "."


def sizes(rows):
    head = ["records", "wall s", "CPU-s", "records/s", "CPU-s per million", "private MB", "all MB"]
    return table(head, [
        [f"{row['rows']:,}", f"{row['seconds']:.2f}", f"{row['cpu_s']:.2f}",
         number(row["rows_per_s_whole"]), number(row["cpu_s_per_million_whole"]),
         megabytes(row["private_mb"]), megabytes(row["tree_mb"])] for row in rows], True)


def section(found):
    """A piece of work: its title, what is known of the input, its table, and remarks."""
    parts = [f"## {found['title']}"]
    if found.get("about"):
        parts.append(found["about"])
    if found.get("sizes"):
        parts.append(sizes(found["sizes"]))
    if found.get("rows"):
        parts.append(contenders(found["rows"]))
    if found.get("ideal"):
        parts.append(ideal(found["ideal"], found["rows"]))
    return "\n\n".join(parts + found.get("remarks", []))


def machine(about):
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (f"{about['cores']} cores of {about['processor']}, {about['memory']}, "
            f"{about['system']}, {about['date']}. {versions}.")
