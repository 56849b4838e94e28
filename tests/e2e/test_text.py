# SPDX-License-Identifier: Apache-2.0
"""Text in, token ids out: the same ids as the reference, and what follows from them.

The tokenizers are trained here, on files that every machine has, with the Python package of the
library that tidemill opens."""

import csv
import json
import os
import random
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tokenizers import (Regex, Tokenizer, models as kinds, normalizers, pre_tokenizers, processors,
                        trainers)

from conftest import read_jsonl, run, write_jsonl

LINES = 10_000

NASTY = [
    "", " ", "\t\r\n", "\u3000\xa0\u2003", "a", ".", "\x00", "a\x00b", "\x01\x02\x1f\x7f\x80\x9f",
    "\ufeffstart", "\u200b\u200c\u200d\u2060", "\U0001F600", "👩‍👩‍👧‍👦 family 🇩🇪🇫🇷 ✌🏽",
    "e\u0301 e\u0301\u0323 n\u0303", "ﬁ ﬂ ² ½ Ⅷ ㎏ ｶﾞ", "Z̸̡̛͇͓a̴l̷g̶o̵", "中文字符和日本語テキスト", "한국어 텍스트 처리",
    "العربية من اليمين إلى اليسار", "עברית \u202eabc\u202c", "हिन्दी पाठ", "ไทยไม่มีช่องว่าง", "İIıi ßẞ ΣΑΣ ς",
    "don't we'll they've I'm he'd", "1234567890 12.5e-3 0x1F", "snake_case CamelCase UPPER",
    "https://example.org/a?b=c&d=%20#e", "<s> </s> [CLS] [SEP] [PAD] [MASK] <pad> <|endoftext|>",
    "##sub ##ing", "\\ \" / \b\f", "   leading and trailing   ", "a\n\n\nb", "a" * 300,
    "supercalifragilistic" * 30, "x " * 5000, "\ufffd\ufffe\U0010ffff", "\u0300\u0301\u0302",
    "▁already▁marked", "ĠByteĠlevel", "の" * 1000, "q" * 100_000, "word and " * 11_000,
]


def files():
    yield from sorted(Path("/usr/share/common-licenses").glob("*"))
    yield from sorted(Path(os.__file__).parent.glob("*.py"))
    yield from sorted(Path("/usr/share/doc").glob("*/copyright"))


@pytest.fixture(scope="module")
def lines():
    """Real lines, none twice, and the nasty ones among them."""
    found = {}
    for path in files():
        if path.is_file():
            found.update(dict.fromkeys(path.read_text("utf-8", "replace").splitlines()))
    shown = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=False).stdout
    described = [line for line in shown.decode("utf-8", "replace").splitlines()
                 if line.startswith(("Description", " "))]
    found = list(found)
    rng = random.Random(7)
    texts = rng.sample(found, min(len(found), LINES if not described else LINES - 3000))
    texts += rng.sample(described, min(len(described), 3000)) + NASTY
    rng.shuffle(texts)
    assert len(texts) > 5000
    return texts


def wordpiece():
    """As BERT."""
    made = Tokenizer(kinds.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=3000, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return made, trainer, processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])


def byte_level_bpe():
    """As GPT-2 and RoBERTa: a regex cuts, every byte is a letter."""
    made = Tokenizer(kinds.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(vocab_size=3000, special_tokens=["<s>", "<pad>", "</s>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return made, trainer, processors.RobertaProcessing(("</s>", 2), ("<s>", 0))


def unigram():
    """As T5 and XLM-R."""
    made = Tokenizer(kinds.Unigram())
    made.normalizer = normalizers.Sequence([
        normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=3000, special_tokens=["<pad>", "</s>", "<unk>"],
                                      unk_token="<unk>")
    return made, trainer, processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=[("</s>", 1)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lines, models):
    """NAME/tokenizer.json of each, with the models beside it."""
    made_in = tmp_path_factory.mktemp("tokenizers")
    for make in wordpiece, byte_level_bpe, unigram:
        tokenizer, trainer, processor = make()
        tokenizer.train_from_iterator([line for line in lines if len(line) < 1000], trainer)
        tokenizer.post_processor = processor
        (made_in / make.__name__).mkdir()
        tokenizer.save(str(made_in / make.__name__ / "tokenizer.json"))
        for model in "token_echo", "token_echo_int32", "token_echo_fixed":
            shutil.copy(models / f"{model}.onnx", made_in / make.__name__)
    return made_in


@pytest.fixture
def bert(folder):
    """(folder, the reference) of the WordPiece one."""
    return folder / "wordpiece", Tokenizer.from_file(str(folder / "wordpiece/tokenizer.json"))


def answers(path, *options, cwd, check=0):
    result = run("run", "-q", "-m", path, "-o", "out.jsonl", "-b", "32", "--force", *options, cwd=cwd,
                 check=check)
    return (read_jsonl(cwd / "out.jsonl") if (cwd / "out.jsonl").exists() else None), result


def failures(cwd):
    return {r["id"]: (r["code"], r["message"]) for r in read_jsonl(cwd / "out.jsonl.errors.jsonl")}


# --- the same ids ---------------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize("name", ["wordpiece", "byte_level_bpe", "unigram"])
@pytest.mark.parametrize("form", ["single", "pair", "cut", "pair_cut"])
def test_ids_are_the_reference_s(tmp_path, folder, lines, name, form):
    reference = Tokenizer.from_file(str(folder / name / "tokenizer.json"))
    is_pair, is_cut = form.startswith("pair"), form.endswith("cut")
    options = ["--map", "input_ids=first,second"] if is_pair else []
    if is_cut:
        reference.enable_truncation(24)
        options += ["--max-length", "24"]
    others = lines[1:] + lines[:1]
    expected = reference.encode_batch(list(zip(lines, others)) if is_pair else lines)
    # escapes in every second record
    write_jsonl(tmp_path / "in.jsonl", [
        json.dumps({"first": text, "second": other} if is_pair else {"text": text},
                   ensure_ascii=i % 2 == 0)
        for i, (text, other) in enumerate(zip(lines, others))])
    rows, _ = answers(folder / name / "token_echo.onnx", "-i", "in.jsonl", *options, cwd=tmp_path,
                      check=None)
    failed = {r["line"] - 1 for r in read_jsonl(tmp_path / "out.jsonl.errors.jsonl")} \
        if (tmp_path / "out.jsonl.errors.jsonl").exists() else set()
    # what no call can take: a text without a token is a tensor without an element
    assert failed <= {i for i, e in enumerate(expected) if len(e.ids) == 0}
    wanted = [e for i, e in enumerate(expected) if i not in failed]
    assert len(rows) == len(wanted) == len(lines) - len(failed)
    for row, encoding in zip(rows, wanted):
        assert row["ids"] == encoding.ids
        assert row["types"] == encoding.type_ids
        assert row["mask"] == [1] * len(encoding.ids)


def test_both_ways_of_reading_give_the_same(tmp_path, bert):
    """A pointer into the record makes every record go through the tree."""
    texts = [text for text in NASTY if len(text) < 1000]
    write_jsonl(tmp_path / "in.jsonl", [json.dumps({"text": t}, ensure_ascii=i % 2 == 0)
                                        for i, t in enumerate(texts)])
    fast, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", cwd=tmp_path)
    tree, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", "--keep", "/a/b", cwd=tmp_path)
    assert fast == tree
    assert [row["ids"] for row in fast] == [e.ids for e in bert[1].encode_batch(texts)]


def test_strings_that_are_no_text(tmp_path, bert):
    write_jsonl(tmp_path / "in.jsonl", [
        '{"id":"fine","text":"one"}', '{"id":"lone","text":"\\ud800"}',
        '{"id":"low","text":"\\udc00x"}', '{"id":"pair","text":"\\ud83d\\ude00 ok"}'])
    (tmp_path / "in.jsonl").open("ab").write(b'{"id":"bytes","text":"\xff\xfe"}\n')
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", cwd=tmp_path, check=1)
    assert [r["ids"] for r in rows] == [bert[1].encode(t).ids for t in ("one", "\U0001F600 ok")]
    assert [f["code"] for f in read_jsonl(tmp_path / "out.jsonl.errors.jsonl")] == [
        "invalid_json", "invalid_json", "invalid_utf8"]


# --- where text comes from ------------------------------------------------------------------------------

TEXTS = ["plain words", 'a "quoted", text', "two\nlines", "", "[1, 2, 3]", "1984", "naïve café"]


def test_csv(tmp_path, bert):
    with open(tmp_path / "in.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "n", "body"), *((i, i, t) for i, t in enumerate(TEXTS))])
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.csv", "--keep", "body", cwd=tmp_path)
    assert [r["ids"] for r in rows] == [bert[1].encode(t).ids for t in TEXTS]
    assert [r["body"] for r in rows] == TEXTS


def test_csv_with_lists_of_ids(tmp_path, bert):
    (tmp_path / "in.csv").write_text('id,input_ids\n1,"[5,6,7]"\n2,"[8]"\n3,text\n')
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.csv", cwd=tmp_path, check=1)
    assert [(r["ids"], r["mask"], r["types"]) for r in rows] == [
        ([5, 6, 7], [1, 1, 1], [0, 0, 0]), ([8], [1], [0])]


def test_template(tmp_path, bert):
    (tmp_path / "t.json").write_text('{"input_ids": "Title: {{title}}. {{body}}", "n": 1}')
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "title": "A \"b\"", "body": "c\nd"},
                                        {"id": 2, "title": "x", "body": 5}, {"id": 3, "title": "y"}])
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", "--template", "t.json",
                      cwd=tmp_path, check=1)
    assert [r["ids"] for r in rows] == [
        bert[1].encode(text).ids for text in ('Title: A "b". c\nd', "Title: x. 5")]
    assert failures(tmp_path)[3] == ("missing_field", "field 'body' of the template: not there")


def test_template_of_one_field(tmp_path, bert):
    (tmp_path / "t.json").write_text('{"prompt": "{{a}}", "second": "{{b}}"}')
    write_jsonl(tmp_path / "in.jsonl", [{"a": "one", "b": "two"}, {"a": 3, "b": "x"}])
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", "--template", "t.json", "--map",
                      "input_ids=prompt,second", cwd=tmp_path, check=1)
    assert [r["ids"] for r in rows] == [bert[1].encode("one", "two").ids]
    assert failures(tmp_path)[2] == ("wrong_type",
                                     "field 'prompt': expected a string, found a number")


def test_npz_of_strings(tmp_path, bert):
    np.savez(tmp_path / "in.npz", text=np.array(["one two", "drei", "x" * 40]))
    assert zipfile.is_zipfile(tmp_path / "in.npz")
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.npz", cwd=tmp_path)
    assert [r["ids"] for r in rows] == [e.ids for e in bert[1].encode_batch(
        ["one two", "drei", "x" * 40])]


@pytest.mark.parametrize("record, field", [
    ({"id": "a", "text": "one", "body": "two"}, "text"),
    ({"id": "a", "body": "two", "sentence": "one"}, "sentence"),
    ({"id": "a", "prompt": ["no", "text"], "content": "one"}, "content"),
    ({"id": "a", "n": 3, "whatever": "one"}, "whatever"),
    ({"id": "a", "input_ids": "one", "text": "two"}, "input_ids"),
])
def test_the_field_with_the_text_is_found(tmp_path, bert, record, field):
    write_jsonl(tmp_path / "in.jsonl", [record])
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", cwd=tmp_path)
    assert rows[0]["ids"] == bert[1].encode(record[field]).ids


def test_two_that_may_be_meant_are_asked_for(tmp_path, bert):
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "left": "a", "right": "b"}])
    _, result = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", cwd=tmp_path, check=2)
    assert "--map input_ids=left" in result.err
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", "--map",
                      "input_ids=left,right", cwd=tmp_path)
    assert (rows[0]["ids"], rows[0]["types"]) == (bert[1].encode("a", "b").ids,
                                                  bert[1].encode("a", "b").type_ids)


def test_another_kind_is_that_record_s_error(tmp_path, bert):
    write_jsonl(tmp_path / "in.jsonl", [
        {"id": 1, "text": "fine"}, {"id": 2, "text": [1, 2]}, {"id": 3, "text": None}, {"id": 4},
        {"id": 5, "text": {"a": "b"}}, {"id": 6, "text": "fine too"}])
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", cwd=tmp_path, check=1)
    assert [r["id"] for r in rows] == [1, 6]
    assert failures(tmp_path) == {
        2: ("wrong_type", "field 'text': expected a string, found a list"),
        3: ("wrong_type", "field 'text': expected a string, found null"),
        4: ("missing_field", "field 'text': not there"),
        5: ("wrong_type", "field 'text': expected a string, found an object")}


@pytest.mark.parametrize("first", ["", "not JSON", "[1]", '{"text": "cut', '{"text":"\\ud800"}', "7"])
def test_a_broken_record_ahead_costs_itself_alone(tmp_path, bert, first):
    write_jsonl(tmp_path / "in.jsonl", [first, {"id": 1, "text": "one"}, {"id": 2, "text": "two"}])
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", cwd=tmp_path,
                      check=1 if first else 0)
    assert [r["ids"] for r in rows] == [e.ids for e in bert[1].encode_batch(["one", "two"])]


# --- what follows from the tokens -----------------------------------------------------------------------

def test_every_input_that_text_gives(tmp_path, bert):
    """int32, positions, a second mask."""
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "text": "one two three"}])
    rows, _ = answers(bert[0] / "token_echo_int32.onnx", "-i", "in.jsonl", "--mask", "global",
                      cwd=tmp_path)
    ids = bert[1].encode("one two three").ids
    assert rows == [{"id": 1, "ids": ids, "mask": [1] * len(ids), "types": [0] * len(ids),
                     "positions": list(range(len(ids))), "wide": [1] * len(ids)}]


def test_a_field_that_is_there_wins(tmp_path, bert):
    n = len(bert[1].encode("one").ids)
    write_jsonl(tmp_path / "in.jsonl", [
        {"id": 1, "text": "one"}, {"id": 2, "text": "one", "attention_mask": [0] * n},
        {"id": 3, "input_ids": [1], "text": "one"}])
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", cwd=tmp_path)
    assert [r["mask"] for r in rows] == [[1] * n, [0] * n, [1] * n]


def test_fixed_length_is_filled_up(tmp_path, bert):
    texts = ["one", "w w w w w w w w w w w w w w w"]
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "text": t} for i, t in enumerate(texts)])
    rows, _ = answers(bert[0] / "token_echo_fixed.onnx", "-i", "in.jsonl", cwd=tmp_path, check=1)
    ids = bert[1].encode("one").ids
    assert rows[0]["ids"] == ids + [0] * (12 - len(ids))
    assert rows[0]["mask"] == [1] * len(ids) + [0] * (12 - len(ids))
    assert failures(tmp_path)[1] == (
        "wrong_shape", "field 'text': 17 tokens, the model takes 12; --max-length 12 cuts longer texts")
    rows, _ = answers(bert[0] / "token_echo_fixed.onnx", "-i", "in.jsonl", "--max-length", "12",
                      cwd=tmp_path)
    assert [len(r["ids"]) for r in rows] == [12, 12] and rows[1]["mask"] == [1] * 12


def test_padding_and_truncation_of_the_file(tmp_path, bert):
    """Its padding fills up nothing but fixed lengths; its length holds unless another is given."""
    reference = Tokenizer.from_file(str(bert[0] / "tokenizer.json"))
    reference.enable_padding(pad_id=4, pad_type_id=1, pad_token="[MASK]", length=30)
    reference.enable_truncation(6)
    reference.save(str(tmp_path / "other.json"))
    texts = ["one", "a b c d e f g h i j"]
    write_jsonl(tmp_path / "in.jsonl", [{"id": i, "text": t} for i, t in enumerate(texts)])
    given = "-i", "in.jsonl", "--tokenizer", "other.json"
    reference.no_padding()
    rows, _ = answers(bert[0] / "token_echo.onnx", *given, cwd=tmp_path)
    assert [r["ids"] for r in rows] == [e.ids for e in reference.encode_batch(texts)]
    assert len(rows[1]["ids"]) == 6
    rows, _ = answers(bert[0] / "token_echo.onnx", *given, "--max-length", "8", cwd=tmp_path)
    assert len(rows[1]["ids"]) == 8
    rows, _ = answers(bert[0] / "token_echo_fixed.onnx", *given, cwd=tmp_path)
    assert rows[1]["ids"][6:] == [4] * 6 and rows[1]["types"][6:] == [1] * 6


def test_ids_without_a_tokenizer(tmp_path, models):
    write_jsonl(tmp_path / "in.jsonl", [
        {"id": 1, "input_ids": [5, 6, 7]}, {"id": 2, "input_ids": []},
        {"id": 3, "input_ids": [9, 9], "attention_mask": [1, 0], "token_type_ids": [0, 1]},
        {"id": 4, "input_ids": "text"}])
    rows, _ = answers(models / "token_echo.onnx", "-i", "in.jsonl", cwd=tmp_path, check=1)
    rows = {r.pop("id"): r for r in rows}
    assert rows[1] == {"ids": [5, 6, 7], "mask": [1, 1, 1], "types": [0, 0, 0]}
    assert rows[3] == {"ids": [9, 9], "mask": [1, 0], "types": [0, 1]}
    assert failures(tmp_path)[4][0] == "wrong_type"


def test_a_mask_for_what_is_no_text(tmp_path, models):
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "frames": [[1, 2], [3, 4], [5, 6]]},
                                        {"id": 2, "frames": [[1, 1]], "mask": [0]}])
    rows, _ = answers(models / "frames_masked.onnx", "-i", "in.jsonl", "--mask", "mask",
                      cwd=tmp_path)
    assert rows == [{"id": 1, "sum": 21.0, "ones": [1.0, 1.0, 1.0]},
                    {"id": 2, "sum": 0.0, "ones": [0.0]}]
    _, result = answers(models / "frames_masked.onnx", "-i", "in.jsonl", cwd=tmp_path, check=2)
    assert "model input 'mask'" in result.err
    _, result = answers(models / "frames_masked.onnx", "-i", "in.jsonl", "--mask", "maks",
                        cwd=tmp_path, check=2)
    assert "--mask maks: the model has no input of this name" in result.err


# --- what goes wrong --------------------------------------------------------------------------------------

def test_text_without_a_tokenizer(tmp_path, bert, models):
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "text": "one"}])
    says = ("model input 'input_ids' takes token ids and field 'text' holds text: put a "
            "tokenizer.json beside the model or name one with --tokenizer")
    _, result = answers(models / "token_echo.onnx", "-i", "in.jsonl", cwd=tmp_path, check=2)
    assert says in result.err
    _, result = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", "--tokenizer", "none",
                        cwd=tmp_path, check=2)
    assert says in result.err


def test_no_library(tmp_path, bert):
    write_jsonl(tmp_path / "text.jsonl", [{"id": 1, "text": "one"}])
    write_jsonl(tmp_path / "ids.jsonl", [{"id": 1, "input_ids": [1]}])
    arguments = ["run", "-q", "-m", bert[0] / "token_echo.onnx", "-o", "out.jsonl", "-i"]
    env = {"TIDEMILL_TOKENIZERS": "/nonexistent"}
    result = run(*arguments, "text.jsonl", cwd=tmp_path, env=env, check=3)
    assert "$TIDEMILL_TOKENIZERS" in result.err and "/nonexistent" in result.err
    run(*arguments, "ids.jsonl", cwd=tmp_path, env=env, check=0)
    env = {"TIDEMILL_TOKENIZERS": os.environ.get("TIDEMILL_ONNXRUNTIME", "libm.so.6")}
    result = run(*arguments, "text.jsonl", "--force", cwd=tmp_path, env=env, check=3)
    assert "is not libtidemill_tokenizers.so" in result.err


@pytest.mark.parametrize("content, says", [
    ("", "EOF while parsing"), ('{"version": "1.0"', "EOF while parsing"), ("[]", "invalid"),
    ('{"version":"1.0","model":{"type":"Abacus"}}', "did not match"), ("\0\0\0", "expected value"),
])
def test_broken_tokenizer(tmp_path, bert, content, says):
    (tmp_path / "broken.json").write_text(content)
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "text": "one"}])
    _, result = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", "--tokenizer", "broken.json",
                        cwd=tmp_path, check=3)
    assert "broken.json is no tokenizer that can be used: " in result.err and says in result.err
    assert not (tmp_path / "out.jsonl.journal").exists()


def test_no_such_tokenizer(tmp_path, bert):
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "text": "one"}])
    _, result = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", "--tokenizer", "gone.json",
                        cwd=tmp_path, check=2)
    assert "gone.json" in result.err


def test_a_length_without_room(tmp_path, bert):
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "text": "one"}])
    _, result = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", "--max-length", "1",
                        cwd=tmp_path, check=3)
    assert "2 tokens are added to every text" in result.err


def test_a_tokenizer_that_refuses_one_text(tmp_path, bert):
    """Truncation of the second text alone: where there is none, the library has an error."""
    saved = json.loads((bert[0] / "tokenizer.json").read_text())
    saved["truncation"] = {"direction": "Right", "max_length": 5, "strategy": "OnlySecond", "stride": 0}
    (tmp_path / "second.json").write_text(json.dumps(saved))
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "text": "a"}, {"id": 2, "text": "a b c d e f g h"},
                                        {"id": 3, "text": "b"}])
    rows, _ = answers(bert[0] / "token_echo.onnx", "-i", "in.jsonl", "--tokenizer", "second.json",
                      cwd=tmp_path, check=1)
    assert [r["id"] for r in rows] == [1, 3]
    code, message = failures(tmp_path)[2]
    assert code == "model_error" and message.startswith("field 'text': the tokenizer refused the text")


def test_another_tokenizer_is_another_job(tmp_path, bert):
    shutil.copy(bert[0] / "token_echo.onnx", tmp_path / "m.onnx")
    shutil.copy(bert[0] / "tokenizer.json", tmp_path)
    write_jsonl(tmp_path / "in.jsonl", [{"id": 1, "text": "one"}])
    arguments = ["run", "-q", "-m", "m.onnx", "-i", "in.jsonl", "-o", "out.jsonl"]
    run(*arguments, cwd=tmp_path, check=0)
    run(*arguments, cwd=tmp_path, check=0)
    result = run(*arguments, "--max-length", "9", cwd=tmp_path, check=2)
    assert "--max-length" in result.err
    reference = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    reference.enable_truncation(5)
    reference.save(str(tmp_path / "tokenizer.json"))
    assert "tokenizer tokenizer.json is not" in run(*arguments, cwd=tmp_path, check=2).err


def test_inspect(tmp_path, bert, models):
    out = run("inspect", bert[0] / "token_echo.onnx", check=0).out
    assert f"tokenizer: {bert[0]}/tokenizer.json; padding is 0 (tokenizers 0." in out
    assert 'sample record: {"id":1,"text":"a sentence"}' in out
    assert "tokenizer: none" in run("inspect", models / "token_echo.onnx", check=0).out
    assert "tokenizer" not in run("inspect", models / "scalar_input.onnx", check=0).out
