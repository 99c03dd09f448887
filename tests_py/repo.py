"""Where things are, and which files belong to the repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def tracked(*patterns: str) -> list[Path]:
    """Files git knows or would add, so that a test sees what is about to be committed."""
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [
        ROOT / name for name in sorted(set(out.split("\0"))) if name and (ROOT / name).is_file()
    ]
