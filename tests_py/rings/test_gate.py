"""The gate's lists: what a plugin file may import and call."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_proxy.rings.runtime.gate import PluginSecurityError, ast_scan, compute_plugin_sha256
from llm_proxy.rings.runtime.manager import PluginManager

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
    # Ways round the lists above.
    ("o = open\no('x', 'w')", "open"),
    ("c = [compile][0]", "compile"),
    ("import time as t\nt.sleep(1)", "time.sleep"),
    ("from time import *\nsleep(1)", "time.sleep"),
    ("s = __import__('time')", "__import__"),
    ("__builtins__['__imp' + 'ort__']('os')", "__builtins__"),
    ("getattr(__builtins__, 'eval')", "__builtins__"),
    ("globals()['x']", "globals"),
    ("getattr(f, '__glob' + 'als__')", "__globals__"),
    ("getattr(f, f'__{\"globals\"}__')", "__globals__"),
    ("'{0.__class__.__base__}'.format(x)", "__base__"),
    ("import operator\noperator.attrgetter('__class__.__subclasses__')", "__subclasses__"),
    ("match f:\n    case object(__globals__=g): pass", "__globals__"),
    ("print.__self__", "__self__"),
    ("(lambda: 0).__code__", "__code__"),
    ("object.__getattribute__(f, x)", "__getattribute__"),
    ("(x for x in y).gi_frame.f_back.f_globals", "f_"),
    ("import enum\nenum.bltns.eval('1')", "bltns"),
    ("import dataclasses as d\nd.builtins.exec('1')", "builtins"),
    ("import logging.handlers\nlogging.handlers.socket", "socket"),
    ("import asyncio\nasyncio.base_events.subprocess", "subprocess"),
    ("import asyncio\nrun = asyncio.create_subprocess_exec", "create_subprocess_exec"),
    ("import asyncio\nasyncio.get_event_loop().subprocess_exec(p, 'ls')", "subprocess_exec"),
    ("from asyncio import subprocess", "subprocess"),
    ("from asyncio import create_subprocess_shell as run", "create_subprocess_shell"),
    ("from random import _os", "_os"),
    ("import yaml\nyaml.load(x, Loader=yaml.UnsafeLoader)", "safe loader"),
    ("import yaml\nyaml.load(x)", "safe loader"),
    ("import yaml\nyaml.unsafe_load(x)", "unsafe_load"),
    ("import types\ntypes.FunctionType(c, {})", "FunctionType"),
    ("from types import CodeType", "CodeType"),
    ("import core\ncore.secrets", "core"),
    ("from core.infisical import get_secret", "core.infisical"),
    # One line each that leads from an allowed import to the system.
    ("import random\ngetattr(random, '_os').system", "_os"),
    ("import logging\ngetattr(logging, 'os')", "getattr"),
    ("import logging\nvars(logging)['os']", "vars"),
    ("import random\nrandom.__dict__['_os']", "__dict__"),
    ("import random as r\nm = r\nm.whatever", "as a value"),
    ("import random\nf = [random][0]", "as a value"),
    ("import random\nf(random)", "as a value"),
    ("import random\ndef f(m=random): pass", "as a value"),
    ("import asyncio\nb = asyncio.base_events\nb.subprocess", "subprocess"),
    ("from asyncio import base_events as b\nc = b\nc.subprocess", "subprocess"),
    ("from asyncio import base_events as b\ngetattr(b, 'sub' + 'process')", "subprocess"),
    ("from asyncio import base_events as b\ngetattr(b, name)", "getattr"),
    ("from asyncio import base_events as b\nvars(b)", "vars"),
    ("from asyncio import base_events as b\nfor c, d in [(b, 1)]:\n    c.subprocess", "subprocess"),
    ("from asyncio import base_events as b\n(c := b).subprocess\nc.subprocess", "subprocess"),
    ("getattr(x, '_' + 'os')", "_os"),
    ("import operator\noperator.attrgetter('base_events.sys')", "sys"),
    ("import pydantic\npydantic.ImportString", "ImportString"),
    ("from pydantic import ImportString", "ImportString"),
    ("from pydantic import TypeAdapter, ImportString as I", "ImportString"),
    ("import typing\ntyping.get_type_hints(f)", "get_type_hints"),
    ("import logging.config\nlogging.config.dictConfig(x)", "dictConfig"),
    ("x = " + "(" * 100_000 + "1", "Syntax error"),
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
    "from re import compile\np = compile('x')",
    "import yaml\nyaml.load(x, Loader=yaml.SafeLoader)\nyaml.safe_load(x)",
    "'''Says why __globals__ and __subclasses__ are refused.'''",
    "class A:\n    def f(self):\n        self.system = self.io = 'x'\n        super().__init__()",
    "ctx.metadata['socket'] = body.requests",
    "sleep = asyncio_sleep\nx.sleep(1)",
    "type(self).__name__ + self.__class__.__qualname__ + str(self.__dict__)",
    "if __name__ == '__main__': pass",
    "try:\n    import numpy as n\nexcept ImportError:\n    n = None\nif n is None or not n: pass",
    "getattr(self, name)(1)",
    "getattr(ctx, 'error', None)",
    "setattr(self, 'io', 1)",
    "import math\nf = math.sqrt\nf(2)",
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
