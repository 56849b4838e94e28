#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Package descriptions from raw text: what a run would cost, the run, and the next night's run, in which
# one text in twenty has changed. Everything it writes lies in build/demo-packages. Needs apt's package
# lists (apt-get update).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tidemill=${TIDEMILL:-$here/../../build/tidemill}
work=${DEMO_DIR:-$here/../../build/demo-packages}
price=${DEMO_PRICE:-c6i.large}
python=/usr/bin/python3
[ -x "$python" ] || python=python3
mkdir -p "$work"
cd "$work"

say() { printf '\n%s\n' "$*"; }
classify() { # INPUT OUTPUT OPTION...
    local input=$1 output=$2
    shift 2
    printf '$ tidemill run --model packages.onnx --input %s --output %s ... %s\n' "$input" "$output" "$*"
    "$tidemill" run --model "$here/packages.onnx" --input "$input" --output "$output" --force \
        --post softmax,argmax --labels "$here/labels.txt" --keep section --price "$price" "$@"
}

say "1. The held-out descriptions, as they are"
"$python" "$here/prepare.py" --output-dir . >/dev/null
rm -rf cache
classify heldout.jsonl sections.jsonl
head -2 sections.jsonl
"$python" "$here/../digits/score.py" --truth section --answer label sections.jsonl

say "2. All of the training texts: what would it take?"
classify train.jsonl train.sections.jsonl --dry-run

say "3. The run, and its answers kept"
classify train.jsonl train.sections.jsonl --cache cache

say "4. The next night: one text in twenty has changed"
"$python" -c '
import json, sys
for number, line in enumerate(sys.stdin):
    record = json.loads(line)
    if number % 20 == 0:
        record["text"] += " (new version)"
    print(json.dumps(record))' <train.jsonl >next.jsonl
classify next.jsonl next.sections.jsonl --cache cache
