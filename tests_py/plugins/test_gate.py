"""The gate's lists: what a plugin file may import and call."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_proxy.plugins.gate import PluginSecurityError, ast_scan, compute_plugin_sha256
from llm_proxy.plugins.manager import PluginManager

REFUSED = [
    ("import os", "Forbidden import 'os'"),
    ("import os.path", "Forbidden import 'os.path'"),
    ("import subprocess", "subprocess"),
    ("from socket import socket", "Forbidden import 'socket'"),
    ("import ctypes", "ctypes"),
    ("import sys", "sys"),
    ("import importlib", "importlib"),
    ("import pathlib", "pathlib"),
    ("exec('x')", "exec"),
    ("eval('x')", "eval"),
    ("__import__('os')", "__import__"),
    ("x.system('ls')", "system"),
    ("x.popen('ls')", "popen"),
    ("import time\ntime.sleep(1)", "time.sleep"),
    ("from time import sleep", "time.sleep"),
    ("open('/etc/passwd')", "open"),
    ("e = eval", "eval"),
    ("import logging\nlogging.os.remove('x')", "os"),
    ("import asyncio\nasyncio.sys.modules", "sys"),
    ("import collections\ncollections._sys", "sys"),
    ("from core.plugin_engine import os", "os"),
    ("from core.secrets import SecretManager", "core.secrets"),
    ("from core import secrets", "core.secrets"),
    ("().__class__.__subclasses__()", "__subclasses__"),
    ("import asyncio\nasyncio.create_subprocess_shell('ls')", "create_subprocess_shell"),
    ("from . import other", "relative"),
    ("def f(:", "Syntax error"),
]
ALLOWED = [
    "import json, re, math, random, uuid, functools, itertools, copy",
    "from __future__ import annotations",
    "from core.plugin_sdk import BasePlugin, PluginHook, PluginResponse",
    "from core.plugin_engine import PluginContext",
    "from core.tokenizer import count_tokens",
    "from fastapi.responses import JSONResponse",
    "import time\nt = time.time()",
    "import asyncio\nasync def f(ctx):\n    await asyncio.sleep(0)",
    "model.eval()",
]


@pytest.mark.parametrize(("source", "said"), REFUSED)
def test_it_refuses(source: str, said: str) -> None:
    with pytest.raises(PluginSecurityError, match="plugin 'Mine'") as refused:
        ast_scan(source, "Mine")
    assert said in str(refused.value)


@pytest.mark.parametrize("source", ALLOWED)
def test_it_lets_pass(source: str) -> None:
    assert ast_scan(source, "Mine")


@pytest.mark.parametrize("pinned", ["right", "wrong"])
async def test_a_pinned_file_must_be_the_one_that_was_pinned(tmp_path: Path, pinned: str) -> None:
    source = "async def run(ctx):\n    pass\n"
    (tmp_path / "mine.py").write_text(source)
    digest = compute_plugin_sha256(source if pinned == "right" else "other")
    (tmp_path / "manifest.yaml").write_text(
        f"plugins: [{{name: Mine, hook: ingress, entrypoint: 'mine:run', sha256: {digest}}}]\n"
    )
    manager = PluginManager(tmp_path)
    await manager.load_plugins()
    (meta,) = (meta for meta in manager.list_plugins() if meta["source"] != "built-in")
    assert meta["loaded"] == (pinned == "right")


@pytest.mark.parametrize("allowed", [False, True])
async def test_an_installed_file_runs_in_process_only_if_its_row_says_so(
    tmp_path: Path, allowed: bool
) -> None:
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "mine.py").write_text("async def run(ctx):\n    pass\n")
    (tmp_path / "installed" / "manifest.yaml").write_text(
        "plugins: [{name: Mine, hook: ingress, entrypoint: 'installed.mine:run', "
        f"allow_inprocess: {str(allowed).lower()}}}]\n"
    )
    manager = PluginManager(tmp_path)
    await manager.load_plugins()
    (meta,) = (meta for meta in manager.list_plugins() if meta["source"] != "built-in")
    assert meta["loaded"] == allowed
