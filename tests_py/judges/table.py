"""The table of the fidelity judge: what became of every record, pair by pair.

    judge.py --profile tests_py/judges/fidelity.py --corpus CORPUS --sample 0 --out details.json
    python tests_py/judges/table.py details.json

`disputed` rows are those of disputes.py; `wrong` is everything else that is neither equal nor a
listed loss, and must be none.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from judges.disputes import DISPUTES

KNOWN = {(d.direction, d.codes, record) for d in DISPUTES for record in d.records}
COLUMNS = ("equal", "listed loss", "disputed", "wrong")
DIRECTIONS = ("response", "cut", "turn", "request")
Row = dict[str, Any]


def complaint(row: Row) -> tuple[str, str, str]:
    """What the judge says of a row, as disputes.py names it."""
    codes = "+".join(sorted({diff[0] for diff in row["diffs"]}))
    return row["direction"], codes, row["id"].rsplit("-", 1)[-1]


def verdict(row: Row) -> str:
    if row["class"] == "equal":
        return "equal"
    if row["class"] == "allowed":
        return "listed loss"
    return "disputed" if complaint(row) in KNOWN else "wrong"


def table(rows: list[Row]) -> str:
    """One line a pair, client to upstream, with the counts of all four directions."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for line in (row["pair"], f"all: {row['direction']}", "all"):
            counts[line][verdict(row)] += 1
    order = [f"{x}-{y}" for x in "CRAG" for y in "CRAG"]
    order += [f"all: {direction}" for direction in DIRECTIONS] + ["all"]
    lines = [f"{'pair':14}{'records':>9}" + "".join(f"{name:>13}" for name in COLUMNS)]
    for line in order:
        if line in counts:
            told = "".join(f"{counts[line][name]:>13}" for name in COLUMNS)
            lines.append(f"{line:14}{counts[line].total():>9}{told}")
    return "\n".join(lines)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as details:
        print(table(json.load(details)))
