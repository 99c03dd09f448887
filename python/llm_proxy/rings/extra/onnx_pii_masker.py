"""Masks what a token classification model takes for personal data; the model stays local."""

from __future__ import annotations

import asyncio
import importlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from llm_proxy.plugins.context import PluginContext
from llm_proxy.plugins.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.default import pii_masker

VARIANTS = ("fp32", "fp16", "int8", "q4", "q4f16")
_FILES = {"fp32": "model.onnx", "int8": "model_quantized.onnx"}
_MAX_TOKENS = 512
_PACKAGES = "onnxruntime numpy transformers huggingface_hub"

_said: set[str] = set()

Span = tuple[int, int, str]


class ModelMissing(RuntimeError):
    """The model, or a package that runs it, is not on this machine."""


class Classifier:
    """The model with its tokenizer: personal data of a text, as spans. Used on one thread."""

    def __init__(self, model_id: str, variant: str, providers: list[str]) -> None:
        try:
            runtime: Any = importlib.import_module("onnxruntime")
            transformers: Any = importlib.import_module("transformers")
            hub: Any = importlib.import_module("huggingface_hub")
        except ImportError as error:
            raise ModelMissing(f"{error}; pip install {_PACKAGES}") from error
        name = _FILES.get(variant, f"model_{variant}.onnx")
        try:
            # Local files only: a proxy does not fetch models while it serves.
            model = hub.hf_hub_download(model_id, f"onnx/{name}", local_files_only=True)
            config = hub.hf_hub_download(model_id, "config.json", local_files_only=True)
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                model_id, local_files_only=True
            )
            labels = json.loads(Path(config).read_text(encoding="utf-8"))["id2label"]
            self._session = runtime.InferenceSession(model, providers=providers)
        except Exception as error:
            raise ModelMissing(
                f"the model is not there ({type(error).__name__}); "
                f"huggingface-cli download {model_id} --include 'onnx/{name}*' '*.json'"
            ) from error
        self._labels = {int(key): str(label) for key, label in labels.items()}
        self._inputs = {row.name for row in self._session.get_inputs()}

    def spans(self, text: str) -> list[Span]:
        found: list[Span] = []
        encoded = self._tokenizer(
            text,
            return_offsets_mapping=True,
            return_overflowing_tokens=True,
            truncation=True,
            max_length=_MAX_TOKENS,
            stride=32,
            return_tensors="np",
            padding=True,
        )
        feeds = {name: encoded[name] for name in encoded if name in self._inputs}
        (logits, *_) = self._session.run(None, feeds)
        for offsets, row in zip(encoded["offset_mapping"], logits, strict=True):
            tags = [self._labels.get(int(index), "O") for index in row.argmax(-1)]
            found += join(list(zip((tuple(map(int, o)) for o in offsets), tags, strict=True)))
        return merged(found)


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
