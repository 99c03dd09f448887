#include "formats/anthropic_messages/format.h"

#include <gtest/gtest.h>

#include "formats/shared/seals.h"
#include "tests_cpp/formats/support.h"

namespace llm_proxy {
namespace {

using test::Json;

std::string run_stream(std::string_view text) {
  auto decoder = kAnthropicMessages.reply_decoder(Translation{});
  test::EventLog log;
  if (const auto error = test::decode_stream(*decoder, text, log))
    log.text += std::string(name(error->kind));
  return log.text;
}

constexpr const char* kStart =
    "event: message_start\ndata: "
    "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",\"content\":[],"
    "\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":2,\"output_tokens\":1}}   }\n\n";
constexpr const char* kEnd =
    "event: message_delta\ndata: "
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},"
    "\"usage\":{\"output_tokens\":9}}\n\nevent: message_stop\ndata: "
    "{\"type\":\"message_stop\"}\n\n";

std::string frame(std::string_view json) {
  const Json data = Json::parse(json);
  return "event: " + data["type"].get<std::string>() + "\ndata: " + std::string(json) + "\n\n";
}

TEST(MessagesReply, is_read_part_by_part) {
  const std::string stream =
      kStart +
      frame(
          R"({"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}})") +
      frame(R"({"type":"ping"})") +
      frame(
          R"({"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}})") +
      frame(
          R"({"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"SIG"}})") +
      frame(R"({"type":"content_block_stop","index":0})") +
      frame(
          R"({"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"DATA"}})") +
      frame(R"({"type":"content_block_stop","index":1})") +
      frame(
          R"({"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}})") +
      frame(
          R"({"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}})") +
      frame(
          R"({"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}})") +
      frame(
          R"({"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":":1}"}})") +
      frame(R"({"type":"content_block_stop","index":2})") +
      frame(
          R"({"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"t2","name":"g","input":{}}})") +
      frame(R"({"type":"content_block_stop","index":3})") +
      frame(
          R"({"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"t3","name":"h","input":{"x": 2}}})") +
      frame(R"({"type":"content_block_stop","index":4})") +
      frame(
          R"({"type":"content_block_start","index":5,"content_block":{"type":"server_tool_use","id":"s","name":"w","input":{}}})") +
      frame(
          R"({"type":"content_block_delta","index":5,"delta":{"type":"input_json_delta","partial_json":"{}"}})") +
      frame(R"({"type":"content_block_stop","index":5})") + kEnd;
  EXPECT_EQ(
      run_stream(stream),
      "start m\nusage in 7 out 1 cached 2\n0 thinking:hm| seal SIG\n1 thinking redacted: seal "
      "DATA\n"
      "2 call f t1:{\"a\"|:1}|\n3 call g t2:{}|\n4 call h t3:{\"x\":2}|\n5 raw server_tool_use:\n"
      "usage in 7 out 9 cached 2\nfinish tool_calls\n");
}

TEST(MessagesReply, without_its_terminator_is_cut) {
  EXPECT_EQ(run_stream(kStart), "start m\nusage in 7 out 1 cached 2\nupstream_cut");
  EXPECT_EQ(run_stream(""), "upstream_cut");
  EXPECT_EQ(
      run_stream(
          std::string(kStart) +
          frame(R"({"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}})")),
      "start m\nusage in 7 out 1 cached 2\nerror overloaded Overloaded\n");
}

std::string to_messages(std::string_view body, std::string model = "claude-sonnet-4-5",
                        Translation* used = nullptr) {
  Result<Request> request = format_of(WireFormat::openai_chat).decode_request(body, {}, false);
  if (!request) return request.error().message;
  Translation translation;
  translation.upstream_model = std::move(model);
  std::string out;
  Result<void> encoded = kAnthropicMessages.encode_request(*request, translation, out);
  if (used != nullptr) *used = translation;
  return encoded ? out : "refused " + encoded.error().param;
}

TEST(MessagesRequest, is_written_from_chat) {
  struct Case {
    const char* what;
    const char* body;
    const char* expected;
  };
  const std::vector<Case>
      cases{
          {"roles, merged turns, results first and in one message",
           R"({"messages":[{"role":"system","content":"s"},{"role":"developer","content":"d"},{"role":"user","content":"u1"},{"role":"user","content":"u2"},{"role":"assistant","content":"","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}},{"id":"b","type":"function","function":{"name":"f","arguments":""}}]},{"role":"tool","tool_call_id":"a","content":"1"},{"role":"tool","tool_call_id":"b","content":"2"},{"role":"user","content":"go"}]})",
           R"({"model":"claude-sonnet-4-5","max_tokens":64000,"system":"s\n\nd","messages":[{"role":"user","content":[{"type":"text","text":"u1"},{"type":"text","text":"u2"}]},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"x":1}},{"type":"tool_use","id":"b","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"1"},{"type":"tool_result","tool_use_id":"b","content":"2"},{"type":"text","text":"go"}]}]})"},
          {"system in mid conversation stays where it was",
           R"({"messages":[{"role":"user","content":"u"},{"role":"system","content":"s"},{"role":"user","content":"v"}],"max_tokens":5})",
           R"({"model":"claude-sonnet-4-5","max_tokens":5,"messages":[{"role":"user","content":[{"type":"text","text":"u"},{"type":"text","text":"<system>s</system>"},{"type":"text","text":"v"}]}]})"},
          {"images by bytes and by URL, a PDF",
           R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,QQ=="}},{"type":"image_url","image_url":{"url":"https://x/y.png"}},{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,Qg=="}}]}],"max_tokens":5})",
           R"({"model":"claude-sonnet-4-5","max_tokens":5,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QQ=="}},{"type":"image","source":{"type":"url","url":"https://x/y.png"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"Qg=="},"title":"a.pdf"}]}]})"},
          {"invalid arguments are wrapped, odd ids mapped alike",
           R"({"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a.b","type":"function","function":{"name":"f","arguments":"{\"x"}}]},{"role":"tool","tool_call_id":"a.b","content":"r"}],"max_tokens":5})",
           nullptr},
          {"sampling: clamped, and what there is no place for left out",
           R"({"messages":[{"role":"user","content":"u"}],"max_tokens":5,"temperature":1.5,"top_p":0.5,"seed":1,"stop":["a"," "],"logit_bias":{}})",
           R"({"model":"claude-sonnet-4-5","max_tokens":5,"messages":[{"role":"user","content":"u"}],"temperature":1,"top_p":0.5,"stop_sequences":["a"]})"},
          {"effort becomes a budget below the limit, and temperature goes", R"({"messages":[{"role":"user","content":"u"}],"max_tokens":500,"temperature":0.5,"reasoning_effort":"low"})", R"({"model":"claude-sonnet-4-5","max_tokens":2548,"messages":[{"role":"user","content":"u"}],"thinking":{"type":"enabled","budget_tokens":2048}})"},
          {"one call at a time needs a tool_choice",
           R"({"messages":[{"role":"user","content":"u"}],"max_tokens":5,"tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":false})",
           R"({"model":"claude-sonnet-4-5","max_tokens":5,"messages":[{"role":"user","content":"u"}],"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"auto","disable_parallel_tool_use":true}})"},
          {"a schema for the output",
           R"({"messages":[{"role":"user","content":"u"}],"max_tokens":5,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}})",
           R"({"model":"claude-sonnet-4-5","max_tokens":5,"messages":[{"role":"user","content":"u"}],"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}})"},
          {"a prefill without trailing space",
           R"({"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"so: \n"}],"max_tokens":5})",
           R"({"model":"claude-sonnet-4-5","max_tokens":5,"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"so:"}]})"},
          {"n above one is refused", R"({"messages":[],"n":2})", "refused n"},
          {"audio is refused",
           R"({"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"QQ==","format":"wav"}}]}]})",
           "refused audio"},
          {"web search is refused", R"({"messages":[],"web_search_options":{}})",
           "refused web_search_options"},
      };
  for (const Case& each : cases) {
    const std::string out = to_messages(each.body);
    if (each.expected != nullptr) {
      EXPECT_EQ(out, each.expected) << each.what;
      continue;
    }
    const Json json = Json::parse(out);
    const Json call = json["messages"][0]["content"][0];
    EXPECT_EQ(call["input"]["_raw_arguments"], "{\"x");
    EXPECT_EQ(call["id"], json["messages"][1]["content"][0]["tool_use_id"]);
    EXPECT_EQ(call["id"].get<std::string>().find('.'), std::string::npos);
  }
}

TEST(MessagesRequest, follows_the_family_of_the_model) {
  const char* body =
      R"({"messages":[{"role":"user","content":"u"}],"temperature":0.5,"reasoning_effort":"high","response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}})";
  Json out = Json::parse(to_messages(body, "claude-opus-5-5"));
  EXPECT_EQ(out["thinking"]["type"], "adaptive");
  EXPECT_EQ(out["output_config"]["effort"], "high");
  EXPECT_FALSE(out.contains("temperature"));
  EXPECT_EQ(out["max_tokens"], 64000);

  Translation used;
  out = Json::parse(to_messages(body, "claude-3-5-sonnet-latest", &used));
  EXPECT_FALSE(out.contains("thinking"));
  EXPECT_EQ(out["max_tokens"], 8192);
  EXPECT_EQ(out["tool_choice"]["name"], "structured_output");
  EXPECT_EQ(used.forced_output_tool, "structured_output");
}

TEST(MessagesRequest, keeps_budget_thinking_out_of_a_loop_begun_without_it) {
  const char* loop =
      R"({"messages":[{"role":"user","content":"u"},{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"r"}],"reasoning_effort":"high"})";
  EXPECT_FALSE(Json::parse(to_messages(loop, "claude-sonnet-4-5")).contains("thinking"));
  EXPECT_TRUE(Json::parse(to_messages(loop, "claude-opus-4-6")).contains("thinking"));
}

TEST(MessagesRequest, never_shows_anthropic_another_makers_seal) {
  const std::string body =
      R"({"model":"m","max_tokens":5,"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"a","signature":"g1:XX"},{"type":"thinking","thinking":"b","signature":"own"},{"type":"text","text":"t"}]}],"tomorrow":{"x":1}})";
  Result<Request> request = kAnthropicMessages.decode_request(body, {}, false);
  ASSERT_TRUE(request);
  EXPECT_EQ(std::get<ThinkingPart>(request->messages[0].parts[0]).seal.maker,
            WireFormat::gemini_generate);
  EXPECT_EQ(std::get<ThinkingPart>(request->messages[0].parts[0]).seal.token.decode(), "XX");
  Translation translation;
  std::string out;
  ASSERT_TRUE(kAnthropicMessages.encode_request(*request, translation, out));
  EXPECT_EQ(
      out,
      R"({"model":"m","max_tokens":5,"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"b","signature":"own"},{"type":"text","text":"t"}]}],"tomorrow":{"x":1}})");
}

TEST(Seals, survive_in_another_formats_field) {
  struct Case {
    WireFormat maker;
    bool redacted;
  };
  for (const Case each :
       {Case{WireFormat::openai_chat, false}, Case{WireFormat::openai_responses, false},
        Case{WireFormat::anthropic_messages, false}, Case{WireFormat::anthropic_messages, true},
        Case{WireFormat::gemini_generate, false}}) {
    Seal seal;
    seal.maker = each.maker;
    seal.token = Text::plain("tok:en+/=");
    if (each.maker == WireFormat::openai_responses) seal.item_id = Text::plain("rs_1");
    const std::string carried = carried_seal(seal, each.redacted);
    const OpenedSeal opened = opened_seal(Text::plain(carried), WireFormat::openai_chat);
    EXPECT_TRUE(opened.carried);
    EXPECT_EQ(opened.seal.maker, each.maker);
    EXPECT_EQ(opened.seal.token.decode(), "tok:en+/=");
    EXPECT_EQ(opened.seal.item_id.decode(), seal.item_id.decode());
    EXPECT_EQ(opened.redacted, each.redacted);
  }
  EXPECT_FALSE(opened_seal(Text::plain("plain"), WireFormat::anthropic_messages).carried);
}

std::string encode(const std::vector<Event>& events, bool stream) {
  Request request;
  Translation translation;
  EncodeContext context{&request, &translation, 7, "seed"};
  auto encoder = stream ? kAnthropicMessages.stream_encoder(context)
                        : kAnthropicMessages.whole_encoder(context);
  for (const Event& event : events) encoder->on_event(event);
  return encoder->out();
}

TEST(MessagesReply, is_written_as_events_with_their_event_lines) {
  PartStart call;
  call.index = 1;
  call.kind = PartKind::tool_call;
  call.name = Text::plain("f");
  const std::vector<Event> events{ReplyStart{{}, Text::plain("m"), 0},
                                  PartStart{},
                                  PartDelta{0, Text::plain("a")},
                                  PartEnd{0},
                                  call,
                                  PartDelta{1, Text::plain("{\"x")},
                                  PartEnd{1},
                                  UsageUpdate{{10, 4, 1, 7, {}}},
                                  Finish{}};
  const std::string out = encode(events, true);
  std::string order;
  for (const test::Frame& frame : test::frames_of(out)) {
    EXPECT_EQ(frame.event, Json::parse(frame.data)["type"].get<std::string>());
    order += frame.event + " ";
  }
  EXPECT_EQ(order,
            "message_start content_block_start content_block_delta content_block_stop "
            "content_block_start "
            "content_block_delta content_block_stop message_delta message_stop ");
  EXPECT_NE(
      out.find(
          R"("stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":5,"cache_creation_input_tokens":1,"cache_read_input_tokens":4,"output_tokens":7})"),
      std::string::npos);
  const Json whole = Json::parse(encode(events, false));
  EXPECT_EQ(whole["content"][1]["input"]["_raw_arguments"], "{\"x");
  EXPECT_EQ(whole["stop_reason"], "tool_use");
}

TEST(MessagesReply, an_empty_reply_is_still_a_message) {
  EXPECT_EQ(Json::parse(encode({ReplyStart{}, Finish{}}, false))["content"], Json::array());
  EXPECT_NE(encode({ReplyStart{}, Finish{}}, true).find("message_stop"), std::string::npos);
}

TEST(MessagesReply, pings_only_once_it_has_begun) {
  auto encoder = kAnthropicMessages.stream_encoder(EncodeContext{});
  encoder->keep_alive();
  EXPECT_EQ(encoder->out(), "");
  encoder->on_event(ReplyStart{});
  encoder->out().clear();
  encoder->keep_alive();
  EXPECT_EQ(encoder->out(), "event: ping\ndata: {\"type\":\"ping\"}\n\n");
}

}  // namespace
}  // namespace llm_proxy
