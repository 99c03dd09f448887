"""Where the fidelity judge and this proxy differ, and why the proxy stays as it is.

Each row was looked at by hand; anything the judge says beyond them is a fault of ours. A record is
named by the end of its id, so that a new record of the same kind is looked at again. `why` quotes
the rule that asks for what the proxy does (section of the wire format notes, rule of failover) and
names what in the judge does not know it; `shown_by` is what a doubter may look at: a record of the
corpus in which the provider or the recorded client did the same, or the SDK's type.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dispute:
    direction: str
    codes: str  # what the judge calls it, joined by +
    records: tuple[str, ...]
    why: str
    shown_by: str


DISPUTES = (
    Dispute(
        "response",
        "call+stop",
        ("656b85", "6f3b1b"),
        "an empty legacy function_call (no name, no arguments) beside the text is a server's zero "
        "value, not a call: nobody could answer it, and a call without a name is a 400 in every "
        "format. The judge takes any non-empty object for a call (facts.read_c)",
        "the same messages hold audio, custom, refusal, id and finish_reason, all empty; a server "
        "that writes its whole struct",
    ),
    Dispute(
        "response",
        "call",
        ("4a7225", "d92835"),
        "the same, beside a real call",
        "the recorded client answered one call, not two: 656b85 and 6f3b1b are its next requests",
    ),
    Dispute(
        "response",
        "sig",
        ("32f76a", "5c0be5", "8bc452", "f72f5d"),
        "8: encrypted_content is 'complete only in output_item.done', which comes before the call "
        "it belongs to. OpenAI seals the same item anew for response.completed (13 of the 13 "
        "sealed items it streams in the corpus; same length, another token), when a Messages "
        "client has long been told its thinking block, with the first. The judge reads the second "
        "alone (facts.read_r: r_body of the final response)",
        "the second is what goes back upstream (turn direction), and a Gemini client gets it; the "
        "first is good too: pai-openai-openai-responses-phase-streamed-on-part-start-1-ac8f0e, "
        "status 200",
    ),
    Dispute(
        "request",
        "effort",
        ("98245d",),
        "7.8: 'xhigh, max' become 'max budget', which for gemini-2.5-flash is 24576; more is a "
        "400. The judge allows one step of effort, and counts 24576 as two steps below max "
        "(compare.rank)",
        "7.8 gives the same 24576 for high: Gemini has no step above it",
    ),
    Dispute(
        "request",
        "effort",
        ("3e5feb", "8c63fd"),
        "8, way 5: 'when the last assistant turn has tool_use, switch thinking off for this call "
        "(a tool_use turn without its thinking block is a 400 with thinking on)'. The judge wants "
        "the effort to arrive in some form (compare: 'effort')",
        "the thinking of these turns is Gemini's, and claude-sonnet-4-5 knows no effort but "
        "through thinking (2.1)",
    ),
    Dispute(
        "request",
        "tools",
        ("09ae86", "0cd89e", "841874", "92ae39", "970abc", "d13d63", "e099df"),
        "real clients, 5.3: 'R additional_tools input item …: lift'; 4: 'A translator that reads "
        "tools only gives the model no tools: the run ends with exit 0 and a useless answer'. The "
        "judge reads the key tools alone (reqfacts.req_r) and calls the lifted ones too many",
        "the recorded model calls the tool that stands in additional_tools: e099df, whose request "
        "has no other",
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
        "7.5, subset to Messages: 'send only those tools (any if required)'. Here the required "
        "subset is all tools, so any means the same. The judge allows it only where fewer tools "
        "arrive or in another order (compare: 'subset')",
        "Messages has auto, any, one tool and none (SDK: ToolChoiceParam): no other word exists",
    ),
    Dispute(
        "request",
        "file",
        ("71c1d3", "b817a6"),
        "7.4: a text file goes to Messages as 'document source text', its base64 decoded. The "
        "judge compares digests of base64 only (compare_turn: key)",
        "the SDK's Base64PDFSourceParam takes application/pdf alone, PlainTextSourceParam the text",
    ),
    Dispute(
        "request",
        "result-media",
        ("2b3915",),
        "7.4: a text file to Chat is 'inline as text', to Responses 'input_file or inline', to "
        "Gemini 'text/plain or text', and results of Chat take text alone. The judge allows it in "
        "a message (compare_turn: inline), not in a result (reqfacts.media_key)",
        "the words of the document stand in the result that arrives",
    ),
    Dispute(
        "request",
        "result",
        ("0dece7",),
        "16.12: 'in a format without a place for them their result text stays': without the text "
        "of its search_result block the tool's answer is empty. The judge reads blocks of type "
        "text alone (reqfacts.texts)",
        "the recorded model answers from that text",
    ),
)
