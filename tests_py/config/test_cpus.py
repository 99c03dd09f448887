"""The default number of threads follows what this process may use, not the size of the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_proxy import cpus
from llm_proxy.config.explain import explain
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot
from llm_proxy.cpus import Cpus, usable_cpus

V2, V1 = "0::/team/proxy\n", "7:memory:/team\n4:cpu,cpuacct:/team/proxy\n"


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host of eight processors, all of them allowed."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


def planted(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


GROUP2, GROUP1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("cgroup", "files", "count"),
    [
        (V2, {f"{GROUP2}/team/proxy/cpu.max": "200000 100000\n"}, 2),
        (V2, {f"{GROUP2}/team/proxy/cpu.max": "150000 100000\n"}, 2),
        (V2, {f"{GROUP2}/team/proxy/cpu.max": "10000 100000\n"}, 1),
        (V2, {f"{GROUP2}/team/proxy/cpu.max": "max 100000\n"}, 8),
        (V2, {f"{GROUP2}/team/proxy/cpu.max": "9000000 100000\n"}, 8),
        (V2, {f"{GROUP2}/team/proxy/cpu.max": "max 1\n", f"{GROUP2}/team/cpu.max": "3 1\n"}, 3),
        (V2, {f"{GROUP2}/cpu.max": "100000 100000\n"}, 1),  # a container sees its group as the root
        (V2, {f"{GROUP2}/unified/team/proxy/cpu.max": "4 1\n"}, 4),
        (V2, {f"{GROUP2}/team/proxy/cpu.max": "garbage\n"}, 8),
        ("0::/../x\n", {"sys/fs/x/cpu.max": "1 1\n", f"{GROUP2}/y": ""}, 8),
        (
            V1,
            {
                f"{GROUP1}/team/proxy/cpu.cfs_quota_us": "250000\n",
                f"{GROUP1}/team/proxy/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            V1,
            {
                "sys/fs/cgroup/cpu/team/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/team/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            V1,
            {
                f"{GROUP1}/team/proxy/cpu.cfs_quota_us": "-1\n",
                f"{GROUP1}/team/proxy/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        ("", {}, 8),
    ],
)
@pytest.mark.usefixtures("eight")
def test_a_quota_of_the_group_or_of_one_around_it_counts(
    tmp_path: Path, cgroup: str, files: dict[str, str], count: int
) -> None:
    found = usable_cpus(planted(tmp_path, cgroup, files))
    assert found.count == count
    named = [name for name in files if str(tmp_path / name) in found.reason]
    assert len(named) == (1 if count < 8 else 0), found.reason


@pytest.mark.usefixtures("eight")
def test_the_smaller_of_mask_and_quota_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {1, 5})
    root = planted(tmp_path, V2, {f"{GROUP2}/cpu.max": "300000 100000"})
    assert usable_cpus(root) == Cpus(2, "the affinity mask allows 2 of 8 processors")
    (root / GROUP2 / "cpu.max").write_text("100000 100000")
    assert usable_cpus(root).count == 1


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors to leave one out")
def test_a_real_affinity_mask_sets_the_engines_threads() -> None:
    code = (
        "import json, os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from llm_proxy.config.load import Sources, load;"
        "from llm_proxy.config.snapshot import snapshot;"
        "from llm_proxy.rings.runtime.wasm_runner import WasmLimits;"
        "print(json.loads(snapshot(load(Sources())))['io_threads'], WasmLimits().instances)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.split() == ["1", "1"]


def test_explain_says_why_that_many_and_what_the_user_set_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpus, "usable_cpus", lambda: Cpus(3, "the reason"))
    (line,) = (row for row in explain(load(Sources())) if row.startswith("io_threads "))
    assert line.split(maxsplit=2)[1:] == ["0", "default; 3 now: the reason"]
    assert json.loads(snapshot(load(Sources())))["io_threads"] == 3
    set_by_hand = load(Sources(environment={"LLM_PROXY_IO_THREADS": "7"}))
    (line,) = (row for row in explain(set_by_hand) if row.startswith("io_threads "))
    assert "the reason" not in line
    assert json.loads(snapshot(set_by_hand))["io_threads"] == 7
