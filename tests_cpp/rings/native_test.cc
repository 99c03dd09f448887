#include "rings/native/native_plugin.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "rings/native/pii.h"

namespace llm_proxy {
namespace {

TEST(MayHoldPii, sees_every_kind_wherever_it_stands_in_the_text) {
  constexpr std::string_view kKinds[] = {
      "ann@example.org",
      "sk-abcdefghijklmnop1234",
      "AKIAABCDEFGHIJKLMNOP",
      "AIzaSyA123456789012345",
      "ghp_abcdefghijklmnopq",
      "xoxb-abcdefghijk",
      "DE89 3704 0044 0532 013",
      "4111 1111 1111 1111",
      "3782 822463 10005",
      "123-45-6789",
      "+49 30 123456",
      "10.1.2.3",
      "१२३-४५-६७८९",
  };
  for (const auto kind : kKinds) {
    for (std::size_t before = 0; before < 40; ++before) {
      const auto text = std::string(before, 'b') + " " + std::string(kind) + " and so forth, yes";
      EXPECT_TRUE(may_hold_pii(text)) << text;
    }
  }
}

TEST(MayHoldPii, sees_nothing_in_prose_of_any_script) {
  constexpr std::string_view kTexts[] = {
      "In 2024, 3 of 10 (or 1.5 +/- 2) said: well-known. An Axe, a xylophone, snake_case. ",
      "नमस्ते दुनिया, आप कैसे हैं? ",
      "你好，世界。今天天气很好！",
      "Ünïcödé “quotes” — and … more ",
  };
  for (const auto text : kTexts) {
    std::string many;
    for (int i = 0; i < 50; ++i) many += text;
    EXPECT_FALSE(may_hold_pii(many)) << text;
  }
}

TEST(PiiMasker, leaves_to_the_reference_what_stands_among_letters_of_other_scripts) {
  Placeholders values;
  PiiMasker masker("secret", "t", values);
  EXPECT_FALSE(masker.mask("é123-45-6789"));
  const auto masked = masker.mask("“123-45-6789” — …");
  ASSERT_TRUE(masked);
  EXPECT_NE(masked->find("[PII_SSN_"), std::string::npos);
  EXPECT_EQ(values.size(), 1u);
}

TEST(KillSwitch, leaves_to_python_every_word_that_comes_16_times_in_a_row_and_no_other) {
  const auto* analyze = native_plugin("kill_switch.analyze");
  ASSERT_NE(analyze, nullptr);
  NativeServices services;
  RingRequest request;
  NativeExchange exchange(request, services);
  const auto said_of = [&](const std::string& text) {
    RingReply reply;
    reply.body =
        R"({"choices":[{"message":{"content":")" + text + R"("},"finish_reason":"stop"}]})";
    NativeReply seen(reply);
    return analyze->reply(exchange, seen);
  };
  for (std::size_t length = 1; length < 30; ++length) {
    for (std::size_t before = 0; before < 50; ++before) {
      for (const bool more : {false, true}) {
        std::string text(before, 'b');
        if (before > 0) text += ' ';
        for (int n = 0; n < 15; ++n) text += std::string(length, 'w') + ' ';
        EXPECT_EQ(said_of(text + "and the rest"), NativeStep::done) << text;
        text += std::string(length, 'w');
        EXPECT_EQ(said_of(more ? text + " and the rest" : text), NativeStep::python) << text;
      }
    }
  }
}

TEST(PiiMasker, gives_a_tenant_its_own_tokens) {
  Placeholders values;
  PiiMasker one("secret", "one", values), other("secret", "other", values);
  EXPECT_EQ(one.token("EMAIL", "a@b.co"), one.token("EMAIL", "a@b.co"));
  EXPECT_NE(one.token("EMAIL", "a@b.co"), other.token("EMAIL", "a@b.co"));
}

TEST(ReplyCache, forgets_the_one_asked_for_longest_ago_and_the_old) {
  // A record is 24 bytes, its key and its reply, in eights: room for eight of these.
  ReplyCache cache(10, std::size_t{8} * 128);
  for (const char* key : {"a", "b", "c", "d", "e", "f", "g", "h"}) {
    cache.put(key, std::string(100, 'x'), 0);
  }
  EXPECT_EQ(cache.stats().entries, 8u);
  EXPECT_TRUE(cache.find("a", 1));
  cache.put("i", std::string(100, 'x'), 5);
  EXPECT_TRUE(cache.find("a", 1));
  EXPECT_FALSE(cache.find("b", 1));
  EXPECT_FALSE(cache.find("a", 10));
  EXPECT_TRUE(cache.find("i", 10));
  cache.put("large", std::string(101, 'x'), 5);
  EXPECT_FALSE(cache.find("large", 6));
  EXPECT_EQ(cache.stats().bytes, 1024u);
  cache.clear();
  EXPECT_FALSE(cache.find("i", 10));
  EXPECT_EQ(cache.stats().entries, 0u);
  cache.put("i", "y", 5);
  EXPECT_EQ(cache.find("i", 10), "y");
}

TEST(ReplyCache, gives_each_key_its_own_reply_and_stays_in_its_bounds_round_after_round) {
  constexpr std::size_t kBytes = 8000;
  ReplyCache cache(10, kBytes);
  const auto reply_of = [](std::size_t n) {
    return std::string(1 + n * 37 % 900, static_cast<char>('a' + n % 26));
  };
  for (std::size_t n = 0; n < 2000; ++n) {
    cache.put("key " + std::to_string(n), reply_of(n), 0);
    ASSERT_LE(cache.stats().bytes, kBytes);
    ASSERT_EQ(cache.find("key " + std::to_string(n), 1), reply_of(n));
    // An answer that is asked for now and then stays, one that nobody asks for goes.
    ASSERT_EQ(cache.find("key 0", 1), reply_of(0)) << n;
    if (n > 1000) {
      ASSERT_FALSE(cache.find("key " + std::to_string(n - 1000), 1));
    }
    // Another answer to the same question takes the place of the first.
    if (n % 7 == 3) {
      cache.put("key " + std::to_string(n), "anew", 0);
      ASSERT_EQ(cache.find("key " + std::to_string(n), 1), "anew");
    }
  }
  EXPECT_GT(cache.stats().entries, 8u);
  EXPECT_EQ(cache.stats().bytes, kBytes);
}

// The index has fewer places than the log has room for short replies.
TEST(ReplyCache, forgets_the_oldest_short_ones_where_the_index_is_full) {
  ReplyCache cache(10, 1 << 20);
  for (int n = 0; n < 20'000; ++n) cache.put(std::to_string(n), "x", 0);
  EXPECT_TRUE(cache.find("19999", 1));
  EXPECT_LT(cache.stats().entries, 20'000u);
  EXPECT_GT(cache.stats().entries, 2'000u);
}

TEST(ReplyCache, keeps_nothing_where_there_is_no_room) {
  for (const std::size_t bytes : {0, 1, 7, 8, 255}) {
    ReplyCache cache(10, bytes);
    cache.put("a", "x", 0);
    EXPECT_FALSE(cache.find("a", 1)) << bytes;
  }
}

std::string key_of(std::string_view body, std::string_view tenant = "t") {
  ChatRequestView view;
  EXPECT_TRUE(view.read(body)) << body;
  return cache_key(view, tenant);
}

TEST(CacheKey, is_the_same_for_every_spelling_of_what_asks_for_the_same_answer) {
  const auto key = key_of(R"({"model":"m","messages":[{"role":"user","content":"é \"x\"\n"}]})");
  for (
      const std::string_view body : {
          R"({ "messages" : [ {"role": "user", "content":"\u00e9 \"x\"\n"} ], "model":"m" })",
          R"({"model":"x","stream":true,"user":"u","messages":[{"role":"user","content":"é \"x\"\n"}],"model":"m"})",
      }) {
    EXPECT_EQ(key_of(body), key) << body;
  }
}

TEST(CacheKey, differs_by_tenant_and_by_whatever_may_change_an_answer) {
  constexpr std::string_view kBody = R"({"model":"m","messages":[]})";
  const auto key = key_of(kBody);
  EXPECT_NE(key_of(kBody, "u"), key);
  EXPECT_NE(key_of(R"({"model":"m","messages":[],"seed":1})"), key);
  EXPECT_NE(key_of(R"({"model":"m","messages":[{"role":"user"}]})"), key);
  EXPECT_NE(key_of(R"({"model":"m n","messages":[]})"), key_of(R"({"model":"mn","messages":[]})"));
}

struct Asked {
  RingRequest request;
  NativeServices services;
  NativeExchange exchange{request, services};

  explicit Asked(std::string body) {
    request.body = std::move(body);
    request.key_hash = "tenant";
    services.cache = std::make_shared<ReplyCache>(10, 1000);
  }
  NativeStep run(std::string_view name) { return native_plugin(name)->request(exchange); }
};

TEST(NativeSteps, hand_over_what_is_no_json_of_a_usual_kind) {
  for (const char* name : {"context_minifier.compress", "pii_masker.mask", "cache_check.lookup",
                           "smart_router.select_endpoint"}) {
    for (const char* body : {"", "[]", "{", R"({"mod\u0065l":"m"})"}) {
      Asked asked(body);
      EXPECT_EQ(asked.run(name), NativeStep::python) << name << body;
    }
  }
}

TEST(NativeSteps, mask_in_place_and_leave_the_rest_of_the_body_as_it_was) {
  Asked asked(R"({ "x" : 1.50, "messages":[{"content":"\u0061@b.co", "role":"user"}] })");
  EXPECT_EQ(asked.run("pii_masker.mask"), NativeStep::done);
  ASSERT_EQ(asked.exchange.placeholders.size(), 1u);
  const auto& token = asked.exchange.placeholders.begin()->first;
  EXPECT_EQ(asked.request.body,
            R"({ "x" : 1.50, "messages":[{"content":")" + token + R"(", "role":"user"}] })");
}

TEST(EndpointBreaker, opens_after_failures_in_a_row_and_lets_one_try_through) {
  EndpointBreaker breaker;
  for (int i = 0; i < EndpointBreaker::kOpenAfter - 1; ++i) breaker.report(false, 0);
  EXPECT_TRUE(breaker.closed());
  breaker.report(false, 0);
  EXPECT_FALSE(breaker.closed());
  EXPECT_FALSE(breaker.can_execute(59));
  EXPECT_TRUE(breaker.can_execute(61));
  EXPECT_FALSE(breaker.can_execute(62));
  breaker.report(true, 62);
  EXPECT_TRUE(breaker.closed());
}

}  // namespace
}  // namespace llm_proxy
