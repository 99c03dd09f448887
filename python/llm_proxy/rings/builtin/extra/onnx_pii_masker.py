"""Masks what a token classification model takes for personal data; the model stays local."""

from __future__ import annotations

import asyncio
import importlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from llm_proxy.rings.builtin.default import pii_masker
from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse

VARIANTS = ("fp32", "fp16", "int8", "q4", "q4f16")
_FILES = {"fp32": "model.onnx", "int8": "model_quantized.onnx"}
_MAX_TOKENS = 512
_OVERLAP = 32
_PACKAGES = "onnxruntime numpy tokenizers"

_said: set[str] = set()

Span = tuple[int, int, str]


class ModelMissing(RuntimeError):
    """The model, or a package that runs it, is not on this machine."""


class Classifier:
    """The model with its tokenizer: personal data of a text, as spans. Used on one thread."""

    def __init__(self, model_id: str, variant: str, providers: list[str]) -> None:
        try:
            runtime: Any = importlib.import_module("onnxruntime")
            tokenizers: Any = importlib.import_module("tokenizers")
            self._numpy: Any = importlib.import_module("numpy")
        except ImportError as error:
            raise ModelMissing(f"{error}; pip install {_PACKAGES}") from error
        name = _FILES.get(variant, f"model_{variant}.onnx")
        try:
            model = _file(model_id, f"onnx/{name}")
            config = Path(_file(model_id, "config.json")).read_text(encoding="utf-8")
            self._tokenizer = tokenizers.Tokenizer.from_file(_file(model_id, "tokenizer.json"))
            self._tokenizer.enable_truncation(_MAX_TOKENS, stride=_OVERLAP)
            self._tokenizer.no_padding()
            self._labels = {int(k): str(v) for k, v in json.loads(config)["id2label"].items()}
            self._session = runtime.InferenceSession(model, providers=providers)
        except Exception as error:
            raise ModelMissing(
                f"the model is not there ({type(error).__name__}: {error}); "
                f"hf download {model_id} --include 'onnx/{name}*' '*.json'"
            ) from error
        self._inputs = {row.name for row in self._session.get_inputs()}

    def spans(self, text: str) -> list[Span]:
        found: list[Span] = []
        first = self._tokenizer.encode(text)
        for window in (first, *first.overflowing):
            rows = {
                "input_ids": window.ids,
                "attention_mask": window.attention_mask,
                "token_type_ids": window.type_ids,
            }
            feeds = {
                name: self._numpy.array([rows[name]], dtype="int64")
                for name in rows
                if name in self._inputs
            }
            logits, *_ = self._session.run(None, feeds)
            tags = [self._labels.get(int(best), "O") for best in logits[0].argmax(-1)]
            found += join(list(zip(window.offsets, tags, strict=True)))
        return merged(found)


def _file(model_id: str, name: str) -> str:
    """A file of the model on this machine: a proxy does not fetch models while it serves."""
    if Path(model_id).is_dir():
        return str(Path(model_id) / name)
    hub: Any = importlib.import_module("huggingface_hub")
    return str(hub.hf_hub_download(model_id, name, local_files_only=True))


def join(tokens: list[tuple[tuple[int, ...], str]]) -> list[Span]:
    """Neighbouring tokens of one group as one span; tags are GROUP or B-, I-, E-, S-GROUP."""
    spans: list[Span] = []
    for (start, end), tag in tokens:
        prefix, dash, group = tag.partition("-")
        if not dash or prefix not in ("B", "I", "E", "S"):
            prefix, group = "I", tag
        if group == "O" or start >= end:
            continue
        last = spans[-1] if spans else None
        if last and last[2] == group and prefix in ("I", "E") and start - last[1] <= 1:
            spans[-1] = (last[0], end, group)
        else:
            spans.append((start, end, group))
    return spans


def merged(spans: list[Span]) -> list[Span]:
    """In order and without overlap: windows of a long text see its seams twice."""
    out: list[Span] = []
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not out or span[0] >= out[-1][1]:
            out.append(span)
        elif span[1] > out[-1][1]:
            out[-1] = (out[-1][0], span[1], out[-1][2])
    return out


class OnnxPiiMasker(BasePlugin):
    name = "onnx_pii_masker"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 2000
    also = {PluginHook.POST_FLIGHT: "restore"}  # noqa: RUF012

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.model_id = str(self.config.get("model_id", "openai/privacy-filter"))
        self.variant = str(self.config.get("variant", "int8"))
        if self.variant not in VARIANTS:
            raise ValueError(f"'variant' must be one of {', '.join(VARIANTS)}")
        self.backend = str(self.config.get("backend", "auto"))
        self.force_cpu = bool(self.config.get("force_cpu", False))
        self.problem: str | None = None  # why nothing is masked; shown in the plugin list
        self._classifier: Any = None
        self._thread: ThreadPoolExecutor | None = None

    def _providers(self) -> list[str]:
        cpu = ["CPUExecutionProvider"]
        if self.force_cpu or self.backend == "cpu":
            return cpu
        if self.backend == "directml":
            return ["DmlExecutionProvider", *cpu]
        try:
            there = importlib.import_module("onnxruntime").get_available_providers()
        except ImportError:
            return cpu
        return [name for name in ("DmlExecutionProvider",) if name in there] + cpu

    async def on_load(self) -> None:
        self._thread = ThreadPoolExecutor(1, "llm-proxy-onnx")
        try:
            self._classifier = await self._aside(
                Classifier, self.model_id, self.variant, self._providers()
            )
        except ModelMissing as error:
            self.problem = f"nothing is masked: {error}"
            if self.problem not in _said:  # once, not for every swap
                _said.add(self.problem)
                self.logger.warning("The ONNX masker masks nothing: %s", error)

    async def on_unload(self) -> None:
        self._classifier = None
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    async def _aside(self, function: Any, *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        rotator = ctx.metadata.get("rotator")
        if self._classifier is None or rotator is None:
            return PluginResponse.passthrough()
        texts: dict[str, list[Span]] = {}

        def collect(text: str) -> str:
            if text.strip():
                texts[text] = []
            return text

        pii_masker.mask_body(ctx.body, collect)
        for text in texts:
            texts[text] = await self._aside(self._classifier.spans, text)
        token = rotator.security.token_for

        def mask(text: str) -> str:
            for start, end, group in reversed(texts.get(text, [])):
                text = text[:start] + token(group, text[start:end]) + text[end:]
            return text

        if not pii_masker.mask_body(ctx.body, mask):
            return PluginResponse.passthrough()
        ctx.metadata["pii_masked"] = True
        ctx.placeholders = rotator.security.pii_vault
        return PluginResponse.modify(ctx.body)

    async def restore(self, ctx: PluginContext) -> None:
        await pii_masker.restore(ctx)
