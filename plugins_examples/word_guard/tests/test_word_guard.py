"""What an author tests: verdicts, and what they leave alone."""

from word_guard.plugins import WordGuard, count_replies

from llm_proxy.testing import RingProbe


async def test_a_word_is_refused_before_the_provider_hears_of_it():
    async with RingProbe(WordGuard, {"words": ["swordfish"]}) as probe:
        refused = await probe.ask("The word is Swordfish")
        refused.assert_blocked(403, "forbidden_word")
        assert refused.sent == []


async def test_everything_else_passes_whole_or_streamed():
    async with RingProbe(WordGuard, {"words": ["swordfish"]}) as probe:
        for stream in (False, True):
            passed = await probe.ask("Hello", stream=stream, reply="Good day")
            passed.assert_passed()
            assert passed.text == "Good day"


async def test_a_function_looks_at_replies():
    async with RingProbe(count_replies) as probe:
        (await probe.ask("Hello")).assert_passed()
