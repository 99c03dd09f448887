"""The fidelity judge on a sample of the recorded traffic: all 16 pairs, all four directions.

LLM_PROXY_FIDELITY_SAMPLE says how many records of each pair and direction (0: all, a minute).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from judges.table import KNOWN, complaint, table, verdict

PROFILE = Path(__file__).with_name("fidelity.py")
# A namespace of its own makes the judge's fixed ports free; that takes root.
ISOLATE = ("--isolate",) if os.geteuid() == 0 else ()
SAMPLE = os.environ.get("LLM_PROXY_FIDELITY_SAMPLE", "20")


@pytest.mark.alone
def test_every_sampled_record_arrives_as_it_was_said(shared: Path, tmp_path: Path) -> None:
    judge = shared / "tools" / "fidelity" / "judge.py"
    if not judge.is_file():
        pytest.skip("the judge is not here")
    details = tmp_path / "details.json"
    judged = subprocess.run(
        [
            *(sys.executable, str(judge), "--profile", str(PROFILE)),
            *("--corpus", str(shared / "corpus"), "--out", str(details), *ISOLATE),
            *("--sample", SAMPLE),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert details.is_file(), judged.stdout + judged.stderr
    rows = json.loads(details.read_text(encoding="utf-8"))
    assert len(rows) >= 16 * 4
    print(table(rows))
    wrong = [(*complaint(row), row["diffs"][:2]) for row in rows if verdict(row) == "wrong"]
    assert not wrong, json.dumps(wrong[:5], indent=1, ensure_ascii=False)
    if SAMPLE == "0":
        disputed = {complaint(row) for row in rows if verdict(row) == "disputed"}
        assert disputed == KNOWN, "a dispute is settled: its row goes"
