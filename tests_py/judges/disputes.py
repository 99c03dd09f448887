"""Where the fidelity judge and this proxy differ, and why the proxy stays as it is.

Each row was looked at by hand; anything the judge says beyond them is a fault of ours. A record is
named by the end of its id, so that a new record of the same kind is looked at again. `why` names
the rule that asks for what the proxy does (section of the wire format notes, rule of failover) and
what in the judge does not know it.
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
        "failover rule 10: a 200 that holds an error, or no JSON at all, is a failure before the "
        "commit point: another provider may serve, and the client gets a status that its SDK "
        "understands. The judge has one rule for all raw bytes (response(), same_bytes)",
    ),
    Dispute(
        "response",
        "call+stop",
        ("656b85", "6f3b1b"),
        "an empty legacy function_call (no name, no arguments) beside the text is a server's zero "
        "value, not a call: nobody could answer it, and a call without a name is a 400 in every "
        "format. The judge takes any non-empty object for a call (facts.read_c)",
    ),
    Dispute("response", "call", ("4a7225", "d92835"), "the same, beside a real call"),
    Dispute(
        "response",
        "sig",
        ("32f76a", "5c0be5", "8bc452", "f72f5d"),
        "a stream gives a reasoning item's token twice, in output_item.done and, sealed anew, in "
        "response.completed; both are good, and only the first comes before the calls that follow "
        "it, where section 8 wants it (complete in output_item.done). The judge reads the second "
        "alone (facts.read_r: r_body of the final response)",
    ),
    Dispute(
        "cut",
        "text",
        ("452e6d", "4da2d0", "5500f1", "7b87e0"),
        "7.1: the model's own refusal is text in Messages and Gemini, and it was said. The judge's "
        "cut() counts text parts alone, where its compare_response() folds refusals in for them",
    ),
    Dispute("turn", "turn-sig", ("32f76a", "5c0be5", "f72f5d"), "the same token, sent back"),
    Dispute(
        "request",
        "effort",
        ("3e5feb", "8c63fd", "98245d"),
        "7.8: max becomes the largest budget, and 24576 is the most that Gemini 2.5 Flash takes; "
        "section 8, 5: thinking is switched off in a tool loop that began without, else Messages "
        "answers 400. The judge allows one step of effort only (compare: 'effort')",
    ),
    Dispute(
        "request",
        "tools",
        ("09ae86", "0cd89e", "841874", "92ae39", "970abc", "d13d63", "e099df"),
        "real clients, 5: tools of an additional_tools item are lifted: Codex sends no others, and "
        "a model that is not told of them cannot go on. The judge reads the key `tools` alone "
        "(reqfacts.req_r)",
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
        "7.5: a required subset goes to Messages as those tools and 'any', and here the subset is "
        "all tools. The judge allows it only where fewer tools arrive (compare: 'subset')",
    ),
    Dispute(
        "request",
        "file",
        ("71c1d3", "b817a6"),
        "7.4: a text file goes to Messages as a document of source text, its base64 decoded: base64"
        " there is for PDF, and the SDK's types say so. The judge compares digests of base64 only "
        "(compare_turn: key)",
    ),
    Dispute(
        "request",
        "result-media",
        ("2b3915",),
        "the text of a text document stays in the result, where Chat, Responses and Gemini take "
        "text; the judge looks for a file (reqfacts.media_key)",
    ),
    Dispute(
        "request",
        "result",
        ("0dece7",),
        "a search_result block's text is kept: without it the tool's answer is empty. The judge "
        "reads blocks of type text alone (reqfacts.texts)",
    ),
)
