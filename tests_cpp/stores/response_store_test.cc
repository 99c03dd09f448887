#include "stores/response_store.h"

#include <gtest/gtest.h>

#include "json/reader.h"

namespace llm_proxy {
namespace {

constexpr TimePoint kStart{std::chrono::hours(1)};

std::shared_ptr<StoredResponse> response(std::string id, ResponseStore::Entry before = nullptr,
                                         std::size_t size = 100) {
  auto out = std::make_shared<StoredResponse>();
  out->id = std::move(id);
  out->body.assign(size, 'x');
  out->before = std::move(before);
  return out;
}

std::string body_of(ResponseTurn& turn, std::string_view body) {
  return turn.expanded(body, *peek_request(body));
}

std::unique_ptr<ResponseTurn> turn_of(ResponseStore& store, std::string_view body) {
  auto turn = ResponseTurn::open(store, "key", body, *peek_request(body), kStart);
  return turn ? *std::move(turn) : nullptr;
}

TEST(ResponseStore, shows_nobody_what_another_keeps) {
  ResponseStore store({});
  store.put("ann", "resp_1", response("resp_1"), kStart);
  EXPECT_NE(store.find("ann", "resp_1", kStart), nullptr);
  EXPECT_EQ(store.find("bob", "resp_1", kStart), nullptr);
  EXPECT_FALSE(store.erase("bob", "resp_1"));
  EXPECT_TRUE(store.erase("ann", "resp_1"));
  EXPECT_EQ(store.find("ann", "resp_1", kStart), nullptr);
  EXPECT_EQ(store.bytes(), 0u);
}

TEST(ResponseStore, forgets_what_is_too_old) {
  ResponseStore store(
      {.store_entries = 9, .store_bytes = 1 << 20, .store_seconds = std::chrono::seconds(10)});
  store.put("ann", "resp_1", response("resp_1"), kStart);
  EXPECT_NE(store.find("ann", "resp_1", kStart + std::chrono::seconds(9)), nullptr);
  EXPECT_EQ(store.find("ann", "resp_1", kStart + std::chrono::seconds(10)), nullptr);
  store.put("ann", "resp_2", response("resp_2"), kStart + std::chrono::seconds(10));
  EXPECT_EQ(store.entries(), 1u);
}

TEST(ResponseStore, is_bounded_in_bytes_though_every_turn_holds_the_ones_before_it) {
  ResponseStore store({.store_entries = 1'000'000, .store_bytes = 1 << 20});
  ResponseStore::Entry last;
  for (int turn = 0; turn < 20'000; ++turn) {
    auto next = response("resp_" + std::to_string(turn), std::move(last), 1000);
    last = next;
    store.put("ann", "resp_" + std::to_string(turn), std::move(next), kStart);
    if (turn % 500 == 0) last = nullptr;  // a conversation ends
    ASSERT_LE(store.bytes(), (1u << 20) + 500 * 1400);
  }
  last = nullptr;
  store.put("ann", "end", response("end"), kStart);
  EXPECT_LE(store.bytes(), 1u << 20);
}

TEST(ResponseStore, nobody_loses_anything_to_somebody_who_keeps_more) {
  ResponseStore store({.store_entries = 100, .store_bytes = 1 << 20});
  store.put("ann", "resp_ann", response("resp_ann"), kStart);
  for (int i = 0; i < 1000; ++i) {
    const auto name = "resp_" + std::to_string(i);
    store.put("bob", name, response(name), kStart);
    store.put("ann", "conv_ann", response("items_" + std::to_string(i)), kStart);
  }
  EXPECT_EQ(store.entries(), 100u);
  EXPECT_NE(store.find("ann", "resp_ann", kStart), nullptr);
  EXPECT_NE(store.find("ann", "conv_ann", kStart), nullptr);
  EXPECT_EQ(store.find("bob", "resp_0", kStart), nullptr);
  EXPECT_NE(store.find("bob", "resp_999", kStart), nullptr);
}

TEST(ResponseStore, a_long_conversation_counts_with_all_its_turns) {
  ResponseStore store({.store_entries = 1000, .store_bytes = 100'000});
  for (int i = 0; i < 10; ++i) {
    const auto name = "resp_" + std::to_string(i);
    store.put("ann", name, response(name, nullptr, 2000), kStart);
  }
  // One entry at a time, and every turn before it.
  ResponseStore::Entry last;
  for (int i = 0; i < 200; ++i) {
    auto next = response("turn_" + std::to_string(i), last, 1000);
    last = next;
    store.put("bob", "conv_bob", std::move(next), kStart);
    if (store.find("bob", "conv_bob", kStart) == nullptr) last = nullptr;
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_NE(store.find("ann", "resp_" + std::to_string(i), kStart), nullptr) << i;
  }
}

TEST(ResponseStore, knows_a_name_as_long_as_somebody_keeps_it) {
  ResponseStore store(
      {.store_entries = 9, .store_bytes = 1 << 20, .store_seconds = std::chrono::seconds(10)});
  store.put("ann", "resp_1", response("resp_1"), kStart);
  store.put("bob", "resp_1", response("resp_1"), kStart);
  EXPECT_TRUE(store.knows("resp_1"));
  store.erase("ann", "resp_1");
  EXPECT_TRUE(store.knows("resp_1"));
  store.put("bob", "resp_1", response("resp_1"), kStart);
  store.put("bob", "resp_2", response("resp_2"), kStart + std::chrono::seconds(11));
  EXPECT_FALSE(store.knows("resp_1"));
}

TEST(ResponseStore, keeps_nothing_larger_than_itself) {
  ResponseStore store({.store_entries = 9, .store_bytes = 1000});
  store.put("ann", "resp_1", response("resp_1", nullptr, 2000), kStart);
  EXPECT_EQ(store.entries(), 0u);
}

TEST(ResponseTurn, puts_the_past_where_the_input_is) {
  ResponseStore store({});
  const std::string first = R"({"input":"a \"b\"","model":"m"})";
  auto turn = turn_of(store, first);
  turn->on_whole(R"({"id":"resp_1","status":"completed","output":[ {"n":1}, {"n":2} ]})", {});
  struct Case {
    std::string_view body, expanded;
  };
  const std::string past =
      R"({"type":"message","role":"user","content":[{"type":"input_text","text":"a \"b\""}]},)"
      R"({"n":1}, {"n":2})";
  for (const auto& [body, expanded] : {
           Case{R"({"previous_response_id":"resp_1","input":[ {"n":3} ],"model":"m"})",
                R"({"previous_response_id":null,"input":[PAST,{"n":3}],"model":"m"})"},
           Case{R"({"input":[],"previous_response_id":"resp_1"})",
                R"({"input":[PAST],"previous_response_id":null})"},
           Case{R"({"previous_response_id":"resp_1"})",
                R"({"input":[PAST],"previous_response_id":null})"},
       }) {
    auto next = turn_of(store, body);
    ASSERT_TRUE(next->knows_past());
    std::string wanted(expanded);
    wanted.replace(wanted.find("PAST"), 4, past);
    EXPECT_EQ(body_of(*next, body), wanted);
  }
}

TEST(ResponseTurn, hears_the_end_of_a_stream_however_it_is_cut) {
  const std::string events =
      "event: response.created\r\ndata: {\"response\":{\"id\":\"resp_1\"}}\r\n\r\n: ping\n\n"
      "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"output\":[]}}\n\n";
  for (std::size_t cut = 0; cut <= events.size(); ++cut) {
    ResponseStore store({});
    auto turn = turn_of(store, R"({"input":"a"})");
    turn->on_stream(std::string_view(events).substr(0, cut), {});
    turn->on_stream(std::string_view(events).substr(cut), "backend");
    const auto kept = store.find("key", "resp_1", kStart);
    ASSERT_NE(kept, nullptr) << "cut at " << cut;
    EXPECT_EQ(kept->body, R"({"id":"resp_1","output":[]})");
  }
}

TEST(ResponseTurn, keeps_no_failure_and_nothing_unwanted) {
  ResponseStore store({});
  turn_of(store, R"({"input":"a"})")->on_whole(R"({"id":"resp_1","status":"failed"})", {});
  EXPECT_EQ(turn_of(store, R"({"input":"a","store":false})"), nullptr);
  EXPECT_EQ(store.entries(), 0u);
}

}  // namespace
}  // namespace llm_proxy
