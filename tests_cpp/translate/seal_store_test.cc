#include "translate/seal_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "support.h"
#include "translate/common.h"

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

void answer(SealStore& store, const std::string& session, std::string_view token,
            std::string_view arguments) {
  Nowhere nowhere;
  SealRecorder tee(store, session, nowhere, kNow);
  tee.on_event(PartStart{.kind = PartKind::thinking});
  tee.on_event(PartDelta{0, Text::plain("hm")});
  tee.on_event(PartSeal{0, Seal{kA, Text::plain(token), {}}});
  tee.on_event(PartEnd{0});
  tee.on_event(PartStart{.index = 1,
                         .kind = PartKind::tool_call,
                         .call_id = Text::plain("c1"),
                         .name = Text::plain("f")});
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
  Result<Request> request = codec(WireFormat::openai_chat).decode_request(body, {}, false);
  EXPECT_TRUE(request);
  restore_seals(*request, store, session, upstream, now);
  Translation translation;
  translation.upstream_model = "m";
  std::string out;
  EXPECT_TRUE(codec(upstream).encode_request(*request, translation, out));
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
  EXPECT_EQ(asked(store, "s", kA, kNow + 60s).dump().find("SIG"), std::string::npos);
}

TEST(SealStore, tells_calls_apart_whose_ids_come_again) {
  SealStore store({});
  answer(store, "s", "ONE", R"({"a":1})");
  answer(store, "s", "TWO", R"({"a":2})");
  EXPECT_NE(asked(store, "s", kA, kNow, R"({\"a\":1})").dump().find("ONE"), std::string::npos);
  EXPECT_NE(asked(store, "s", kA, kNow, R"({\"a\":2})").dump().find("TWO"), std::string::npos);
  EXPECT_EQ(asked(store, "s", kA, kNow, R"({\"a\":3})").dump().find("thinking"), std::string::npos);
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
