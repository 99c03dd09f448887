"""What an author tests: the contract, and the whole way from a client to the provider."""

import httpx
from httpx_backend.connector import MyProvider

from llm_proxy.testing import Reply, ScriptedUpstream, backend_problems, running_proxy

ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "my-model",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello"},
            "finish_reason": "stop",
        }
    ],
}


def test_the_proxy_can_use_it():
    assert backend_problems(MyProvider) == []


async def test_a_client_of_another_format_gets_its_answer():
    async with ScriptedUpstream(lambda request: Reply(ANSWER)) as provider:
        backend = {"api_url": f"{provider.url}/v1", "api_key": "secret"}
        config = {"default_backend": "my-provider", "backends": {"my-provider": backend}}
        async with running_proxy(config) as url, httpx.AsyncClient(base_url=url) as client:
            message = {"role": "user", "content": "Hi"}
            asked = {"model": "my-model", "max_tokens": 9, "messages": [message]}
            reply = await client.post("/v1/messages", json=asked)
    assert reply.json()["content"] == [{"type": "text", "text": "Hello"}]
    assert provider.requests[0].headers["authorization"] == "Bearer secret"
