"""The official JavaScript SDKs on every pair of formats, whole and streamed: `./dev sdks`.

Asks npm for the pinned packages once, outside the repository; needs node. Exit code 0 when what
every SDK heard, and what every provider was told of a tool's result, is what was said.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from e2e.answers import ANSWERS, ONE_TOOL, TEXT, Answer
from e2e.conftest import QUIET, environment_for
from e2e.test_every_pair import CLIENTS, DATA_URL, PICTURE, QUESTION, READERS, RESULT, SCHEMA, heard
from e2e.test_sdks import facts
from e2e.upstream import Received, Reply, Upstream, answering
from llm_proxy.assembly import make_server
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot

PACKAGES = ("openai@7.55.0", "@anthropic-ai/sdk@1.11.0", "@google/genai@3.1.0")
SCRIPT = Path(__file__).with_suffix(".mjs")
MODELS = {name.replace(" ", "-"): answer for name, answer in ANSWERS.items()}


def installed() -> Path:
    """The folder with the SDKs and the script that uses them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("LLM_PROXY_JS_SDKS") or cache / "llm-proxy-js-sdks")
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "installed"
    if not done.exists() or done.read_text() != " ".join(PACKAGES):
        subprocess.run(["npm", "init", "-y"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", *PACKAGES],
            cwd=folder,
            check=True,
            stdout=sys.stderr,
        )
        done.write_text(" ".join(PACKAGES))
    shutil.copy(SCRIPT, folder)
    return folder


def model_of(request: Received) -> str:
    return str(request.json.get("model") or request.path.rpartition("/")[2].partition(":")[0])


def provider(request: Received) -> Reply:
    return answering(MODELS.get(model_of(request), TEXT))(request)


async def run(folder: Path, backend: str) -> tuple[list[dict[str, Any]], list[Received]]:
    setting = {
        "question": QUESTION,
        "picture": PICTURE,
        "result": RESULT,
        "schema": SCHEMA,
        "models": list(MODELS),
    }
    async with Upstream(provider) as upstream:
        environment = {**QUIET, **environment_for(upstream, backend)}
        async with make_server(snapshot(load(Sources(environment=environment)))) as server:
            url = f"http://127.0.0.1:{server.port}"
            process = await asyncio.create_subprocess_exec(
                "node",
                SCRIPT.name,
                url,
                json.dumps(setting),
                cwd=folder,
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"js_sdks: node ended with {process.returncode} against {backend}")
    return [json.loads(line) for line in said.splitlines()], upstream.requests


def wrong(told: dict[str, Any], answer: Answer) -> str:
    """What the SDK heard differently; empty: nothing."""
    if "error" in told:
        return str(told["error"])
    calls = [(call, name, arguments) for call, name, arguments in told["calls"]]
    given = heard(told["text"], calls, told["stop"], (told["usage"][0], told["usage"][1]))
    wanted = facts(answer, CLIENTS[told["client"]].stops)
    return "" if given == wanted else f"heard {given}, not {wanted}"


def mistold(backend: str, request: Received) -> Iterator[str]:
    got = READERS[backend][1](request.json)
    call = [(call.name, call.arguments) for call in ONE_TOOL.calls]
    for what, given, wanted in (
        ("tools", got.tools, [("get_weather", SCHEMA)]),
        ("texts", "".join(got.texts), QUESTION + ONE_TOOL.text),
        ("pictures", got.pictures, [DATA_URL]),
        ("calls", got.calls, call),
        ("results", got.results, [RESULT]),
        ("links", got.linked, True),
    ):
        if given != wanted:
            yield f"{what}: the provider was told {given}, not {wanted}"


def faults(backend: str, said: Iterable[dict[str, Any]], asked: list[Received]) -> Iterator[str]:
    for told in said:
        where = f"{told['client']} to {backend}, "
        where += f"{'streamed' if told['streamed'] else 'whole'}, {told['model']}"
        answer = MODELS.get(told["model"], TEXT)
        problems = [problem for problem in [wrong(told, answer)] if problem]
        if told["model"].startswith("loop-") and not problems:
            request = next(each for each in asked if model_of(each) == told["model"])
            problems += mistold(backend, request)
        yield from (f"{where}: {problem}" for problem in problems)


async def main() -> int:
    folder = installed()
    count, found = 0, []
    for backend in READERS:
        said, asked = await run(folder, backend)
        wanted = len(CLIENTS) * 2 * (len(MODELS) + 1)
        found += list(faults(backend, said, asked))
        if len(said) != wanted:
            found.append(f"{backend}: {len(said)} answers, not {wanted}")
        count += len(said)
    print("\n".join(found))
    print(
        f"{count} answers through {len(CLIENTS)} SDKs on {len(CLIENTS) * len(READERS)} pairs: ",
        end="",
    )
    print(f"{len(found)} wrong")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
