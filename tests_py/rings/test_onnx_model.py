"""The ONNX masker with a real model, tokenizer and runtime: small, but none of them pretends."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from e2e.upstream import Upstream
from rings.conftest import Bench
from rings.test_privacy import FRONTENDS, last_text, parrot, serving, text_of, told

WHY = "the extra 'onnx' is not installed (170 MB)"
pytest.importorskip("onnxruntime", reason=WHY)
tokenizers = pytest.importorskip("tokenizers", reason=WHY)

LABELS = ["O", "B-private_person", "I-private_person", "B-city"]
WORDS = {"Ann": 1, "Zoë": 1, "Lee": 2, "O'Hara": 2, "Łódź": 3, "मुंबई": 3}
REST = ["[UNK]", "[CLS]", "[SEP]", "I", "am", "of", "and", "to", "Write"]


# ---- the model, written byte by byte: an embedding whose rows are the scores of a word's labels


def number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(place: int, value: int | str | bytes) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return number(place << 3) + number(value)
    raw = value.encode() if isinstance(value, str) else value
    return number(place << 3 | 2) + number(len(raw)) + raw


def value_info(name: str, kind: int, *dimensions: str) -> bytes:
    shape = b"".join(field(1, field(2, dimension)) for dimension in dimensions)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def onnx_model(scores: list[list[float]]) -> bytes:
    """logits = Gather(scores, input_ids), as any ONNX tool would write it."""
    flat = [score for row in scores for score in row]
    table = field(1, len(scores)) + field(1, len(scores[0])) + field(2, 1) + field(8, "scores")
    table += field(9, struct.pack(f"<{len(flat)}f", *flat))
    node = field(1, "scores") + field(1, "input_ids") + field(2, "logits") + field(4, "Gather")
    graph = field(1, node) + field(2, "tiny") + field(5, table)
    graph += field(11, value_info("input_ids", 7, "batch", "length"))
    graph += field(11, value_info("attention_mask", 7, "batch", "length"))
    graph += field(12, value_info("logits", 1, "batch", "length", "labels"))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    words = [*REST, *WORDS]
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.save(str(folder / "tokenizer.json"))
    labels = {str(place): label for place, label in enumerate(LABELS)}
    (folder / "config.json").write_text(json.dumps({"id2label": labels}))
    scores = [[float(WORDS.get(word, 0) == label) for label in range(4)] for word in words]
    (folder / "onnx").mkdir()
    (folder / "onnx/model_quantized.onnx").write_bytes(onnx_model(scores))
    return folder


TEXT = "I am Ann O'Hara of Łódź and मुंबई"


async def test_the_words_the_model_knows_are_masked_and_only_these(
    bench: Bench, model: Path
) -> None:
    await bench.load(**{"ONNX PII Masker": {"model_id": str(model)}})
    meta = bench.manager.get_plugin("ONNX PII Masker")
    assert meta is not None and meta["warning"] is None
    body = {"model": "m", "messages": [{"role": "user", "content": TEXT}]}
    ctx = await bench.request(bench.context(body))
    values = list(ctx.placeholders.values())
    assert sorted(values) == sorted(["Ann O'Hara", "Łódź", "मुंबई"])
    assert ctx.body["messages"][0]["content"].startswith("I am [PII_PRIVATE_PERSON_")


async def test_a_text_of_many_windows_is_masked_throughout(bench: Bench, model: Path) -> None:
    await bench.load(**{"ONNX PII Masker": {"model_id": str(model)}})
    text = " ".join("Ann Lee" if n % 7 == 0 else f"word{n}" for n in range(3000))
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    ctx = await bench.request(bench.context(body))
    sent = ctx.body["messages"][0]["content"]
    assert ctx.error is None
    assert "Ann" not in sent and "Lee" not in sent
    assert ctx.metadata["rotator"].security.restore_pii(sent) == text


@pytest.mark.parametrize("frontend", FRONTENDS)
async def test_what_it_masks_comes_back_in_streams(
    frontend: str, model: Path, tmp_path: Path
) -> None:
    row = {"name": "ONNX PII Masker", "config": {"model_id": str(model)}}
    async with (
        Upstream(parrot(3)) as upstream,
        serving(upstream, "openai", tmp_path, rows=[row]) as (_, http),
    ):
        status, raw = await told(http, frontend, TEXT)
        sent = last_text(upstream.last)
    assert status == 200, raw
    assert not [word for word in WORDS if word in sent]
    assert text_of(frontend, raw) == TEXT
