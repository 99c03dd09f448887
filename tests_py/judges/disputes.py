"""Where the fidelity judge and this proxy differ, and why the proxy stays as it is.

Each row was looked at by hand; anything the judge says beyond them is a fault of ours. A record is
named by the end of its id, so that a new record of the same kind is looked at again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dispute:
    direction: str
    codes: str  # what the judge calls it, joined by +
    records: tuple[str, ...]
    why: str


DISPUTES = (
    Dispute(
        "response",
        "bytes",
        ("24beba", "c4d177", "dfb7ec"),
        "a 200 that holds an error, or no JSON at all, is a failure before the commit "
        "point: the client gets a status that its SDK understands, and another provider "
        "may serve",
    ),
    Dispute(
        "response",
        "call+stop",
        ("656b85", "6f3b1b"),
        "an empty legacy function_call (no name, no arguments) beside the text is a "
        "server's zero value, not a call: nobody could answer it",
    ),
    Dispute("response", "call", ("4a7225", "d92835"), "the same, beside a real call"),
    Dispute(
        "response",
        "sig",
        ("32f76a", "5c0be5", "8bc452", "f72f5d"),
        "a stream gives a reasoning item's token twice, in output_item.done and in "
        "response.completed, sealed anew; both are good, and only the first comes before "
        "the calls that follow it",
    ),
    Dispute(
        "cut",
        "text",
        ("452e6d", "4da2d0", "5500f1", "7b87e0"),
        "the model's refusal was said; the check counts text parts alone, and these "
        "formats have no other place for it",
    ),
    Dispute("turn", "turn-sig", ("32f76a", "5c0be5", "f72f5d"), "the same token, sent back"),
    Dispute(
        "request",
        "effort",
        ("3e5feb", "8c63fd", "98245d"),
        "24576 is the most that Gemini 2.5 Flash takes; Messages refuses budget thinking "
        "in a tool loop that began without",
    ),
    Dispute(
        "request",
        "tools",
        ("09ae86", "0cd89e", "841874", "92ae39", "970abc", "d13d63", "e099df"),
        "tools loaded by an additional_tools item are offered: a model that is not told "
        "of them cannot go on",
    ),
    Dispute(
        "request",
        "choice",
        (
            "19490f",
            "1cf862",
            "45a92b",
            "4ab31a",
            "5e7639",
            "759a08",
            "924117",
            "952787",
            "aa8907",
            "ad5373",
            "c647c7",
            "c8b91e",
            "cc4c66",
            "d19ddd",
            "d34607",
        ),
        "'any' of the same tools is what a required subset of all tools says",
    ),
    Dispute(
        "request",
        "file",
        ("71c1d3", "b817a6"),
        "a text file goes to Messages as a text document, its base64 decoded: base64 "
        "there is for PDF",
    ),
    Dispute(
        "request",
        "result-media",
        ("2b3915",),
        "the text of a text document stays in the result; it is no media there",
    ),
    Dispute("request", "result", ("0dece7",), "a search_result block's text is kept"),
)
