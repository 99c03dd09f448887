from llm_proxy.backends.tokens import count_tokens, count_tokens_async, extract_prompt_text

__all__ = ["count_tokens", "count_tokens_async", "extract_prompt_text"]
