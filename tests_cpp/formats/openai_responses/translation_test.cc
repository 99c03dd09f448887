#include "formats/openai_responses/format.h"

#include <gtest/gtest.h>

#include "tests_cpp/formats/support.h"

namespace llm_proxy {
namespace {

using test::EventLog;
using test::Json;

// What one request becomes for an upstream.
struct Sent {
  Json body;
  Translation translation;
  std::optional<Error> error;
};

Sent send(WireFormat from, WireFormat to, const Json& body) {
  Sent sent;
  static std::deque<std::string> bodies;  // the request views into them
  Result<Request> request =
      format_of(from).decode_request(bodies.emplace_back(body.dump()), "m", false);
  if (!request) {
    sent.error = request.error();
    return sent;
  }
  sent.translation.upstream_model = "upstream-model";
  std::string out;
  Result<void> done = format_of(to).encode_request(*request, sent.translation, out);
  if (!done) {
    sent.error = done.error();
  } else {
    sent.body = Json::parse(out);
  }
  return sent;
}

// What a Responses client gets for the events that `upstream`'s frames decode to.
std::string reply(const Json& client_request, WireFormat upstream, std::string_view stream,
                  bool streamed = true) {
  const std::string body = client_request.dump();
  Result<Request> request = format_of(WireFormat::openai_responses).decode_request(body, {}, false);
  Translation translation;
  translation.upstream_model = "upstream-model";
  std::string sent;
  EXPECT_TRUE(format_of(upstream).encode_request(*request, translation, sent));
  const EncodeContext context{&*request, &translation, 1'700'000'000, "seed"};
  auto encoder =
      streamed ? kOpenaiResponses.stream_encoder(context) : kOpenaiResponses.whole_encoder(context);
  auto decoder = format_of(upstream).reply_decoder(translation);
  if (auto error = test::decode_stream(*decoder, stream, *encoder)) encoder->on_event(*error);
  return encoder->out();
}

// The types of a stream's events, one a line; checks what every event must have.
std::string types(std::string_view stream) {
  std::string out;
  std::int64_t sequence = 0;
  for (const test::Frame& frame : test::frames_of(stream)) {
    const Json data = Json::parse(frame.data);
    EXPECT_EQ(data["type"], frame.event);
    EXPECT_EQ(data["sequence_number"], sequence++);
    std::string type = data["type"];
    if (type.rfind("response.", 0) == 0) type.erase(0, 9);
    out += type + "\n";
  }
  return out;
}

Json last_response(std::string_view stream) {
  return Json::parse(test::frames_of(stream).back().data)["response"];
}

const Json kHello = {{"model", "gpt"}, {"input", "hi"}};

constexpr std::string_view kChatStream =
    "data: "
    "{\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
    "\"content\":"
    "\"a\\\"b\"}}]}\n\n"
    "data: "
    "{\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ż\"}}]}\n\n"
    "data: "
    "{\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":"
    "0,\"id\":"
    "\"call_1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":\"}}]"
    "}}]}\n\n"
    "data: "
    "{\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":"
    "0,"
    "\"function\":{\"arguments\":\"1}\"}}]}}]}\n\n"
    "data: "
    "{\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_"
    "calls\"}],"
    "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10,\"prompt_tokens_"
    "details\":"
    "{\"cached_tokens\":2}}}\n\n"
    "data: [DONE]\n\n";

TEST(ResponsesReply, follows_the_event_order_of_the_api) {
  const std::string out = reply(kHello, WireFormat::openai_chat, kChatStream);
  EXPECT_EQ(
      types(out),
      "created\nin_progress\noutput_item.added\ncontent_part.added\noutput_text.delta\noutput_text."
      "delta\n"
      "output_text.done\ncontent_part.done\noutput_item.done\noutput_item.added\n"
      "function_call_arguments.delta\nfunction_call_arguments.delta\nfunction_call_arguments.done\n"
      "output_item.done\ncompleted\n");
  const Json response = last_response(out);
  EXPECT_EQ(response["status"], "completed");
  ASSERT_EQ(response["output"].size(), 2u);
  EXPECT_EQ(response["output"][0]["content"][0]["text"], "a\"bż");
  EXPECT_EQ(response["output"][1]["arguments"], "{\"x\":1}");
  EXPECT_EQ(response["output"][1]["call_id"], "call_1");
  EXPECT_EQ(
      response["usage"],
      Json::parse(
          R"({"input_tokens":7,"input_tokens_details":{"cached_tokens":2,"cache_write_tokens":0},
            "output_tokens":3,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":10})"));
}

TEST(ResponsesReply, is_the_same_whole_as_streamed) {
  const Json whole = Json::parse(reply(kHello, WireFormat::openai_chat, kChatStream, false));
  EXPECT_EQ(whole, last_response(reply(kHello, WireFormat::openai_chat, kChatStream)));
}

TEST(ResponsesReply, repeats_what_the_request_asked_on_one_line_per_event) {
  Json request = kHello;
  request["instructions"] = "be brief";
  request["metadata"] = {{"k", "v"}};
  request["tools"] =
      Json::array({{{"type", "function"}, {"name", "f"}, {"parameters", {{"type", "object"}}}}});
  const std::string pretty = request.dump(2);
  Result<Request> decoded = kOpenaiResponses.decode_request(pretty, {}, false);
  ASSERT_TRUE(decoded);
  Translation translation;
  auto encoder = kOpenaiResponses.stream_encoder({&*decoded, &translation, 1, "seed"});
  encoder->on_event(ReplyStart{Text::plain("x"), Text::plain("m")});
  encoder->on_event(Finish{});
  const Json response = last_response(encoder->out());
  EXPECT_EQ(response["instructions"], "be brief");
  EXPECT_EQ(response["metadata"], request["metadata"]);
  EXPECT_EQ(response["tools"], request["tools"]);
  EXPECT_EQ(response["output"], Json::array());
}

TEST(ResponsesReply, never_ends_a_cut_stream_well) {
  const std::string_view cut = kChatStream.substr(0, 350);
  const std::string out =
      reply(kHello, WireFormat::openai_chat, cut.substr(0, cut.rfind("\n\n") + 2));
  EXPECT_EQ(out.find("response.completed"), std::string::npos);
  const Json response = last_response(out);
  EXPECT_EQ(response["status"], "failed");
  EXPECT_EQ(response["output"][0]["content"][0]["text"], "a\"bż");
}

TEST(ResponsesReply, says_incomplete_at_the_output_limit) {
  auto encoder = kOpenaiResponses.stream_encoder({nullptr, nullptr, 1, "seed"});
  encoder->on_event(ReplyStart{});
  encoder->on_event(PartStart{});
  encoder->on_event(PartDelta{0, Text::plain("half")});
  encoder->on_event(PartEnd{0});
  encoder->on_event(Finish{.reason = FinishReason::length});
  const Json response = last_response(encoder->out());
  EXPECT_NE(encoder->out().find("event: response.incomplete\n"), std::string::npos);
  EXPECT_EQ(response["incomplete_details"]["reason"], "max_output_tokens");
  EXPECT_EQ(response["output"][0]["status"], "incomplete");
}

// Codex' tools: a namespace, a free-text tool, a tool search and the tools it loads.
TEST(ResponsesTools, are_lifted_and_flattened_and_come_back_as_the_client_knows_them) {
  const Json request = Json::parse(R"({"model":"gpt","input":[
    {"type":"additional_tools","role":"developer","tools":[
      {"type":"namespace","name":"files","tools":[{"type":"function","name":"read","parameters":{"type":"object"}}]},
      {"type":"custom","name":"exec","description":"runs"},
      {"type":"tool_search","execution":"client","parameters":{"type":"object"}}]},
    {"role":"user","content":"go"}]})");
  const Sent sent = send(WireFormat::openai_responses, WireFormat::openai_chat, request);
  ASSERT_FALSE(sent.error);
  std::vector<std::string> names;
  for (const Json& tool : sent.body["tools"]) names.push_back(tool["function"]["name"]);
  EXPECT_EQ(names, (std::vector<std::string>{"files__read", "exec", "tool_search"}));

  const auto call = [](std::string name, std::string arguments) {
    const Json delta = {
        {"tool_calls", Json::array({{{"index", 0},
                                     {"id", "call_1"},
                                     {"type", "function"},
                                     {"function", {{"name", name}, {"arguments", arguments}}}}})}};
    Json chunk = {
        {"id", "c"}, {"model", "m"}, {"choices", Json::array({{{"index", 0}, {"delta", delta}}})}};
    std::string stream = "data: " + chunk.dump() + "\n\n";
    chunk["choices"][0]["delta"] = Json::object();
    chunk["choices"][0]["finish_reason"] = "tool_calls";
    return stream + "data: " + chunk.dump() + "\n\ndata: [DONE]\n\n";
  };
  const std::string read =
      reply(request, WireFormat::openai_chat, call("files__read", "{\"p\":1}"));
  const Json function = last_response(read)["output"][0];
  EXPECT_EQ(function["name"], "read");
  EXPECT_EQ(function["namespace"], "files");
  EXPECT_EQ(function["type"], "function_call");

  const std::string exec =
      reply(request, WireFormat::openai_chat, call("exec", "{\"input\":\"a(\\\"b\\\")\\n\"}"));
  const Json custom = last_response(exec)["output"][0];
  EXPECT_EQ(custom["type"], "custom_tool_call");
  EXPECT_EQ(custom["input"], "a(\"b\")\n");
  EXPECT_NE(types(exec).find("custom_tool_call_input.delta\ncustom_tool_call_input.done\n"),
            std::string::npos);

  const Json search = last_response(
      reply(request, WireFormat::openai_chat, call("tool_search", "{\"q\":\"x\"}")))["output"][0];
  EXPECT_EQ(search["type"], "tool_search_call");
  EXPECT_EQ(search["arguments"], Json::parse(R"({"q":"x"})"));
  EXPECT_EQ(search["call_id"], "call_1");
}

TEST(ResponsesRequest, takes_items_without_type_or_id) {
  const Sent sent =
      send(WireFormat::openai_responses, WireFormat::openai_chat, Json::parse(R"({"model":"m",
    "instructions":"sys","input":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"output_text","text":"b"}]},
    {"type":"reasoning","summary":[],"encrypted_content":"gAAA"},
    {"type":"function_call","call_id":"c1","name":"f","arguments":""},
    {"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"r"}]}]})"));
  ASSERT_FALSE(sent.error) << sent.error->message;
  const Json& messages = sent.body["messages"];
  EXPECT_EQ(messages[0]["content"], "sys");
  EXPECT_EQ(messages[1]["role"], "user");
  EXPECT_EQ(messages.back()["role"], "tool");
  EXPECT_EQ(messages.back()["tool_call_id"], "c1");
}

TEST(ResponsesRequest, is_built_from_what_the_api_takes) {
  const Sent sent = send(WireFormat::openai_chat, WireFormat::openai_responses,
                         Json::parse(R"({"model":"x","max_tokens":3,
    "messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"look"},
      {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},
      {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},
      {"role":"tool","tool_call_id":"c1","content":"done"},{"role":"system","content":"later"}],
    "tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function","function":{"name":"f"}},
    "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}},
    "reasoning_effort":"high","stop":["x"],"seed":1})"));
  ASSERT_FALSE(sent.error) << sent.error->message;
  EXPECT_EQ(sent.body, Json::parse(R"({"model":"upstream-model","instructions":"s","input":[
    {"type":"message","role":"user","content":[{"type":"input_text","text":"look"},
      {"type":"input_image","detail":"auto","image_url":"data:image/png;base64,AAAA"}]},
    {"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},
    {"type":"function_call_output","call_id":"c1","output":"done"},
    {"type":"message","role":"system","content":[{"type":"input_text","text":"later"}]}],
    "tools":[{"type":"function","name":"f","parameters":{"type":"object","properties":{}},"strict":false}],
    "tool_choice":{"type":"function","name":"f"},
    "text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":false}},
    "reasoning":{"effort":"high"},"include":["reasoning.encrypted_content"],"max_output_tokens":16,"store":false})"));
  std::string lost;
  for (const Loss& loss : sent.translation.losses) lost += loss.field + std::string(" ");
  EXPECT_EQ(lost, "stop seed ");
}

TEST(ResponsesRequest, refuses_what_would_silently_change_the_answer) {
  const struct {
    WireFormat from;
    std::string_view body, param;
  } cases[] = {
      {WireFormat::openai_chat, R"({"model":"m","messages":[{"role":"user","content":"x"}],"n":2})",
       "n"},
      {WireFormat::gemini_generate,
       R"({"contents":[{"parts":[{"text":"x"}]}],"tools":[{"googleSearch":{}}]})", "tools"},
      {WireFormat::gemini_generate, R"({"contents":[],"cachedContent":"c"})", "cachedContent"},
  };
  for (const auto& one : cases) {
    const Sent sent = send(one.from, WireFormat::openai_responses, Json::parse(one.body));
    ASSERT_TRUE(sent.error) << one.body;
    EXPECT_EQ(sent.error->kind, ErrorKind::unsupported);
    EXPECT_EQ(sent.error->param, one.param);
  }
}

TEST(ResponsesRequest, names_the_field_at_fault) {
  Result<Request> request = kOpenaiResponses.decode_request(
      R"({"model":"m","input":[{"role":"user","content":"x"},{"role":7}]})", {}, false);
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().kind, ErrorKind::malformed_request);
  EXPECT_NE(request.error().message.find("input[1].role"), std::string::npos)
      << request.error().message;
}

TEST(ResponsesSeals, go_to_their_maker_only) {
  // Anthropic's signature, carried by a Responses client.
  const Json request = Json::parse(
      R"({"model":"m","reasoning":{"effort":"high"},"input":[{"role":"user","content":"q"},
    {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"a1:SIG"},
    {"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},
    {"type":"function_call_output","call_id":"c1","output":"r"}],"tools":[{"type":"function","name":"f"}]})");
  EXPECT_NE(send(WireFormat::openai_responses, WireFormat::anthropic_messages, request)
                .body.dump()
                .find("\"SIG\""),
            std::string::npos);
  EXPECT_EQ(send(WireFormat::openai_responses, WireFormat::openai_responses, request)
                .body.dump()
                .find("SIG"),
            std::string::npos);
  EXPECT_EQ(send(WireFormat::openai_responses, WireFormat::gemini_generate, request)
                .body.dump()
                .find("SIG"),
            std::string::npos);
}

std::string frame(std::string_view type, std::string_view rest) {
  std::string data(rest);
  std::erase(data, '\n');  // of the literals here
  return "event: " + std::string(type) + "\ndata: {\"type\":\"" + std::string(type) + "\"" + data +
         "}\n\n";
}

std::string decoded(const std::string& stream) {
  EventLog log;
  auto decoder = kOpenaiResponses.reply_decoder({});
  if (auto error = test::decode_stream(*decoder, stream, log)) log.on_event(*error);
  return log.text;
}

const std::string kCreated =
    frame("response.created", R"(,"response":{"id":"resp_1","model":"g","status":"in_progress"})");

TEST(ResponsesDecoder, follows_the_output_index_where_item_ids_change) {
  EXPECT_EQ(
      decoded(
          kCreated +
          frame("response.output_item.added",
                R"(,"output_index":3,"item":{"type":"message","id":"a"})") +
          frame("response.output_text.delta",
                R"(,"output_index":3,"item_id":"b","content_index":1,"delta":"x")") +
          frame("response.output_text.delta",
                R"(,"output_index":3,"item_id":"c","content_index":1,"delta":"y")") +
          frame("response.output_text.done",
                R"(,"output_index":3,"item_id":"d","content_index":1,"text":"xy")") +
          frame("response.output_item.done",
                R"(,"output_index":3,"item":{"type":"message","id":"e","content":[]})") +
          frame(
              "response.completed",
              R"(,"response":{"status":"completed","output":[],"usage":{"input_tokens":1,"output_tokens":2}})")),
      "start g\n0 text:x|y|\nusage in 1 out 2\nfinish stop\n");
}

TEST(ResponsesDecoder, holds_an_interleaved_item_back) {
  EXPECT_EQ(
      decoded(
          kCreated +
          frame("response.output_item.added",
                R"(,"output_index":0,"item":{"type":"message","id":"a"})") +
          frame("response.output_text.delta", R"(,"output_index":0,"delta":"one ")") +
          frame("response.output_item.added",
                R"(,"output_index":1,"item":{"type":"function_call","call_id":"c","name":"f"})") +
          frame("response.function_call_arguments.delta", R"(,"output_index":1,"delta":"{}")") +
          frame("response.output_text.delta", R"(,"output_index":0,"delta":"two")") +
          frame("response.output_item.done", R"(,"output_index":0,"item":{"type":"message"})") +
          frame(
              "response.output_item.done",
              R"(,"output_index":1,"item":{"type":"function_call","call_id":"c","name":"f","arguments":"{}"})") +
          frame("response.completed", R"(,"response":{"status":"completed","output":[]})")),
      "start g\n0 text:one |two|\n1 call f c:{}|\nfinish tool_calls\n");
}

TEST(ResponsesDecoder, reads_the_output_from_the_final_event_when_nothing_came_before) {
  EXPECT_EQ(
      decoded(kCreated + frame("response.completed", R"(,"response":{"status":"completed","output":[
    {"type":"reasoning","id":"rs_1","summary":[{"text":"a"},{"text":"b"}],"encrypted_content":"E"},
    {"type":"message","content":[{"type":"refusal","refusal":"no"}]},
    {"type":"custom_tool_call","call_id":"c","name":"x","input":"raw"}]})")),
      "start g\n0 thinking:a|\n\n|b| seal E\n1 refusal:no|\n2 call x c:raw|\nfinish tool_calls\n");
}

TEST(ResponsesDecoder, reads_both_forms_of_an_error_once) {
  const std::string failed = frame(
      "response.failed",
      R"(,"response":{"status":"failed","error":{"code":"server_error","message":"boom"},"output":[]})");
  EXPECT_EQ(decoded(kCreated + failed), "start g\nerror internal boom\n");
  EXPECT_EQ(
      decoded(kCreated +
              frame("error",
                    R"(,"error":{"type":"server_error","code":"server_error","message":"boom"})") +
              failed),
      "start g\nerror internal boom\n");
  EXPECT_EQ(
      decoded(kCreated + frame("error", R"(,"code":"server_error","message":"boom","param":null)")),
      "start g\nerror internal boom\n");
}

TEST(ResponsesDecoder, calls_a_stream_without_its_end_cut) {
  const std::string text =
      decoded(kCreated + frame("response.output_text.delta", R"(,"output_index":0,"delta":"x")"));
  EXPECT_NE(text.find("error upstream_cut"), std::string::npos) << text;
  EXPECT_EQ(text.find("finish"), std::string::npos);
}

}  // namespace
}  // namespace llm_proxy
