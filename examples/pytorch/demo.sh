#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A PyTorch module over the held-out digits. $PYTHON is one that has torch.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tidemill=${TIDEMILL:-tidemill}
python=${PYTHON:-python3}
work=${DEMO_DIR:-$here/../../build/demo-pytorch}
export PYTHONPATH=$here/../../python${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1
"$python" -c 'import torch' 2>/dev/null || {
    echo "this example needs torch: python3 -m venv v && v/bin/pip install torch" >&2
    echo "then PYTHON=v/bin/python $0" >&2
    exit 2
}
mkdir -p "$work"
cd "$work"
"$python" "$here/../digits/make_data.py" --output heldout.jsonl >/dev/null
rm -f predictions.jsonl*
"$tidemill" run --model "exec:$python '$here/convolution.py'" --input heldout.jsonl \
    --output predictions.jsonl --keep label
head -2 predictions.jsonl
"$python" "$here/../digits/score.py" --truth label --answer response.label --min 0.95 predictions.jsonl
