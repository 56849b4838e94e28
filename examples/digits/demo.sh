#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job on real data: classify images that the model has not seen, then a million made from
# them, with a kill in the middle. Everything it writes lies in build/demo.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tidemill=${TIDEMILL:-tidemill}
work=${DEMO_DIR:-$here/../../build/demo}
rows=${DEMO_ROWS:-1000000}
price=${DEMO_PRICE:-c6i.large}
python=/usr/bin/python3
[ -x "$python" ] || python=python3
mkdir -p "$work"
cd "$work"

say() { printf '\n\033[1m%s\033[0m\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi; }
show() { printf '$ tidemill'; printf ' %s' "$@"; printf '\n'; }
classify() { # INPUT OUTPUT OPTION...
    local input=$1 output=$2
    shift 2
    "$tidemill" run --model "$here/digits.onnx" --input "$input" --output "$output" \
        --labels "$here/labels.txt" --post softmax,argmax --keep label --price "$price" "$@"
}

say "1. What the model takes and gives"
show inspect digits.onnx
"$tidemill" inspect "$here/digits.onnx"

say "2. 359 handwritten digits that the model has not seen"
"$python" "$here/make_data.py" --output heldout.jsonl >/dev/null
rm -f predictions.jsonl*
show run --model digits.onnx --input heldout.jsonl --output predictions.jsonl --post softmax,argmax ...
classify heldout.jsonl predictions.jsonl
head -2 predictions.jsonl
"$python" "$here/score.py" --truth label --answer logits.label --min 0.95 predictions.jsonl

say "3. $rows digits made from them, killed (-9) on the way, then the same command again"
[ -s "digits-$rows.jsonl" ] || "$python" "$here/make_data.py" --rows "$rows" --output "digits-$rows.jsonl" >/dev/null
rm -f big.jsonl*
# a group of its own: a Ctrl-C of yours does not reach it; its model process follows the engine
setsid "$tidemill" run --quiet --model "$here/digits.onnx" --input "digits-$rows.jsonl" \
    --output big.jsonl --labels "$here/labels.txt" --post softmax,argmax --keep label &
engine=$!
for _ in $(seq 200); do # the first commits come within a fraction of a second
    if grep -qs '"type":"commit"' big.jsonl.journal; then break; fi
    sleep 0.01
done
if kill -9 "$engine" 2>/dev/null; then
    wait "$engine" 2>/dev/null || true
    done_records=$(grep '"type":"commit"' big.jsonl.journal | tail -1 |
        sed 's/.*"ok":\([0-9]*\),"failed":\([0-9]*\).*/\1 + \2/')
    echo "killed; committed so far: $((done_records)) records; output under its name: $([ -e big.jsonl ] && echo yes || echo no)"
else
    echo "the job was faster than the kill"
fi
show run --model digits.onnx --input "digits-$rows.jsonl" --output big.jsonl --price "$price" ...
classify "digits-$rows.jsonl" big.jsonl --summary summary.json
"$python" "$here/score.py" --truth label --answer logits.label --min 0.90 big.jsonl

say "4. The same command once more"
classify "digits-$rows.jsonl" big.jsonl
echo
echo "Files are in $(pwd)"
