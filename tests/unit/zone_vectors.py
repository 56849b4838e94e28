#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes zone_vectors.h: a few zones' files, and what Python's zoneinfo makes of moments in them.

    python3 tests/unit/zone_vectors.py >tests/unit/zone_vectors.h

The files are the system's, made small as `zic -b slim` would: changes from 1970 on that the footer
does not tell. So the tests do not depend on the version of the time zone data where they run.
"""

import io
import random
import struct
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago",
         "Asia/Kolkata", "Etc/UTC"]
FOLDER = Path("/usr/share/zoneinfo")
YEARS = [1971, 1980, 1981, 1996, 2007, 2010, 2024, 2025, 2026, 2036, 2037, 2038, 2039, 2040, 2072,
         2096, 2099, 2100]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def read(data):
    """(times, types' places, types, footer) of the block of version 2."""
    def header(at):
        return struct.unpack(">6I", data[at + 20:at + 44])

    isut, isstd, leaps, times, types, letters = header(0)
    at = 44 + times * 5 + types * 6 + letters + leaps * 8 + isstd + isut
    isut, isstd, leaps, times, types, letters = header(at)
    p = at + 44
    moments = struct.unpack(f">{times}q", data[p:p + times * 8])
    places = data[p + times * 8:p + times * 9]
    p += times * 9
    kinds = [struct.unpack(">iBB", data[p + 6 * i:p + 6 * i + 6]) for i in range(types)]
    footer = data[p + types * 6 + letters + leaps * 12 + isstd + isut:]
    return moments, places, kinds, footer


def slim(data):
    moments, places, kinds, footer = read(data)
    first = ZoneInfo.from_file(io.BytesIO(data)).utcoffset(EPOCH).total_seconds()
    entries = [(m, p) for m, p in zip(moments, places) if 0 <= m < 1767225600]
    kinds = [(int(first), 0, 0)] + [(offset, dst, 0) for offset, dst, _ in kinds]
    block = struct.pack(f">{len(entries)}q", *(m for m, _ in entries))
    block += bytes(p + 1 for _, p in entries)
    block += b"".join(struct.pack(">iBB", *k) for k in kinds) + b"LMT\0"
    empty = b"TZif2" + bytes(15) + struct.pack(">6I", 0, 0, 0, 0, 1, 1) + struct.pack(">iBB", 0, 0, 0) + b"\0"
    return empty + b"TZif2" + bytes(15) + struct.pack(
        ">6I", 0, 0, 0, len(entries), len(kinds), 4) + block + footer


def offset_at(zone, seconds):
    return int((EPOCH + timedelta(seconds=seconds)).astimezone(zone).utcoffset().total_seconds())


def changes(zone, year):
    """Moments of the year from which on another offset holds, to the second."""
    begin = int((datetime(year, 1, 1, tzinfo=timezone.utc) - EPOCH).total_seconds())
    for hour in range(begin, begin + 366 * 86400, 3600):
        if offset_at(zone, hour) == offset_at(zone, hour + 3600):
            continue
        low, high = hour, hour + 3600
        while high - low > 1:
            middle = (low + high) // 2
            if offset_at(zone, middle) == offset_at(zone, hour):
                low = middle
            else:
                high = middle
        yield high


def main():
    random.seed(1)
    print("/* SPDX-License-Identifier: Apache-2.0 */")
    print("/* zone_vectors.h - made by zone_vectors.py: files of zones, and offsets as Python has them. */")
    print("#ifndef TIDEMILL_TESTS_ZONE_VECTORS_H\n#define TIDEMILL_TESTS_ZONE_VECTORS_H\n")
    print("#include <stddef.h>\n#include <stdint.h>\n\n/* clang-format off */")
    for place, name in enumerate(ZONES):
        small = slim((FOLDER / name).read_bytes())
        zone = ZoneInfo.from_file(io.BytesIO(small))
        official = ZoneInfo(name)
        print(f"static const unsigned char zone_file_{place}[] = {{ /* {name} */")
        for i in range(0, len(small), 20):
            print("    " + "".join(f"{byte}," for byte in small[i:i + 20]))
        print("};")
        moments = {random.randrange(0, 4102444800) for _ in range(40)}
        for year in YEARS:
            for change in changes(official, year):
                moments |= {change - 1, change}
        print(f"static const int64_t zone_offsets_{place}[][2] = {{ /* moment, seconds east of UTC */")
        for moment in sorted(moments):
            assert offset_at(official, moment) == offset_at(zone, moment), (name, moment)
            print(f"    {{{moment}, {offset_at(official, moment)}}},")
        print("};")
    print("static const struct {\n    const char *name;\n    const unsigned char *file;\n"
          "    size_t size;\n    const int64_t (*offsets)[2];\n    size_t n;\n} zone_vectors[] = {")
    for place, name in enumerate(ZONES):
        print(f'    {{"{name}", zone_file_{place}, sizeof zone_file_{place}, zone_offsets_{place}, '
              f"sizeof zone_offsets_{place} / sizeof *zone_offsets_{place}}},")
    print("};\n/* clang-format on */\n\n#endif")
    return 0


if __name__ == "__main__":
    sys.exit(main())
