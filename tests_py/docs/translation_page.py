"""Writes docs/translation.md from the code that decides what a translation loses.

python tests_py/docs/translation_page.py > docs/translation.md
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "cpp" / "formats"
FORMATS = {
    "openai_chat": "OpenAI Chat Completions",
    "openai_responses": "OpenAI Responses",
    "anthropic_messages": "Anthropic Messages",
    "gemini_generate": "Gemini generateContent",
}
CLASSES = {"refuse": "refused with 400", "degrade": "lost, logged", "drop": "dropped, logged"}
LOSS = re.compile(
    r"\blose\(\s*(?:translation_,\s*)?Loss::Class::(\w+),\s*"
    r'(?:"([^"]+)"|(\w+(?:->|\.)type))\s*(?:,\s*"([^"]+)")?'
)
REFUSAL = re.compile(r'\brefuse\(\s*"([^"]+)",\s*"([^"]+)"')
FIELD_ROW = re.compile(r'LossRow\{"([^"]+)"(?:, Loss::Class::(\w+))?\}')
# Losses that stand in tables of their encoder.
CLASSED_ROW = re.compile(r'\{"(\w+)", [^{}"]*Loss::Class::(\w+)\}')
SAMPLING_ROW = re.compile(r'\{"(\w+)", sampling\.\w+\}')
SAMPLING_CALL = re.compile(r'write_sampling\("(\w+)"')

HEAD = """# What a translation loses

Between two formats everything has its place but what is listed here. Nothing goes in silence: each
request's line in the access log names its losses (`lost=…`), and what would change the answer
unseen is refused. This page is written by `tests_py/docs/translation_page.py` from the code that
decides; a test holds it to that.

Where client and provider speak the same format nothing is translated: the bytes pass.
"""


def table(rows: set[tuple[str, str, str]]) -> str:
    order = list(CLASSES)
    lines = ["| what | becomes | remark |", "|---|---|---|"]
    for what, kind, note in sorted(rows, key=lambda row: (order.index(row[1]), row[0], row[2])):
        lines.append(f"| {what} | {CLASSES[kind]} | {note} |")
    return "\n".join(lines)


def source_of(name: str) -> str:
    """The sources of one format that translate, in one text."""
    files = sorted(set((FOLDER / name).glob("*.cc")) - {FOLDER / name / "format.cc"})
    return "".join(path.read_text(encoding="utf-8") for path in files)


def to_upstream(name: str) -> set[tuple[str, str, str]]:
    """What cannot be said in this format."""
    source = source_of(name)
    rows = {
        (f"`{field}`" if field else "parts only their provider knows", kind, note)
        for kind, field, _, note in LOSS.findall(source)
    }
    rows |= {
        (f"`{field}`", "refuse", why.removesuffix(" (")) for field, why in REFUSAL.findall(source)
    }
    rows |= {(f"`{field}`", kind, "") for field, kind in CLASSED_ROW.findall(source)}
    rows |= {(f"`{field}`", "degrade", "") for field in SAMPLING_ROW.findall(source)}
    unfit = "not taken beside thinking or by this model"
    rows |= {(f"`{field}`", "degrade", unfit) for field in SAMPLING_CALL.findall(source)}
    if '"clamped to 1"' in source:
        rows.add(("`temperature`", "degrade", "clamped to 1"))
    return rows


def from_client(name: str) -> set[tuple[str, str, str]]:
    """Fields of this format's requests that no other format has."""
    rows = FIELD_ROW.findall((FOLDER / name / "format.cc").read_text(encoding="utf-8"))
    return {(f"`{field}`", kind or "drop", "") for field, kind in rows}


def page() -> str:
    parts = [HEAD]
    for name, title in FORMATS.items():
        parts.append(
            f"## A client of {title} with another provider\n\n{table(from_client(name))}\n"
        )
    parts.append("A field that is in no table is lost and logged.\n")
    for name, title in FORMATS.items():
        parts.append(
            f"## Any other client with a provider of {title}\n\n{table(to_upstream(name))}\n"
        )
    parts.append(
        "## Reasoning\n\n"
        "Signatures and encrypted reasoning go back to the provider that made them and to nobody\n"
        "else. Where the client's format has a field for them they ride in it, marked with their\n"
        "maker; for clients that drop them the proxy keeps them beside the tool call they led to,\n"
        "for an hour after their last use and within bounds. There it also keeps the ids of\n"
        "calls for Gemini clients that send none back: the provider sees its own again. OpenAI\n"
        "seals the reasoning of a stream twice, and the second time when most clients have been\n"
        "told it: what goes back is the second.\n"
    )
    parts.append(
        "## Refusals\n\n"
        "Messages and Gemini have no place for a model's own refusal but the text of the answer.\n"
        "There it is told when it is complete: a broken stream never leaves half a refusal that\n"
        "looks like half an answer.\n"
    )
    parts.append(
        "## What came before\n\n"
        "`previous_response_id` and `conversation` are served from what the proxy keeps, whoever\n"
        "answers. What it does not know is left to a provider of the same format; any other would\n"
        "answer without the past, so there it is refused: 400 for the response, 404 for the\n"
        "conversation.\n"
    )
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
