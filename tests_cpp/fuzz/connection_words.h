#pragma once

#include <string>
#include <string_view>
#include <vector>

// What clients and upstreams of the connection fuzzer say when it does not make it up: requests and
// replies that lead deep into the engine. A script cuts and repeats them as it likes.
namespace llm_proxy::fuzz {

inline std::string chunk(std::string_view payload) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string size;
  for (std::size_t left = payload.size(); left > 0; left /= 16) size.insert(0, 1, kHex[left % 16]);
  return size + "\r\n" + std::string(payload) + "\r\n";
}

inline std::string post(std::string_view path, std::string_view body, std::string_view fields = {},
                        std::string_view version = "1.1") {
  return "POST " + std::string(path) + " HTTP/" + std::string(version) + "\r\nhost: a\r\n" +
         std::string(fields) + "content-length: " + std::to_string(body.size()) + "\r\n\r\n" +
         std::string(body);
}

inline std::string chat(std::string_view model, bool stream, std::string_view text = "Hello") {
  return R"({"model":")" + std::string(model) + R"(","stream":)" + (stream ? "true" : "false") +
         R"(,"messages":[{"role":"user","content":")" + std::string(text) + R"("}]})";
}

inline const std::vector<std::string>& requests() {
  static const std::string kChat = "/v1/chat/completions";
  static const std::string kPrompt = R"("input":"Hello"})";
  static const std::string kContents = R"({"contents":[{"role":"user","parts":[{"text":"Hi"}]}]})";
  static const std::string kTalk =
      R"(,"max_tokens":9,"messages":[{"role":"user","content":"Hello"}]})";
  static const std::vector<std::string> all{
      "GET /health HTTP/1.1\r\nhost: a\r\n\r\n",
      post(kChat, chat("m", false)),
      post(kChat, chat("m", true)),
      post("/v1/messages", R"({"model":"m","stream":true)" + kTalk),
      post("/v1/messages", R"({"model":"claude:m")" + kTalk),
      post("/v1/responses", R"({"model":"m","stream":true,)" + kPrompt),
      post("/v1/responses", R"({"model":"resp:m",)" + kPrompt),
      post("/v1/responses", R"({"model":"m","previous_response_id":"resp_1",)" + kPrompt),
      post("/v1beta/models/m:streamGenerateContent?alt=sse", kContents),
      post("/v1beta/models/gem:m:streamGenerateContent", kContents),
      post("/v1beta/models/m:generateContent", kContents),
      "POST " + kChat + " HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" +
          chunk(chat("m", true)) + "0\r\n\r\n",
      post(kChat, chat("up:m|claude:m|gem:m", true)),
      post(kChat, chat("up:m!claude:m!py:m", true)),
      post(kChat, chat("up:m!gem:m", false)),
      post(kChat, chat("py:m", true)),
      post(kChat, chat("py:m", false)),
      post(kChat, chat("lent:m", true)),
      post(kChat, chat("echo:m", true)),
      post(kChat, chat("echo:m", false)),
      post(kChat, chat("m", true, "!/set(model=claude:m)")),
      post(kChat, chat("m", false), "expect: 100-continue\r\n"),
      post(kChat, chat("m", true), "connection: keep-alive\r\n", "1.0"),
      post(kChat, chat("m", false), "content-encoding: odd\r\n"),
      post(kChat, chat("m", false), "content-encoding: gzip\r\n"),
      post(kChat, chat("m", false), "authorization: Bearer key\r\n"),
      "POST " + kChat + " HTTP/1.1\r\nhost: a\r\ncontent-length: 50000\r\n\r\n",
      "GET /health HTTP/1.1\r\nhost: a\r\ncontent-length: 50000\r\n\r\n",
      "GET /health HTTP/1.1\r\nhost: a\r\ncontent-length: 50000\r\ncontent-encoding: odd\r\n\r\n",
      "GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
      "HEAD /v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
      post("/v1/embeddings", R"({"model":"m","input":"x"})"),
      post("/v1/completions", R"({"model":"m","prompt":"x","stream":true})"),
      post("/v1/messages/count_tokens", R"({"model":"m")" + kTalk),
      "GET /v1/responses/resp_1 HTTP/1.1\r\nhost: a\r\n\r\n",
      "GET /v1/diagnostics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
  };
  return all;
}

inline const std::string& completion() {
  static const std::string text =
      R"({"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,)"
      R"("message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],)"
      R"("usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}})";
  return text;
}

inline std::string delta(std::string_view text, bool last) {
  return R"(data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",)"
         R"("choices":[{"index":0,"delta":{"role":"assistant","content":")" +
         std::string(text) + R"("},"finish_reason":)" + (last ? R"("stop")" : "null") + "}]}\n\n";
}

inline std::string reply(std::string_view status, std::string_view body,
                         std::string_view fields = {}) {
  return "HTTP/1.1 " + std::string(status) + "\r\ncontent-type: application/json\r\n" +
         std::string(fields) + "content-length: " + std::to_string(body.size()) + "\r\n\r\n" +
         std::string(body);
}

inline const std::vector<std::string>& replies() {
  static const std::string kError = R"({"error":{"type":"x","message":"no","code":"x"}})";
  static const std::string kMessage =
      R"({"id":"msg","type":"message","role":"assistant","model":"m","content":[{"type":"text",)"
      R"("text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}})";
  static const std::string kGemini =
      R"({"candidates":[{"content":{"role":"model","parts":[{"text":"hi"}]},"finishReason":"STOP",)"
      R"("index":0}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1}})";
  static const std::string kResponse =
      R"({"id":"r","object":"response","created_at":1,"status":"completed","model":"m","output":[)"
      R"({"type":"message","id":"i","role":"assistant","status":"completed","content":[)"
      R"({"type":"output_text","text":"hi","annotations":[]}]}],"usage":{"input_tokens":1,)"
      R"("output_tokens":1,"total_tokens":2}})";
  static const std::vector<std::string> all{
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
      chunk(delta("hi", false)),
      chunk(delta("", true)),
      chunk("data: [DONE]\n\n"),
      "0\r\n\r\n",
      reply("200 OK", completion()),
      reply("200 OK", kMessage),
      reply("200 OK", kGemini),
      reply("200 OK", kResponse),
      chunk("event: message_start\ndata: "
            R"({"type":"message_start","message":{"id":"msg","type":"message","role":"assistant",)"
            R"("model":"m","content":[],"usage":{"input_tokens":1,"output_tokens":1}}})"
            "\n\nevent: content_block_start\ndata: "
            R"({"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}})"
            "\n\n"),
      chunk("event: content_block_delta\ndata: "
            R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}})"
            "\n\n"),
      chunk("event: message_delta\ndata: "
            R"({"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":)"
            R"({"output_tokens":2}})"
            "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
      chunk("data: " + kGemini + "\n\n"),
      chunk("event: response.output_text.delta\ndata: "
            R"({"type":"response.output_text.delta","output_index":0,"content_index":0,)"
            R"("item_id":"i","delta":"hi"})"
            "\n\n"),
      chunk("event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":" +
            kResponse + "}\n\n"),
      chunk(": a comment\n\n"),
      chunk("data: {\"error\":{\"message\":\"no\"}}\n\n"),
      reply("401 Unauthorized", kError),
      reply("429 Too Many Requests", kError, "retry-after: 1\r\n"),
      reply("503 Service Unavailable", kError),
      reply("302 Found", "", "location: /\r\n"),
      "HTTP/1.1 100 Continue\r\n\r\n",
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n",
      delta("unframed", false),
      reply("200 OK", "{}", "content-encoding: gzip\r\n"),
      R"(HTTP/1.1 200 OK)"
      "\r\ncontent-length: 100000\r\n\r\n",
      reply("200 OK", R"({"object":"list","data":[{"id":"m","object":"model"}]})"),
  };
  return all;
}

// What ring plugins may put in the place of a body.
inline const std::vector<std::string>& verdict_bodies() {
  static const std::vector<std::string> all{chat("m", true, "other"), completion(), "", "{",
                                            chat("claude:m", false)};
  return all;
}

}  // namespace llm_proxy::fuzz
