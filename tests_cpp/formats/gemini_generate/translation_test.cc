#include "formats/gemini_generate/format.h"

#include <gtest/gtest.h>

#include "json/array_reader.h"
#include "tests_cpp/formats/support.h"

namespace llm_proxy {
namespace {

using test::EventLog;
using test::Json;

constexpr WireFormat kC = WireFormat::openai_chat, kR = WireFormat::openai_responses,
                     kA = WireFormat::anthropic_messages, kG = WireFormat::gemini_generate;

Json sent(WireFormat from, WireFormat to, std::string_view body,
          std::string_view model = "gemini-2.5-flash") {
  const std::string compact = Json::parse(body).dump();
  Result<Request> request = format_of(from).decode_request(compact, "path-model", true);
  if (!request) return request.error().message;
  Translation translation;
  translation.upstream_model = model;
  std::string out;
  Result<void> done = format_of(to).encode_request(*request, translation, out);
  return done ? Json::parse(out) : Json(done.error().message);
}

std::string decoded(std::string_view stream) {
  EventLog log;
  auto decoder = kGeminiGenerate.reply_decoder({});
  if (auto error = test::decode_stream(*decoder, stream, log)) log.on_event(*error);
  return log.text;
}

std::string chunk(std::string_view parts, std::string_view finish = {},
                  std::string_view usage = {}) {
  std::string out = R"(data: {"candidates":[{"content":{"role":"model","parts":[)";
  out += parts;
  out += "]}";
  if (!finish.empty()) out += R"(,"finishReason":)" + std::string(finish);
  out += R"(,"index":0}],"modelVersion":"g","responseId":"r")";
  if (!usage.empty()) out += R"(,"usageMetadata":)" + std::string(usage);
  std::erase(out, '\n');  // of the literals here
  return out + "}\r\n\r\n";
}

TEST(GeminiDecoder, gives_a_calls_signature_to_the_thoughts_before_it) {
  EXPECT_EQ(
      decoded(
          chunk(R"({"text":"hm","thought":true})") +
          chunk(R"({"functionCall":{"name":"f","args":{"x": 1},"id":"i1"},"thoughtSignature":"SIG"},
                             {"functionCall":{"name":"f","id":"i2"}})") +
          chunk(
              R"({"text":""})", "\"STOP\"",
              R"({"promptTokenCount":5,"candidatesTokenCount":2,"thoughtsTokenCount":4,"cachedContentTokenCount":1,"totalTokenCount":11})")),
      "start g\n0 thinking:hm| seal SIG\n1 call f i1:{\"x\":1}|\n2 call f i2:{}|\n"
      "usage in 5 out 6 cached 1 reasoning 4\nfinish tool_calls\n");
}

TEST(GeminiDecoder, keeps_a_signature_that_stands_alone) {
  EXPECT_EQ(decoded(chunk(R"({"text":"hello"})") +
                    chunk(R"({"text":"","thoughtSignature":"SIG"})", "\"STOP\"")),
            "start g\n0 text:hello|\n1 thinking: seal SIG\nfinish stop\n");
  EXPECT_EQ(decoded(chunk(R"({"functionCall":{"name":"f","id":"i"},"thoughtSignature":"SIG"})",
                          "\"STOP\"")),
            "start g\n0 thinking: seal SIG\n1 call f i:{}|\nfinish tool_calls\n");
}

TEST(GeminiDecoder, assembles_streamed_arguments) {
  EXPECT_EQ(
      decoded(
          chunk(R"({"functionCall":{"name":"f","id":"i","willContinue":true}})") +
          chunk(
              R"({"functionCall":{"partialArgs":[{"jsonPath":"$.a.b[0]","stringValue":"x\"","willContinue":true}],"willContinue":true}})") +
          chunk(
              R"({"functionCall":{"partialArgs":[{"jsonPath":"$.a.b[0]","stringValue":"y"},{"jsonPath":"$.a.b[1]","numberValue":12345678901234567890},
                             {"jsonPath":"$['odd.key']","nullValue":null},{"jsonPath":"$.t","boolValue":true}],"willContinue":true}})") +
          chunk(R"({"functionCall":{}})", "\"STOP\"")),
      "start g\n0 call f "
      "i:{\"a\":{\"b\":[\"x\\\"y\",12345678901234567890]},\"odd.key\":null,\"t\":true}|\nfinish "
      "tool_calls\n");
}

TEST(GeminiDecoder, makes_the_same_ids_up_every_time_and_never_one_twice) {
  const std::string stream =
      chunk(R"({"functionCall":{"name":"f"}},{"functionCall":{"name":"f"}})", "\"STOP\"");
  const std::string first = decoded(stream);
  EXPECT_EQ(first, decoded(stream));
  const std::size_t a = first.find("call_"), b = first.find("call_", a + 1);
  ASSERT_NE(b, std::string::npos);
  EXPECT_NE(first.substr(a, 29), first.substr(b, 29));
}

TEST(GeminiDecoder, reads_every_way_to_stop) {
  const struct {
    std::string_view word, reason;
  } cases[] = {{"\"STOP\"", "stop"},
               {"1", "stop"},
               {"2", "length"},
               {"\"MAX_TOKENS\"", "length"},
               {"\"SAFETY\"", "content_filter"},
               {"\"MODEL_ARMOR\"", "content_filter"},
               {"\"MALFORMED_FUNCTION_CALL\"", "bad_call"},
               {"\"BRAND_NEW\"", "other"}};
  for (const auto& one : cases) {
    EXPECT_EQ(decoded(chunk(R"({"text":"x"})", one.word)),
              "start g\n0 text:x|\nfinish " + std::string(one.reason) + "\n");
  }
  EXPECT_EQ(
      decoded(
          "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"modelVersion\":\"g\"}\r\n\r\n"),
      "start g\nfinish content_filter\n");
  EXPECT_NE(decoded(chunk(R"({"text":"x"})")).find("error upstream_cut"), std::string::npos);
  EXPECT_EQ(
      decoded(chunk(R"({"text":"x"})") +
              "data: "
              "{\"error\":{\"code\":503,\"message\":\"busy\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n"),
      "start g\n0 text:x|error unavailable busy\n");
}

TEST(GeminiRequest, hands_bytes_on_in_the_alphabet_every_provider_takes) {
  constexpr std::string_view kBody =
      R"({"contents":[{"role":"user","parts":[{"inlineData":{"mimeType":"image/png","data":"-_A="}}]}]})";
  EXPECT_EQ(sent(kG, kA, kBody)["messages"][0]["content"][0]["source"]["data"], "+/A=");
  EXPECT_EQ(sent(kG, kC, kBody)["messages"][0]["content"][0]["image_url"]["url"],
            "data:image/png;base64,+/A=");
}

TEST(GeminiRequest, reads_both_spellings_alike) {
  constexpr std::string_view kCamel = R"({"systemInstruction":{"parts":[{"text":"s"}]},"contents":[
    {"role":"user","parts":[{"text":"q"},{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]},
    {"role":"model","parts":[{"functionCall":{"name":"f","args":{"a":1}}}]},
    {"role":"function","parts":[{"functionResponse":{"name":"f","response":{"output":"ż"}}}]}],
    "tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"type":"object","properties":{"a":{"type":"integer"}}}}]}],
    "toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["f"]}},
    "generationConfig":{"maxOutputTokens":9,"stopSequences":["x"],"topP":0.5,"thinkingConfig":{"thinkingBudget":2048}}})";
  constexpr std::string_view kSnake = R"({"system_instruction":{"parts":[{"text":"s"}]},"contents":[
    {"role":"user","parts":[{"text":"q"},{"inline_data":{"mime_type":"image/png","data":"AAAA"}}]},
    {"role":"model","parts":[{"function_call":{"name":"f","args":{"a":1}}}]},
    {"role":"function","parts":[{"function_response":{"name":"f","response":{"output":"ż"}}}]}],
    "tools":[{"function_declarations":[{"name":"f","parameters_json_schema":{"type":"object","properties":{"a":{"type":"integer"}}}}]}],
    "tool_config":{"function_calling_config":{"mode":"any","allowed_function_names":["f"]}},
    "generation_config":{"max_output_tokens":9,"stop_sequences":["x"],"top_p":0.5,"thinking_config":{"thinking_budget":2048}}})";
  for (const WireFormat to : {kC, kR, kA}) EXPECT_EQ(sent(kG, to, kCamel), sent(kG, to, kSnake));
  const Json chat = sent(kG, kC, kCamel);
  EXPECT_EQ(chat["messages"][2]["tool_calls"][0]["id"], chat["messages"][3]["tool_call_id"]);
  EXPECT_EQ(chat["messages"][3]["content"], "ż");
  EXPECT_EQ(chat["tool_choice"], Json::parse(R"({"type":"function","function":{"name":"f"}})"));
}

TEST(GeminiRequest, takes_a_count_for_a_number_only_where_it_is_one) {
  for (const auto& [given, written] : std::vector<std::pair<std::string, Json>>{
           {"2", 2},
           {"\\u0032", 2},
           {"", ""},
           {"many", "many"},
           {"1,\\u0022x\\u0022:2", "1,\"x\":2"},
           {"99999999999999999999", "99999999999999999999"}}) {
    const std::string body =
        R"({"contents":[{"parts":[{"text":"q"}]}],"tools":[{"functionDeclarations":[{"name":"f",)"
        R"("parameters":{"type":"ARRAY","minItems":")" +
        given + R"("}}]}]})";
    Result<Request> request = format_of(kG).decode_request(body, "m", false);
    ASSERT_TRUE(request) << body;
    Translation translation;
    std::string out;
    ASSERT_TRUE(format_of(kC).encode_request(*request, translation, out)) << body;
    ASSERT_TRUE(Json::accept(out)) << out;
    EXPECT_EQ(Json::parse(out)["tools"][0]["function"]["parameters"],
              (Json{{"type", "array"}, {"minItems", written}}));
  }
}

// PHP escapes every slash, .NET every plus, Gson every equals sign.
TEST(Request, is_understood_however_its_writer_escapes_it) {
  constexpr std::string_view kPng = R"(iVBOR\/0KGgo\u002bAAAA\u003d\u003d)";
  constexpr std::string_view kPlain = "iVBOR/0KGgo+AAAA==";
  const std::string data(kPng);
  const std::vector<std::pair<WireFormat, std::string>> sources{
      {kC, R"({"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":)"
           R"({"url":"data:image\/png;base64,)" +
               data + R"("}}]}]})"},
      {kR, R"({"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":)"
           R"("data:image\/png;base64,)" +
               data + R"("}]}]})"},
      {kA, R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"image",)"
           R"("source":{"type":"base64","media_type":"image\/png","data":")" +
               data + R"("}}]}]})"},
      {kG, R"({"contents":[{"parts":[{"inlineData":{"mimeType":"image\/png","data":")" + data +
               R"("}}]}]})"}};
  const std::string url = "data:image/png;base64," + std::string(kPlain);
  for (const auto& [from, body] : sources) {
    for (const WireFormat to : {kC, kR, kA, kG}) {
      if (from == to) continue;
      Result<Request> request = format_of(from).decode_request(body, "m", false);
      ASSERT_TRUE(request) << name(from);
      Translation translation;
      std::string out;
      ASSERT_TRUE(format_of(to).encode_request(*request, translation, out)) << name(from);
      const Json sent = Json::parse(out);
      const std::string way = std::string(name(from)) + " to " + std::string(name(to));
      if (to == kC) {
        EXPECT_EQ(sent["messages"][0]["content"][0]["image_url"]["url"], url) << way;
      } else if (to == kR) {
        EXPECT_EQ(sent["input"][0]["content"][0]["image_url"], url) << way;
      } else if (to == kA) {
        const Json& source = sent["messages"][0]["content"][0]["source"];
        EXPECT_EQ(source["media_type"], "image/png") << way;
        EXPECT_EQ(source["data"], kPlain) << way;
      } else {
        const Json& inline_data = sent["contents"][0]["parts"][0]["inlineData"];
        EXPECT_EQ(inline_data["mimeType"], "image/png") << way;
        EXPECT_EQ(inline_data["data"], kPlain) << way;
      }
    }
  }
}

TEST(GeminiRequest, turns_its_schema_dialect_into_json_schema) {
  const Json body = sent(
      kG, kC,
      R"({"contents":[{"parts":[{"text":"q"}]}],"tools":[{"functionDeclarations":[{"name":"f","parameters":{
    "type":"OBJECT","propertyOrdering":["type"],"properties":{"type":{"type":"STRING","nullable":true,"enum":["STRING"]},
    "list":{"type":"ARRAY","minItems":"2","items":{"any_of":[{"type":"NUMBER"},{"type":"NULL"}]}}},"required":["type"]}}]}]})");
  EXPECT_EQ(body["tools"][0]["function"]["parameters"],
            Json::parse(R"({"type":"object","properties":{
    "type":{"type":["string","null"],"enum":["STRING"]},
    "list":{"type":"array","minItems":2,"items":{"anyOf":[{"type":"number"},{"type":"null"}]}}},"required":["type"]})"));
}

TEST(GeminiRequest, matches_results_without_ids_by_order) {
  const Json body = sent(kG, kC, R"({"contents":[{"role":"user","parts":[{"text":"q"}]},
    {"role":"model","parts":[{"functionCall":{"name":"f","args":{"n":1}}},{"functionCall":{"name":"f","args":{"n":2}}}]},
    {"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"one"}}},{"functionResponse":{"name":"f","response":{"output":"two"}}}]}]})");
  const Json& calls = body["messages"][1]["tool_calls"];
  EXPECT_NE(calls[0]["id"], calls[1]["id"]);
  EXPECT_EQ(body["messages"][2]["tool_call_id"], calls[0]["id"]);
  EXPECT_EQ(body["messages"][2]["content"], "one");
  EXPECT_EQ(body["messages"][3]["tool_call_id"], calls[1]["id"]);
}

TEST(GeminiRequest, is_built_from_what_the_api_takes) {
  const Json body = sent(
      kC, kG,
      R"({"model":"x","messages":[{"role":"system","content":"s"},{"role":"user","content":"q"},
    {"role":"assistant","content":"t","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"n\":12345678901234567890}"}},
      {"id":"c2","type":"function","function":{"name":"g","arguments":"not json"}}]},
    {"role":"tool","tool_call_id":"c2","content":"two"},{"role":"tool","tool_call_id":"c1","content":"one"},{"role":"user","content":"next"}],
    "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}}},
      {"type":"function","function":{"name":"g","parameters":{"type":"object","properties":{}}}}],
    "tool_choice":"required","temperature":1.5,"max_tokens":100,"stop":"x","reasoning_effort":"low","n":1})");
  EXPECT_EQ(body, Json::parse(R"({"systemInstruction":{"parts":[{"text":"s"}]},"contents":[
    {"role":"user","parts":[{"text":"q"}]},
    {"role":"model","parts":[{"text":"t"},{"functionCall":{"id":"c1","name":"f","args":{"n":12345678901234567890}}},
      {"functionCall":{"id":"c2","name":"g","args":{"_raw_arguments":"not json"}}}]},
    {"role":"user","parts":[{"functionResponse":{"id":"c1","name":"f","response":{"output":"one"}}},
      {"functionResponse":{"id":"c2","name":"g","response":{"output":"two"}}},{"text":"next"}]}],
    "tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"type":"object","properties":{"n":{"type":"integer"}}}},{"name":"g"}]}],
    "toolConfig":{"functionCallingConfig":{"mode":"ANY"}},
    "generationConfig":{"temperature":1.5,"candidateCount":1,"maxOutputTokens":100,"stopSequences":["x"],
      "thinkingConfig":{"includeThoughts":true,"thinkingBudget":2048}}})"));
}

TEST(GeminiSeals, stand_on_the_call_where_the_api_wants_them) {
  constexpr std::string_view kTurn =
      R"({"model":"x","max_tokens":9,"messages":[{"role":"user","content":"q"},
    {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"g1:SIG"},{"type":"tool_use","id":"c1","name":"f","input":{}},
      {"type":"tool_use","id":"c2","name":"f","input":{}}]},
    {"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":"1"},{"type":"tool_result","tool_use_id":"c2","content":"2"}]}]})";
  const Json parts = sent(kA, kG, kTurn)["contents"][1]["parts"];
  EXPECT_EQ(
      parts,
      Json::parse(
          R"([{"text":"hm","thought":true},{"functionCall":{"id":"c1","name":"f","args":{}},"thoughtSignature":"SIG"},
    {"functionCall":{"id":"c2","name":"f","args":{}}}])"));
}

TEST(GeminiSeals, use_the_stand_in_only_where_a_foreign_history_needs_it) {
  constexpr std::string_view kTurn = R"({"model":"x","messages":[{"role":"user","content":"q"},
    {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}},
      {"id":"c2","type":"function","function":{"name":"f","arguments":"{}"}}]},
    {"role":"tool","tool_call_id":"c1","content":"1"},{"role":"tool","tool_call_id":"c2","content":"2"}]})";
  const Json modern = sent(kC, kG, kTurn, "gemini-3.5-flash")["contents"][1]["parts"];
  EXPECT_EQ(modern[0]["thoughtSignature"], "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=");
  EXPECT_FALSE(modern[1].contains("thoughtSignature"));
  EXPECT_FALSE(sent(kC, kG, kTurn, "gemini-2.5-flash")["contents"][1]["parts"][0].contains(
      "thoughtSignature"));
  // From a Gemini client it must not look like a signature to anybody.
  constexpr std::string_view kClient =
      R"({"contents":[{"role":"user","parts":[{"text":"q"}]},{"role":"model","parts":[
    {"functionCall":{"name":"f","args":{}},"thoughtSignature":"skip_thought_signature_validator"}]},
    {"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"1"}}}]}]})";
  for (const WireFormat to : {kC, kR, kA})
    EXPECT_EQ(sent(kG, to, kClient).dump().find("skip_thought"), std::string::npos);
}

// Another maker's seal through a Gemini client that sends back the calls only.
TEST(GeminiSeals, carry_a_foreign_seal_on_the_call) {
  auto encoder = kGeminiGenerate.stream_encoder({nullptr, nullptr, 1, "seed"});
  encoder->on_event(ReplyStart{Text::plain("id"), Text::plain("m")});
  encoder->on_event(PartStart{.kind = PartKind::thinking});
  encoder->on_event(PartDelta{0, Text::plain("hm")});
  encoder->on_event(PartSeal{0, Seal{kA, Text::plain("SIG+/"), {}}});
  encoder->on_event(PartEnd{0});
  encoder->on_event(PartStart{.index = 1,
                              .kind = PartKind::tool_call,
                              .call_id = Text::plain("c1"),
                              .name = Text::plain("f")});
  encoder->on_event(PartDelta{1, Text::plain("{}")});
  encoder->on_event(PartEnd{1});
  encoder->on_event(Finish{.reason = FinishReason::tool_calls});
  Json parts = Json::array();
  std::string finish;
  for (const test::Frame& frame : test::frames_of(encoder->out())) {
    const Json data = Json::parse(frame.data);
    const Json& candidate = data["candidates"][0];
    for (const Json& part : candidate["content"]["parts"]) parts.push_back(part);
    finish = candidate.value("finishReason", "");
  }
  EXPECT_EQ(finish, "STOP");
  const Json question = Json::parse(R"({"role":"user","parts":[{"text":"q"}]})");
  const Json result = Json::parse(
      R"({"role":"user","parts":[{"functionResponse":{"id":"c1","name":"f","response":{"output":"1"}}}]})");
  Json all = {{"contents", Json::array({question, {{"role", "model"}, {"parts", parts}}, result})}};
  const Json whole = sent(kG, kA, all.dump());
  EXPECT_EQ(whole["messages"][1]["content"][0],
            Json::parse(R"({"type":"thinking","thinking":"hm","signature":"SIG+/"})"))
      << whole;
  // Gemini CLI sends no thoughts back.
  parts.erase(parts.begin());
  all["contents"][1]["parts"] = parts;
  const Json calls_only = sent(kG, kA, all.dump());
  EXPECT_NE(calls_only.dump().find("\"SIG+/\""), std::string::npos) << calls_only;
  for (const WireFormat to : {kR, kG})
    EXPECT_EQ(sent(kG, to, all.dump()).dump().find("SIG"), std::string::npos);
}

TEST(GeminiReply, is_the_same_as_events_array_and_whole) {
  const auto run = [](bool array, bool whole) {
    EncodeContext context{nullptr, nullptr, 1, "seed"};
    context.json_array = array;
    auto encoder =
        whole ? kGeminiGenerate.whole_encoder(context) : kGeminiGenerate.stream_encoder(context);
    encoder->on_event(ReplyStart{Text::plain("id"), Text::plain("m")});
    encoder->keep_alive();
    encoder->on_event(PartStart{});
    encoder->on_event(PartDelta{0, Text::plain("a")});
    encoder->keep_alive();
    encoder->on_event(PartDelta{0, Text::plain("\"b")});
    encoder->on_event(PartEnd{0});
    encoder->on_event(UsageUpdate{Usage{.input = 5, .cached = 2, .output = 7, .reasoning = 3}});
    encoder->on_event(Finish{});
    return encoder->out();
  };
  std::string text;
  Json last;
  for (const test::Frame& frame : test::frames_of(run(false, false))) {
    last = Json::parse(frame.data);
    text += last["candidates"][0]["content"]["parts"][0]["text"];
  }
  EXPECT_EQ(text, "a\"b");
  EXPECT_EQ(
      last["usageMetadata"],
      Json::parse(
          R"({"promptTokenCount":5,"candidatesTokenCount":4,"totalTokenCount":12,"cachedContentTokenCount":2,"thoughtsTokenCount":3})"));
  const Json array = Json::parse(run(true, false));
  ASSERT_EQ(array.size(), 3u);
  EXPECT_EQ(array.back(), last);
  const Json whole = Json::parse(run(false, true));
  EXPECT_EQ(whole["candidates"][0]["content"]["parts"], Json::parse(R"([{"text":"a\"b"}])"));
  EXPECT_EQ(whole["usageMetadata"], last["usageMetadata"]);
}

TEST(GeminiErrors, keep_their_meaning_both_ways) {
  const Error bad_key = kGeminiGenerate.decode_error(
      400,
      R"({"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}})");
  EXPECT_EQ(bad_key.http_status(), 401);
  EXPECT_EQ(bad_key.kind, ErrorKind::unauthenticated);
  const Error limited = kGeminiGenerate.decode_error(
      429,
      R"([{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"48s"}]}}])");
  EXPECT_EQ(limited.kind, ErrorKind::rate_limited);
  ASSERT_TRUE(limited.retry_after);
  EXPECT_EQ(limited.retry_after->count(), 48'000);
  std::string out;
  kGeminiGenerate.encode_error(limited, out);
  const Json body = Json::parse(out);
  EXPECT_EQ(body["error"]["code"], 429);
  EXPECT_EQ(body["error"]["status"], "RESOURCE_EXHAUSTED");
  EXPECT_EQ(body["error"]["details"][0]["retryDelay"], "48s");
}

TEST(ToolResults, keep_the_text_of_documents_and_search_results_in_every_format) {
  constexpr std::string_view kBody = R"({"model":"m","max_tokens":9,"messages":[
    {"role":"user","content":"q"},
    {"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"f","input":{}}]},
    {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[
      {"type":"document","source":{"type":"text","media_type":"text/plain","data":"said \"so\""}},
      {"type":"search_result","title":"Ruby","source":"https://r",
       "content":[{"type":"text","text":"by Matz"}]}]}]}]})";
  for (const WireFormat to : {kC, kR, kG}) {
    const std::string sent_up = sent(kA, to, kBody).dump();
    for (const std::string_view part : {R"(said \"so\")", R"(Ruby\nhttps://r\nby Matz)"}) {
      EXPECT_NE(sent_up.find(part), std::string::npos) << sent_up;
    }
  }
}

TEST(Tools, that_load_later_are_offered_where_nothing_loads_later) {
  constexpr std::string_view kBody = R"({"model":"m","max_tokens":9,
    "messages":[{"role":"user","content":"q"}],"tools":[
    {"name":"now","input_schema":{"type":"object"}},
    {"name":"later","input_schema":{"type":"object"},"defer_loading":true},
    {"name":"DeferredToolPlaceholder","input_schema":{"type":"object"},"defer_loading":true}]})";
  for (const WireFormat to : {kC, kR, kG}) {
    const std::string tools = sent(kA, to, kBody)["tools"].dump();
    EXPECT_NE(tools.find("\"later\""), std::string::npos) << tools;
    EXPECT_EQ(tools.find("Placeholder"), std::string::npos) << tools;
  }
}

TEST(Tools, that_a_conversation_loaded_stand_behind_the_others) {
  const Json body = sent(WireFormat::openai_responses, kC, R"({"model":"m","input":[
    {"type":"additional_tools","role":"developer","tools":[{"type":"function","name":"loaded"}]},
    {"role":"user","content":"q"}],"tools":[{"type":"function","name":"a"},
    {"type":"function","name":"b"}]})");
  std::string names;
  for (const auto& tool : body["tools"]) names += tool["function"]["name"].get<std::string>() + " ";
  EXPECT_EQ(names, "a b loaded ");
}

TEST(Documents, go_to_messages_as_pdf_or_text_or_not_at_all) {
  const auto as = [](std::string_view mime, std::string_view data) {
    std::string body = R"({"model":"m","input":[{"role":"user","content":[{"type":"input_file",
      "filename":"x","file_data":"data:)";
    body.append(mime).append(";base64,").append(data).append("\"}]}]}");
    return sent(WireFormat::openai_responses, kA, body).dump();
  };
  EXPECT_NE(as("application/pdf", "JVBERg==").find("\"base64\""), std::string::npos);
  EXPECT_NE(as("application/json", "e30=").find(R"("data":"{}")"), std::string::npos);
  EXPECT_NE(as("application/vnd.ms-excel", "UEsDBBQA").find("neither PDF nor text"),
            std::string::npos);
}

}  // namespace
}  // namespace llm_proxy
