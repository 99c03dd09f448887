#include "stores/seal_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "formats/shared/seals.h"
#include "tests_cpp/formats/support.h"

namespace llm_proxy {
namespace {

using test::Json;
using namespace std::chrono_literals;

constexpr WireFormat kA = WireFormat::anthropic_messages;
const SealStore::Clock::time_point kNow{};

class Nowhere final : public EventSink {
 public:
  void on_event(const Event&) override {}
};

Result<Request> decoded(std::string_view chat_body) {
  return format_of(WireFormat::openai_chat).decode_request(chat_body, {}, false);
}

constexpr std::string_view kNoPast = R"({"model":"m","messages":[{"role":"user","content":"q"}]})";

// The model answers `past` with thinking and a call; an empty `token`: with the call alone.
void answer(SealStore& store, const std::string& session, std::string_view token,
            std::string_view arguments, std::string_view past = kNoPast,
            std::string_view name = "f") {
  Nowhere nowhere;
  const Result<Request> before = decoded(past);
  Translation translation;
  translation.aliases.push_back({"g_x", "g.x", "", CallKind::custom});
  const EncodeContext context{&*before, &translation, 7, "seed", false};
  SealRecorder tee(store, session, nowhere, kNow, context, /*keep_ids=*/false);
  if (!token.empty()) {
    tee.on_event(PartStart{.kind = PartKind::thinking});
    tee.on_event(PartDelta{0, Text::plain("hm")});
    tee.on_event(PartSeal{0, Seal{kA, Text::plain(token), {}}});
    tee.on_event(PartEnd{0});
  }
  tee.on_event(PartStart{.index = 1,
                         .kind = PartKind::tool_call,
                         .call_id = Text::plain("c1"),
                         .name = Text::plain(name)});
  tee.on_event(PartDelta{1, Text::plain(arguments)});
  tee.on_event(PartEnd{1});
  tee.on_event(Finish{});
}

// A chat client that sends back role, content and calls, as all do.
Json asked(SealStore& store, std::string_view session, WireFormat upstream,
           SealStore::Clock::time_point now = kNow, std::string_view arguments = R"({\"a\": 1})") {
  const std::string body =
      R"({"model":"m","messages":[{"role":"user","content":"q"},{"role":"assistant","content":"t",
    "tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":")" +
      std::string(arguments) + R"("}}]},{"role":"tool","tool_call_id":"c1","content":"r"}]})";
  Result<Request> request = format_of(WireFormat::openai_chat).decode_request(body, {}, false);
  EXPECT_TRUE(request);
  restore_seals(*request, store, session, upstream, now);
  Translation translation;
  translation.upstream_model = "m";
  std::string out;
  EXPECT_TRUE(format_of(upstream).encode_request(*request, translation, out));
  return Json::parse(out);
}

TEST(SealStore, gives_back_what_the_clients_format_dropped) {
  SealStore store({});
  answer(store, "s", "SIG", R"({"a":1})");
  const Json content = asked(store, "s", kA)["messages"][1]["content"];
  EXPECT_EQ(content[0], Json::parse(R"({"type":"thinking","thinking":"hm","signature":"SIG"})"));
  EXPECT_EQ(content[1]["text"], "t");
  EXPECT_EQ(content[2]["id"], "c1");
}

TEST(SealStore, keeps_sessions_makers_and_time_apart) {
  SealStore store({.ttl = 60s});
  answer(store, "s", "SIG", R"({"a":1})");
  EXPECT_EQ(asked(store, "other", kA).dump().find("SIG"), std::string::npos);
  EXPECT_EQ(asked(store, "s", WireFormat::gemini_generate).dump().find("SIG"), std::string::npos);
  EXPECT_EQ(asked(store, "s", WireFormat::openai_responses).dump().find("SIG"), std::string::npos);
  EXPECT_NE(asked(store, "s", kA, kNow + 59s).dump().find("SIG"), std::string::npos);
  EXPECT_EQ(asked(store, "s", kA, kNow + 119s).dump().find("SIG"), std::string::npos);
}

TEST(SealStore, keeps_what_a_long_session_goes_on_using) {
  SealStore store({.entries = 2, .ttl = 60s});
  answer(store, "s", "SIG", R"({"a":1})");
  for (int minute = 0; minute < 9; ++minute) {
    const auto now = kNow + 50s * minute;
    EXPECT_NE(asked(store, "s", kA, now).dump().find("SIG"), std::string::npos) << minute;
    store.put("s", std::to_string(minute), "f", {{kA, false, "", "x", ""}}, now);
  }
}

// A Gemini client that sends no ids back, as opencode does, and a Chat upstream.
class Unnamed {
 public:
  // The model answers the history so far with these calls; the client keeps them without ids.
  void model_calls(const std::vector<std::pair<std::string, std::string>>& calls) {
    Result<Request> request = decode_history();
    ASSERT_TRUE(request);
    Nowhere nowhere;
    Translation translation;
    translation.aliases.push_back({"f_x", "f.x", "", CallKind::function});
    const EncodeContext context{&*request, &translation, 7, "seed", false};
    SealRecorder tee(store, session, nowhere, kNow, context, /*keep_ids=*/true);
    std::string said, results;
    for (const auto& [id, arguments] : calls) {
      tee.on_event(PartStart{
          .kind = PartKind::tool_call, .call_id = Text::plain(id), .name = Text::plain("f_x")});
      tee.on_event(PartDelta{0, Text::plain(arguments)});
      tee.on_event(PartEnd{0});
      const std::string comma = said.empty() ? "" : ",";
      said += comma + R"({"functionCall":{"name":"f.x","args":)" + arguments + "}}";
      results +=
          comma + R"({"functionResponse":{"name":"f.x","response":{"output":")" + id + "\"}}}";
    }
    history +=
        R"(,{"role":"model","parts":[)" + said + R"(]},{"role":"user","parts":[)" + results + "]}";
  }

  std::string sent() {
    Result<Request> request = decode_history();
    EXPECT_TRUE(request);
    for (int leg = 0; leg < 2; ++leg) restore_ids(*request, store, session, kNow);
    Translation translation;
    translation.upstream_model = "m";
    std::string out;
    EXPECT_TRUE(format_of(WireFormat::openai_chat).encode_request(*request, translation, out));
    return out;
  }

  // "call=result" by their ids, in order.
  std::string links() {
    std::string calls, results;
    const Json body = Json::parse(sent());
    for (const Json& message : body["messages"]) {
      if (message.contains("tool_calls")) {
        for (const Json& call : message["tool_calls"]) {
          calls += call["id"].get<std::string>() + " ";
        }
      }
      if (message["role"] == "tool") {
        results += message["tool_call_id"].get<std::string>() + " ";
        EXPECT_TRUE(loose || message["tool_call_id"] == message["content"]) << message;
      }
    }
    EXPECT_EQ(calls, results);
    return calls;
  }

  SealStore store{{}};
  std::string session = "s";
  std::string history = R"({"role":"user","parts":[{"text":"q"}]})";
  bool loose = false;  // results need not say the id of their call

 private:
  Result<Request> decode_history() {
    body_ = R"({"contents":[)" + history + "]}";
    return format_of(WireFormat::gemini_generate).decode_request(body_, "m", false);
  }

  std::string body_;
};

TEST(CallIds, come_back_to_the_upstream_that_gave_them) {
  Unnamed client;
  client.model_calls(
      {{"call_A", R"({"a":1})"}, {"call_B", R"({"a":1})"}, {"call_C", R"({"a": 2})"}});
  EXPECT_EQ(client.links(), "call_A call_B call_C ");
  client.model_calls({{"call_D", R"({"a":1})"}});
  EXPECT_EQ(client.links(), "call_A call_B call_C call_D ");
}

TEST(CallIds, of_equal_prefixes_stay_equal_bytes) {
  Unnamed client;
  client.model_calls({{"call_A", R"({"a":1})"}});
  std::string before = client.sent();
  before.resize(before.rfind("]"));  // up to the end of the messages
  for (const char* id : {"call_B", "call_C"}) {
    client.model_calls({{id, R"({"a":1})"}});
    EXPECT_EQ(client.sent().substr(0, before.size()), before);
  }
}

TEST(CallIds, of_an_answer_that_was_asked_for_again_are_the_latest) {
  Unnamed client;
  const std::string asked = client.history;
  client.model_calls({{"call_A", R"({"a":1})"}});
  client.history = asked;  // the stream broke
  client.model_calls({{"call_B", R"({"a":1})"}});
  EXPECT_EQ(client.links(), "call_B ");
}

TEST(CallIds, stay_made_up_where_nothing_is_known_and_unique_where_a_server_repeats_them) {
  Unnamed client;
  client.loose = true;
  client.model_calls({{"call_0", R"({"a":1})"}});
  client.model_calls({{"call_0", R"({"a":1})"}});
  const std::string links = client.links();
  EXPECT_EQ(links.substr(0, 7), "call_0 ");
  EXPECT_EQ(links.find("call_0", 7), std::string::npos) << links;
  client.session = "another";
  EXPECT_EQ(client.links().find("call_0"), std::string::npos);
}

TEST(SealStore, tells_calls_apart_whose_ids_come_again) {
  SealStore store({});
  answer(store, "s", "ONE", R"({"a":1})");
  answer(store, "s", "TWO", R"({"a":2})");
  EXPECT_NE(asked(store, "s", kA, kNow, R"({\"a\":1})").dump().find("ONE"), std::string::npos);
  EXPECT_NE(asked(store, "s", kA, kNow, R"({\"a\":2})").dump().find("TWO"), std::string::npos);
  EXPECT_EQ(asked(store, "s", kA, kNow, R"({\"a\":3})").dump().find("thinking"), std::string::npos);
}

// What the store puts into this conversation, as Anthropic is asked.
std::string restored(SealStore& store, std::string_view chat_body) {
  Result<Request> request = decoded(chat_body);
  EXPECT_TRUE(request);
  restore_seals(*request, store, "s", kA, kNow);
  Translation translation;
  translation.upstream_model = "m";
  std::string out;
  EXPECT_TRUE(format_of(kA).encode_request(*request, translation, out));
  return out;
}

std::string turns(const std::vector<std::string_view>& arguments) {
  std::string out = R"({"model":"m","messages":[{"role":"user","content":"q"})";
  for (const auto text : arguments) {
    out += R"(,{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function",
        "function":{"name":"f","arguments":")";
    Text::plain(text).escape_to(out);
    out += R"("}}]},{"role":"tool","tool_call_id":"c1","content":"r"})";
  }
  return out + "]}";
}

TEST(SealStore, gives_nothing_to_a_call_of_that_id_which_says_something_else) {
  SealStore store({});
  answer(store, "s", "SIG", R"({"a":1})");
  EXPECT_EQ(restored(store, turns({R"({"a":2})"})).find("SIG"), std::string::npos);
  EXPECT_NE(restored(store, turns({R"({"a":1})"})).find("SIG"), std::string::npos);
}

TEST(SealStore, knows_arguments_again_however_they_are_written) {
  SealStore store({});
  answer(store, "s", "SIG", R"({"b":"zażółć","a":[1,2]})");
  EXPECT_NE(
      restored(store, turns({"{ \"a\": [1, 2],\n \"b\": \"za\\u017c\\u00f3\\u0142\\u0107\"}"}))
          .find("SIG"),
      std::string::npos);
}

TEST(SealStore, gives_thinking_to_its_own_turn_where_ids_and_arguments_come_again) {
  const auto count = [](const std::string& text) {
    return (text.find("ONE") != text.npos ? 1 : 0) + (text.find("TWO") != text.npos ? 2 : 0) +
           (text.find("ONE") != text.rfind("ONE") ? 100 : 0);
  };
  SealStore store({});
  constexpr std::string_view kSame = R"({"a":1})";
  answer(store, "s", "ONE", kSame);
  answer(store, "s", "", kSame, turns({kSame}));
  EXPECT_EQ(count(restored(store, turns({kSame, kSame}))), 1);
  answer(store, "s", "TWO", kSame, turns({kSame, kSame}));
  EXPECT_EQ(count(restored(store, turns({kSame, kSame, kSame}))), 3);
  EXPECT_LT(restored(store, turns({kSame, kSame, kSame})).find("ONE"),
            restored(store, turns({kSame, kSame, kSame})).find("TWO"));
}

TEST(SealStore, knows_a_wrapped_custom_tool_by_the_clients_name_and_text) {
  SealStore store({});
  answer(store, "s", "SIG", R"({"input":"ls -l"})", kNoPast, "g_x");
  EXPECT_NE(restored(store, R"({"model":"m","messages":[{"role":"user","content":"q"},
      {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"custom",
      "custom":{"name":"g.x","input":"ls -l"}}]},
      {"role":"tool","tool_call_id":"c1","content":"r"}]})")
                .find("SIG"),
            std::string::npos);
}

TEST(SealStore, stays_within_its_bounds) {
  SealStore store({.entries = 8, .bytes = 4000});
  for (int i = 0; i < 100; ++i) {
    store.put("s", std::to_string(i), "f",
              {{kA, false, "", std::string(static_cast<std::size_t>(i * 7), 'x'), ""}}, kNow);
    EXPECT_LE(store.entries(), 8u);
    EXPECT_LE(store.bytes(), 4000u);
  }
  EXPECT_FALSE(store.find("s", "99", "f", kNow).empty());
  EXPECT_TRUE(store.find("s", "1", "f", kNow).empty());
  store.put("s", "huge", "f", {{kA, false, "", std::string(5000, 'x'), ""}}, kNow);
  EXPECT_TRUE(store.find("s", "huge", "f", kNow).empty());
  EXPECT_FALSE(store.find("s", "99", "f", kNow).empty());
}

TEST(SealStore, nobody_loses_anything_to_somebody_who_keeps_more) {
  SealStore store({.entries = 50, .bytes = 1 << 20});
  const std::string named = std::string("ann") + '\0' + "session";
  const std::string by_address = std::string("\0address ", 9) + "10.0.0.7";
  for (const auto& session : {std::string("ann"), named, by_address}) {
    store.put(session, "call", "f", {{kA, false, "", session, ""}}, kNow);
  }
  for (int i = 0; i < 1000; ++i) {
    const auto session = std::string("bob") + '\0' + std::to_string(i);
    store.put(session, "call", "f", {{kA, false, "", "x", ""}}, kNow);
  }
  EXPECT_EQ(store.entries(), 50u);
  for (const auto& session : {std::string("ann"), named, by_address}) {
    EXPECT_FALSE(store.find(session, "call", "f", kNow).empty()) << session;
  }
}

TEST(SealStore, serves_workers_at_the_same_time) {
  SealStore store({.entries = 16});
  std::vector<std::thread> workers;
  std::atomic<int> wrong = 0;
  for (int worker = 0; worker < 4; ++worker) {
    workers.emplace_back([&store, &wrong, worker] {
      const std::string session = std::to_string(worker);
      for (int i = 0; i < 500; ++i) {
        const std::string id = std::to_string(i % 20);
        store.put(session, id, "f", {{kA, false, "", session, ""}}, kNow);
        for (const auto& part : store.find(session, id, "f", kNow)) wrong += part.token != session;
      }
    });
  }
  for (auto& worker : workers) worker.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(store.entries(), 16u);
}

// A stream of OpenAI's, whose end seals its reasoning anew, to a client of this format.
std::string sealed_twice(SealStore& store, WireFormat client) {
  const char* stream = R"(
data: {"type":"response.created","response":{"id":"resp_1","status":"in_progress","output":[]}}

data: {"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[]}}

data: {"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"OLD"}}

data: {"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{}"}}

data: {"type":"response.completed","response":{"id":"resp_1","status":"completed","output":[{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"NEW"},{"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{}"}]}}

)";
  Request request;
  Translation translation;
  const EncodeContext context{&request, &translation, 7, "seed", false};
  auto encoder = format_of(client).stream_encoder(context);
  SealRecorder tee(store, "s", *encoder, kNow, context, /*keep_ids=*/false);
  auto decoder = format_of(WireFormat::openai_responses).reply_decoder(translation);
  EXPECT_FALSE(test::decode_stream(*decoder, stream, tee));
  return encoder->out();
}

TEST(SealStore, sends_back_the_seal_that_the_end_of_the_stream_gave) {
  SealStore store({});
  const std::string told = sealed_twice(store, kA);
  EXPECT_NE(told.find(R"("signature":"r1:rs_1:OLD")"), std::string::npos) << told;
  for (const auto& [session, seal] : {std::pair("s", "NEW"), std::pair("other", "OLD")}) {
    Result<Request> request = format_of(kA).decode_request(
        R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"},
        {"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"r1:rs_1:OLD"},
        {"type":"tool_use","id":"c1","name":"f","input":{}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":"r"}]}]})",
        {}, false);
    ASSERT_TRUE(request);
    restore_seals(*request, store, session, WireFormat::openai_responses, kNow);
    Translation translation;
    translation.upstream_model = "m";
    std::string out;
    ASSERT_TRUE(format_of(WireFormat::openai_responses).encode_request(*request, translation, out));
    EXPECT_EQ(Json::parse(out)["input"][1]["encrypted_content"], seal) << session;
  }
}

// The base64 of r1:rs_1: and the seal. Gemini calls come whole, so that the last one can wait.
TEST(SealStore, puts_the_last_seal_into_a_call_that_was_not_told_yet) {
  SealStore store({});
  const std::string told = sealed_twice(store, WireFormat::gemini_generate);
  EXPECT_NE(told.find(R"("args":{}},"thoughtSignature":"cjE6cnNfMTpORVc=")"), std::string::npos)
      << told;
  EXPECT_EQ(told.find("cjE6cnNfMTpPTEQ="), std::string::npos) << told;
}

TEST(CarriedSeals, are_seen_where_they_can_stand_and_nowhere_else) {
  struct Case {
    WireFormat format;
    std::string_view body;
    bool carries;
  };
  constexpr auto kR = WireFormat::openai_responses, kG = WireFormat::gemini_generate;
  for (const Case& row : {
           Case{kA, R"({"type":"thinking","signature":"r1:rs_1:gAAA"})", true},
           Case{kA, R"({"type":"redacted_thinking","data" : "g1:AbC"})", true},
           Case{kA, R"({"type":"thinking","signature":"EqMD"})", false},
           Case{kA, R"({"type":"text","text":"r1:rs_1:gAAA"})", false},
           Case{kA, R"({"type":"thinking","signature":null,"text":"r1:x"})", false},
           Case{kA, R"({"input":{"say":"\"signature\":\"r1:x\""}})", false},
           Case{kR, R"({"encrypted_content":"a1:EqMD"})", true},
           Case{kR, R"({"encrypted_content":"a1r:EqMD"})", true},
           Case{kR, R"({"encrypted_content":"gAAAAA"})", false},
           Case{kR, R"({"signature":"a1:EqMD"})", false},
           Case{kG, R"({"thoughtSignature":"cjE6cnNfMQ=="})", true},
           Case{kG, R"({"thought_signature": "YTFyOkVxTUQ="})", true},
           Case{kG, R"({"thoughtSignature":"EskBCsYB"})", false},
           Case{kG, R"({"thoughtSignature":)", false},
           Case{WireFormat::openai_chat, R"({"signature":"a1:EqMD"})", false},
       }) {
    EXPECT_EQ(carries_seals(row.format, row.body), row.carries) << row.body;
  }
}

}  // namespace
}  // namespace llm_proxy
