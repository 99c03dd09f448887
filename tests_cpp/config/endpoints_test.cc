#include "config/endpoints.h"

#include <gtest/gtest.h>

#include "http/url.h"

namespace llm_proxy {
namespace {

FrontendMatch match(std::string_view method, std::string_view target, bool upgrade = false,
                    bool anthropic = false) {
  const auto question = target.find('?');
  const auto query =
      question == std::string_view::npos ? std::string_view() : target.substr(question + 1);
  return match_frontend(method, target.substr(0, question), query, upgrade, anthropic);
}

struct Case {
  std::string_view method, target;
  Operation operation;
  WireFormat format;
};

TEST(Frontend, knows_every_path_a_client_asks) {
  const auto c = WireFormat::openai_chat;
  const auto r = WireFormat::openai_responses;
  const auto a = WireFormat::anthropic_messages;
  const auto g = WireFormat::gemini_generate;
  for (const auto& [method, target, operation, format] : {
           Case{"POST", "/v1/chat/completions", Operation::generate, c},
           Case{"POST", "/v1/chat/completions/", Operation::generate, c},
           Case{"GET", "/v1/chat/completions", Operation::wrong_method, c},
           Case{"POST", "/v1/responses", Operation::generate, r},
           Case{"GET", "/v1/responses/resp_1", Operation::stored, r},
           Case{"POST", "/v1/messages?beta=true", Operation::generate, a},
           Case{"POST", "/anthropic/v1/messages", Operation::generate, a},
           Case{"POST", "/v1/messages/count_tokens?beta=true", Operation::count_tokens, a},
           Case{"POST", "/v1beta/models/gemini-2.5-pro:generateContent", Operation::generate, g},
           Case{"POST", "/v1/models/gemini-2.5-pro:countTokens", Operation::count_tokens, g},
           Case{"GET", "/v1beta/models", Operation::models, g},
           Case{"GET", "/v1beta/models/gemini-2.5-pro", Operation::model, g},
           Case{"GET", "/v1/models", Operation::models, c},
           Case{"GET", "/v1/models?client_version=1", Operation::models, c},
           Case{"GET", "/v1/models/gpt-4.1", Operation::model, c},
           Case{"HEAD", "/api/hello", Operation::hello, a},
           Case{"GET", "/health", Operation::health, c},
           Case{"HEAD", "/health", Operation::health, c},
           Case{"GET", "/api/v1/plugins", Operation::admin, c},
           Case{"GET", "/favicon.ico", Operation::none, c},
       }) {
    const auto found = match(method, target);
    EXPECT_EQ(static_cast<int>(found.operation), static_cast<int>(operation))
        << method << ' ' << target;
    EXPECT_EQ(name(found.format), name(format)) << method << ' ' << target;
  }
}

TEST(Frontend, gives_each_dialect_its_model_list_on_the_shared_path) {
  EXPECT_EQ(match("GET", "/v1/models", false, true).format, WireFormat::anthropic_messages);
  EXPECT_EQ(match("GET", "/v1/models/claude", false, true).format, WireFormat::anthropic_messages);
}

TEST(Frontend, refuses_a_websocket_at_once) {
  EXPECT_EQ(match("GET", "/v1/responses", true).operation, Operation::websocket);
}

TEST(Frontend, reads_gemini_models_with_slashes_colons_and_percents) {
  const auto found =
      match("POST", "/v1beta/models/openrouter%3Aqwen/qwen3:free:streamGenerateContent?alt=sse");
  EXPECT_EQ(found.model, "openrouter:qwen/qwen3:free");
  EXPECT_TRUE(found.stream);
  EXPECT_FALSE(found.json_array);
  EXPECT_TRUE(match("POST", "/v1beta/models/m:streamGenerateContent").json_array);
}

TEST(Frontend, says_which_path_a_wrong_base_url_meant) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases{
      {"/v1/v1/chat/completions", "did you mean /v1/chat/completions?"},
      {"/openai/v1/responses/", "did you mean /v1/responses?"},
      {"/messages", "did you mean /v1/messages?"},
      {"/v1/nothing", "GET /v1/models lists the models"},
      {"/", "GET /v1/models lists the models"},
  };
  for (const auto& [path, said] : cases) {
    EXPECT_NE(nothing_at(path).find(said), std::string::npos) << nothing_at(path);
  }
}

TEST(Frontend, takes_one_key_out_of_a_query_and_keeps_the_rest) {
  EXPECT_EQ(without_credentials("alt=sse&key=secret&x=%20y", {}), "alt=sse&x=%20y");
  EXPECT_EQ(without_credentials("key=secret", {}), "");
}

TEST(Frontend, takes_credentials_out_of_a_query_however_they_are_spelled) {
  EXPECT_EQ(without_credentials("%6bey=secret&a=1&KEY=b&%24httpMethod=DELETE&access_token=x", {}),
            "a=1");
  EXPECT_EQ(without_credentials("%zz=1&a=2&b=%zz", {}), "a=2");
  EXPECT_EQ(without_credentials("a=my-key&b=m%79-key&my-key&c=Bearer+my-key&d=1", "my-key"), "d=1");
}

TEST(Frontend, sees_a_deciding_query_key_that_is_given_twice) {
  EXPECT_EQ(repeated_query_key("key=a&alt=sse&%6Bey=b"), "key");
  EXPECT_EQ(repeated_query_key("alt=sse&alt=json"), "alt");
  EXPECT_EQ(repeated_query_key("a=1&a=2&key=b"), "");
}

TEST(Frontend, keeps_a_client_s_text_in_one_segment_of_an_upstream_s_path) {
  EXPECT_EQ(*encode_path_segment("gemini-2.5-pro:free@x"), "gemini-2.5-pro:free@x");
  EXPECT_EQ(*encode_path_segment("a/b?c#d%2e"), "a%2Fb%3Fc%23d%252e");
  for (const std::string_view step :
       {"", "..", ".", "../x", "..;x", "..;/x", ".. /x", "%2e%2e%2f%zz", "%252e%252e/%2500", "x%00",
        "\xc0\xae\xc0\xae/x", "\xff", "x/..", "x\\..\\y", "a/./b", "..%2fx", "%2e%2e/x",
        "%252e%252e%252fx", "a\nb"}) {
    EXPECT_FALSE(encode_path_segment(step)) << step;
  }
  EXPECT_EQ(*encode_path_segment("..."), "...");
}

TEST(Frontend, builds_upstream_paths_for_bases_with_and_without_a_version) {
  const auto path = [](WireFormat format, std::string_view base, std::string_view model = "m",
                       bool stream = false) {
    const auto made = upstream_path(format_of(format), base, model, stream);
    return made ? *made : "refused: " + made.error().message;
  };
  EXPECT_EQ(path(WireFormat::openai_chat, "/v1"), "/v1/chat/completions");
  EXPECT_EQ(path(WireFormat::openai_chat, "/api/paas/v4/"), "/api/paas/v4/chat/completions");
  EXPECT_EQ(path(WireFormat::openai_responses, "/v1"), "/v1/responses");
  EXPECT_EQ(path(WireFormat::anthropic_messages, ""), "/v1/messages");
  EXPECT_EQ(path(WireFormat::anthropic_messages, "/v1"), "/v1/messages");
  EXPECT_EQ(path(WireFormat::gemini_generate, "", "a/b?c", true),
            "/v1beta/models/a%2Fb%3Fc:streamGenerateContent");
  EXPECT_EQ(path(WireFormat::gemini_generate, "/v1beta"), "/v1beta/models/m:generateContent");
}

}  // namespace
}  // namespace llm_proxy
