#include "formats/openai_chat/format.h"

#include <gtest/gtest.h>

#include "formats/shared/reasoning.h"
#include "tests_cpp/formats/support.h"

namespace llm_proxy {
namespace {

using test::Json;

struct StreamCase {
  const char* what;
  std::vector<const char*> data;  // the data of each event
  const char* events;             // or the error's name when the stream fails
};

std::string run_stream(const std::vector<const char*>& data) {
  auto decoder = kOpenaiChat.reply_decoder(Translation{});
  test::EventLog log;
  for (const char* each : data) {
    if (Result<void> step = decoder->on_stream_event("", each, log); !step) {
      return log.text + std::string(name(step.error().kind));
    }
  }
  if (Result<void> end = decoder->on_stream_end(log); !end) {
    return log.text + std::string(name(end.error().kind));
  }
  return log.text;
}

#define DELTA(json) \
  R"({"id":"c","model":"m","choices":[{"index":0,"delta":)" json R"(,"finish_reason":null}]})"
#define FINISH(word) R"({"choices":[{"index":0,"delta":{},"finish_reason":")" word R"("}]})"

TEST(ChatReply, is_read_from_every_servers_dialect) {
  const std::vector<StreamCase> cases{
      {"text",
       {DELTA(R"({"role":"assistant","content":""})"), DELTA(R"({"content":"a\u00e9"})"),
        DELTA(R"({"content":"b"})"), FINISH("stop"),
        R"({"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}})",
        "[DONE]"},
       "start m\n0 text:aé|b|\nusage in 3 out 2\nfinish stop\n"},
      {"reasoning, then text, then two calls",
       {DELTA(R"({"reasoning_content":"hm"})"), DELTA(R"({"content":"x"})"),
        DELTA(
            R"({"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]})"),
        DELTA(R"({"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":1}"}}]})"),
        DELTA(
            R"({"tool_calls":[{"index":1,"id":"c2","type":"function","function":{"name":"g","arguments":"{}"}}]})"),
        FINISH("tool_calls"), "[DONE]"},
       "start m\n0 thinking:hm|\n1 text:x|\n2 call f c1:{\"a\":1}|\n3 call g c2:{}|\nfinish "
       "tool_calls\n"},
      {"interleaved calls are held back",
       {DELTA(
            R"({"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"{\"a\""}},{"index":1,"id":"c2","function":{"name":"g","arguments":"{\"b\""}}]})"),
        DELTA(R"({"tool_calls":[{"index":1,"function":{"arguments":":2}"}}]})"),
        DELTA(R"({"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]})"),
        FINISH("tool_calls"), "[DONE]"},
       "start m\n0 call f c1:{\"a\"|:1}|\n1 call g c2:{\"b\":2}|\nfinish tool_calls\n"},
      {"whole calls without index (Mistral)",
       {DELTA(
            R"({"tool_calls":[{"id":"c1","function":{"name":"f","arguments":"{}"}},{"id":"c2","function":{"name":"f","arguments":"{}"}}]})"),
        FINISH("tool_calls"), "[DONE]"},
       "start m\n0 call f c1:{}|\n1 call f c2:{}|\nfinish tool_calls\n"},
      {"an empty id on later pieces is no new call (Alibaba)",
       {DELTA(
            R"({"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]})"),
        DELTA(
            R"({"tool_calls":[{"index":0,"id":"","type":"function","function":{"arguments":"{}"}}]})"),
        FINISH("tool_calls"), "[DONE]"},
       "start m\n0 call f c1:{}|\nfinish tool_calls\n"},
      {"a second id at one index is a new call",
       {DELTA(R"({"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":"{}"}}]})"),
        DELTA(R"({"tool_calls":[{"index":0,"id":"c2","function":{"name":"f","arguments":"{}"}}]})"),
        FINISH("stop"), "[DONE]"},
       "start m\n0 call f c1:{}|\n1 call f c2:{}|\nfinish tool_calls\n"},
      {"a call without arguments has an empty object",
       {DELTA(R"({"tool_calls":[{"index":0,"id":"c1","function":{"name":"f","arguments":""}}]})"),
        FINISH("tool_calls"), "[DONE]"},
       "start m\n0 call f c1:{}|\nfinish tool_calls\n"},
      {"content parts (Mistral)",
       {DELTA(
            R"({"content":[{"type":"thinking","thinking":[{"type":"text","text":"t"}]},{"type":"text","text":"x"}]})"),
        FINISH("stop"), "[DONE]"},
       "start m\n0 thinking:t|\n1 text:x|\nfinish stop\n"},
      {"refusal",
       {DELTA(R"({"refusal":"no"})"), FINISH("stop"), "[DONE]"},
       "start m\n0 refusal:no|\nfinish stop\n"},
      {"two finish chunks, usage on the second (OpenRouter)",
       {DELTA(R"({"content":"x"})"), FINISH("stop"),
        R"({"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}})",
        "[DONE]"},
       "start m\n0 text:x|\nusage in 1 out 2\nfinish stop\n"},
      {"reasoning left out of completion_tokens (xAI)",
       {DELTA(R"({"content":"x"})"),
        R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":2,"total_tokens":334,"completion_tokens_details":{"reasoning_tokens":320}}})",
        "[DONE]"},
       "start m\n0 text:x|\nusage in 12 out 322 reasoning 320\nfinish stop\n"},
      {"usage under x_groq",
       {DELTA(R"({"content":"x"})"),
        R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"x_groq":{"usage":{"prompt_tokens":1,"completion_tokens":1}}})",
        "[DONE]"},
       "start m\n0 text:x|\nusage in 1 out 1\nfinish stop\n"},
      {"a first chunk without choices (Azure)",
       {R"({"choices":[],"id":"","model":"","prompt_filter_results":[]})",
        DELTA(R"({"content":"x"})"), FINISH("stop"), "[DONE]"},
       "start m\n0 text:x|\nfinish stop\n"},
      {"an end after the finish reason is an end (Perplexity)",
       {DELTA(R"({"content":"x"})"), FINISH("stop")},
       "start m\n0 text:x|\nfinish stop\n"},
      {"an end before it is none", {DELTA(R"({"content":"x"})")}, "start m\n0 text:x|upstream_cut"},
      {"an error in a chunk ends everything",
       {DELTA(R"({"content":"x"})"), R"({"error":{"message":"busy","code":429},"choices":[]})",
        "[DONE]"},
       "start m\n0 text:x|error rate_limited busy\n"},
      {"other choices are left out",
       {R"({"choices":[{"index":1,"delta":{"content":"no"},"finish_reason":null},{"index":0,"delta":{"content":"yes"},"finish_reason":null}]})",
        FINISH("stop"), "[DONE]"},
       "start \n0 text:yes|\nfinish stop\n"},
      {"legacy function_call",
       {DELTA(R"({"function_call":{"name":"f","arguments":""}})"),
        DELTA(R"({"function_call":{"arguments":"{}"}})"), FINISH("function_call"), "[DONE]"},
       "start m\n0 call f :{}|\nfinish tool_calls\n"},
      {"cut by the limit inside a call",
       {DELTA(
            R"({"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a"}}]})"),
        FINISH("length"), "[DONE]"},
       "start m\n0 call f c:{\"a|\nfinish length\n"},
      {"garbage", {"<html>"}, "upstream_garbled"},
      {"an empty stream", {}, "upstream_cut"},
  };
  for (const StreamCase& each : cases) EXPECT_EQ(run_stream(each.data), each.events) << each.what;
}

struct RequestCase {
  const char* what;
  const char* body;      // Messages
  const char* expected;  // Chat
};

std::string to_chat(const char* body, Translation translation = {}) {
  Result<Request> request =
      format_of(WireFormat::anthropic_messages).decode_request(body, {}, false);
  if (!request) return request.error().message;
  std::string out;
  if (Result<void> encoded = kOpenaiChat.encode_request(*request, translation, out); !encoded) {
    return "refused " + encoded.error().param;
  }
  return out;
}

TEST(ChatRequest, is_written_from_messages) {
  const std::vector<RequestCase>
      cases{
          {"system, limits and stop",
           R"({"model":"m","max_tokens":9,"system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},{"type":"text","text":"b"}],"messages":[{"role":"user","content":"hi"}],"stop_sequences":["x"],"top_k":3,"stream":true})",
           R"({"model":"m","messages":[{"role":"system","content":"a\n\nb"},{"role":"user","content":"hi"}],"max_tokens":9,"stop":["x"],"stream":true,"stream_options":{"include_usage":true}})"},
          {"results before text, each its own message, images after them",
           R"({"model":"m","messages":[{"role":"assistant","content":[{"type":"text","text":"t"},{"type":"tool_use","id":"a","name":"f","input":{"x": 1}},{"type":"tool_use","id":"b","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"1"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QQ=="}}]},{"type":"tool_result","tool_use_id":"b","content":"2","is_error":true},{"type":"text","text":"go"}]}]})",
           R"({"model":"m","messages":[{"role":"assistant","content":"t","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":"2"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,QQ=="}},{"type":"text","text":"go"}]}]})"},
          {"invalid arguments come back as their text",
           R"({"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"_raw_arguments":"{\"x"}}]}]})",
           R"({"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x"}}]}]})"},
          {"tools and choice",
           R"({"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"name":"f","description":"d","input_schema":{"type":"object"}},{"name":"DeferredToolPlaceholder","defer_loading":true,"input_schema":{}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true}})",
           R"({"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"tool_choice":"required","parallel_tool_calls":false})"},
          {"system in mid conversation stays in its place",
           R"({"model":"m","messages":[{"role":"user","content":"x"},{"role":"system","content":"s"},{"role":"user","content":"y"}]})",
           R"({"model":"m","messages":[{"role":"user","content":"x"},{"role":"system","content":"s"},{"role":"user","content":"y"}]})"},
          {"a schema for the output, and effort from a budget", R"({"model":"m","messages":[{"role":"user","content":"x"}],"thinking":{"type":"enabled","budget_tokens":2048},"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}})", R"({"model":"m","messages":[{"role":"user","content":"x"}],"reasoning_effort":"low","response_format":{"type":"json_schema","json_schema":{"name":"response","schema":{"type":"object"}}}})"},
          {"thinking of another provider is left out",
           R"({"model":"m","messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"x"}]}]})",
           R"({"model":"m","messages":[{"role":"assistant","content":"x"}]})"},
          {"web search beside the client's own tools stays behind",
           R"({"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"web_search_20250305","name":"web_search"},{"name":"f","input_schema":{"type":"object"}}]})",
           R"({"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]})"},
          {"another server tool beside the client's own is refused",
           R"({"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"tool_search_tool_bm25_20251119","name":"tool_search"},{"name":"f","input_schema":{"type":"object"}}]})",
           "refused tools"},
          {"a server tool that must be called is refused",
           R"({"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"web_search_20250305","name":"web_search"},{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"web_search"}})",
           "refused tools"},
          {"a server tool alone is refused",
           R"({"model":"m","messages":[],"tools":[{"type":"web_search_20250305","name":"web_search"}]})",
           "refused tools"},
          {"a file id is refused",
           R"({"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{"type":"file","file_id":"f"}},{"type":"text","text":"x"}]}]})",
           "refused file_id"},
      };
  for (const RequestCase& each : cases) EXPECT_EQ(to_chat(each.body), each.expected) << each.what;
}

TEST(ChatRequest, follows_the_quirks_of_a_server) {
  Translation translation;
  translation.quirks.max_completion_tokens = true;
  translation.quirks.developer_role = true;
  translation.quirks.reasoning_content = true;
  translation.quirks.nine_char_ids = true;
  translation.upstream_model = "other";
  const Json out = Json::parse(to_chat(
      R"({"model":"m","max_tokens":9,"system":"s","messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":""},{"type":"tool_use","id":"toolu_1","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"r"}]}]})",
      translation));
  EXPECT_EQ(out["model"], "other");
  EXPECT_EQ(out["max_completion_tokens"], 9);
  EXPECT_EQ(out["messages"][0]["role"], "developer");
  EXPECT_EQ(out["messages"][1]["reasoning_content"], "t");
  const std::string id = out["messages"][1]["tool_calls"][0]["id"];
  EXPECT_EQ(id.size(), 9u);
  EXPECT_EQ(out["messages"][2]["tool_call_id"], id);
}

TEST(ChatRequest, wrong_types_of_known_fields_are_named) {
  const std::vector<std::pair<const char*, const char*>> cases{
      {R"({"messages":5})", "messages"},
      {R"({"model":5,"messages":[]})", "model"},
      {R"({"messages":[{"role":"user","content":5}]})", "messages[0].content"},
      {R"({"messages":[{"role":"nobody","content":""}]})", "messages[0]"},
      {R"({"messages":[],"temperature":NaN})", "temperature"},
      {R"({"messages":[],"stream":"yes"})", "stream"},
      {R"({"model":"m"})", "messages"},
  };
  for (const auto& [body, param] : cases) {
    Result<Request> request = kOpenaiChat.decode_request(body, {}, false);
    ASSERT_FALSE(request) << body;
    EXPECT_EQ(request.error().kind, ErrorKind::malformed_request);
    EXPECT_EQ(request.error().param, param) << body;
  }
}

std::string encode(const std::vector<Event>& events, bool stream, Request& request,
                   Translation& translation) {
  EncodeContext context{&request, &translation, 7, "seed"};
  auto encoder = stream ? kOpenaiChat.stream_encoder(context) : kOpenaiChat.whole_encoder(context);
  for (const Event& event : events) encoder->on_event(event);
  return encoder->out();
}

std::vector<Event> call_named(std::string_view name, std::string_view arguments) {
  PartStart start;
  start.kind = PartKind::tool_call;
  start.call_id = Text::plain("c1");
  start.name = Text::plain(name);
  Finish finish;
  finish.reason = FinishReason::tool_calls;
  return {ReplyStart{{}, Text::plain("m"), 0}, start, PartDelta{0, Text::plain(arguments)},
          PartEnd{0}, finish};
}

TEST(ChatReply, gives_the_role_once_and_usage_only_to_who_asked) {
  PartStart text;
  const std::vector<Event> events{ReplyStart{{}, Text::plain("m"), 0},
                                  text,
                                  PartDelta{0, Text::plain("a")},
                                  PartDelta{0, Text::plain("b")},
                                  PartEnd{0},
                                  UsageUpdate{{3, 1, {}, 2, {}}},
                                  Finish{}};
  Request request;
  Translation translation;
  std::string out = encode(events, true, request, translation);
  EXPECT_EQ(out.find("\"role\""), out.rfind("\"role\""));
  EXPECT_EQ(out.find("usage"), std::string::npos);
  EXPECT_TRUE(out.ends_with("data: [DONE]\n\n"));
  request.include_usage = true;
  out = encode(events, true, request, translation);
  EXPECT_NE(
      out.find(R"("choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5)"),
      std::string::npos);
}

TEST(ChatReply, unwraps_what_was_wrapped_for_the_upstream) {
  Request request;
  Translation translation;
  translation.aliases.push_back({"ns__f", "f", "ns", CallKind::function});
  translation.aliases.push_back({"shell", "shell", "", CallKind::custom});
  translation.forced_output_tool = "structured_output";
  for (const bool stream : {false, true}) {
    EXPECT_NE(encode(call_named("ns__f", "{}"), stream, request, translation).find(R"("name":"f")"),
              std::string::npos);
    const std::string custom =
        encode(call_named("shell", R"({"input":"ls\n"})"), stream, request, translation);
    EXPECT_NE(custom.find(R"("input":"ls\n")"), std::string::npos) << custom;
    const std::string forced =
        encode(call_named("structured_output", R"({"a":1})"), stream, request, translation);
    EXPECT_NE(forced.find(R"("content":"{\"a\":1}")"), std::string::npos) << forced;
    EXPECT_NE(forced.find(R"("finish_reason":"stop")"), std::string::npos) << forced;
  }
}

TEST(ChatReply, a_free_text_call_that_nobody_declared_is_a_function_call) {
  Translation translation;
  std::vector<Event> events = call_named("sql", "SELECT \"a\"\n");
  std::get<PartStart>(events[1]).call_kind = CallKind::custom;
  for (const bool stream : {false, true}) {
    Request request;
    const std::string out = encode(events, stream, request, translation);
    std::string arguments;
    if (stream) {
      for (const auto& frame : test::frames_of(out)) {
        if (frame.data.find("tool_calls\":[") == std::string::npos) continue;
        const auto call = Json::parse(frame.data)["choices"][0]["delta"]["tool_calls"][0];
        EXPECT_EQ(call.value("type", "function"), "function");
        arguments += call["function"]["arguments"].get<std::string>();
      }
    } else {
      const auto call = Json::parse(out)["choices"][0]["message"]["tool_calls"][0];
      EXPECT_EQ(call["type"], "function");
      arguments = call["function"]["arguments"];
    }
    EXPECT_EQ(Json::parse(arguments)["input"], "SELECT \"a\"\n") << out;
    request.tools.emplace_back().kind = Tool::Kind::custom;
    request.tools.back().name = Text::plain("sql");
    EXPECT_NE(encode(events, stream, request, translation).find("\"custom\":{"), std::string::npos);
  }
}

TEST(ChatReply, an_error_ends_a_stream_without_done) {
  Request request;
  Translation translation;
  Error error;
  error.kind = ErrorKind::upstream_cut;
  error.message = "cut";
  const std::string out = encode({ReplyStart{}, error}, true, request, translation);
  EXPECT_NE(
      out.find(
          R"(data: {"error":{"message":"cut","type":"server_error","param":null,"code":null}})"),
      std::string::npos);
  EXPECT_EQ(out.find("[DONE]"), std::string::npos);
}

TEST(ChatReply, carries_other_makers_seals_and_takes_them_back) {
  Request request;
  Translation translation;
  PartStart thinking;
  thinking.kind = PartKind::thinking;
  Seal seal;
  seal.maker = WireFormat::anthropic_messages;
  seal.token = Text::plain("sig+/=");
  const std::vector<Event> events{ReplyStart{},      thinking,   PartDelta{0, Text::plain("tę")},
                                  PartSeal{0, seal}, PartEnd{0}, Finish{}};
  const Json reply = Json::parse(encode(events, false, request, translation));
  Json body{{"model", "m"}, {"messages", Json::array({reply["choices"][0]["message"]})}};
  const std::string text = body.dump();
  Result<Request> back = kOpenaiChat.decode_request(text, {}, false);
  ASSERT_TRUE(back);
  const auto& part = std::get<ThinkingPart>(back->messages[0].parts[0]);
  EXPECT_EQ(part.text.decode(), "tę");
  EXPECT_EQ(part.seal.maker, WireFormat::anthropic_messages);
  EXPECT_EQ(part.seal.token.decode(), "sig+/=");
}

}  // namespace
}  // namespace llm_proxy
