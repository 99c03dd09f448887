#include "formats/shared/provider_errors.h"

#include <gtest/gtest.h>

#include "formats/anthropic_messages/format.h"
#include "formats/openai_chat/format.h"

namespace llm_proxy {
namespace {

TEST(ErrorBody, is_read_from_every_server) {
  struct Case {
    int status;
    const char* body;
    ErrorKind kind;
    const char* message;
  };
  const std::vector<Case> cases{
      {400, R"({"error":{"message":"bad","type":"invalid_request_error","param":"x","code":null}})",
       ErrorKind::malformed_request, "bad"},
      {404, R"({"error":{"message":"no","code":"model_not_found"}})", ErrorKind::unknown_model,
       "no"},
      {401, R"({"error":{"code":"401","message":"denied"}})", ErrorKind::unauthenticated, "denied"},
      {422, R"({"detail":"wrong"})", ErrorKind::unprocessable, "wrong"},
      {400, R"({"code":"x","error":"text"})", ErrorKind::malformed_request, "text"},
      {429, R"({"error":{"message":"slow","code":429}})", ErrorKind::rate_limited, "slow"},
      {529, R"({"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}})",
       ErrorKind::overloaded, "Overloaded"},
      {400,
       R"({"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}})",
       ErrorKind::unauthenticated, "API key not valid"},
      {503, R"([{"error":{"code":503,"message":"later","status":"UNAVAILABLE"}}])",
       ErrorKind::unavailable, "later"},
      {502, "<html>bad gateway</html>", ErrorKind::upstream_garbled, "<html>bad gateway</html>"},
      {500, "", kind_of_status(500), "The upstream answered with status 500."},
      {401, R"({"error":{"message":"Incorrect API key: sk-abcdefghijklmnopqrstuvwx."}})",
       ErrorKind::unauthenticated, "Incorrect API key: sk-***"},
  };
  for (const Case& each : cases) {
    const Error error = kOpenaiChat.decode_error(each.status, each.body);
    EXPECT_EQ(error.kind, each.kind) << each.body;
    EXPECT_EQ(error.message.substr(0, std::string(each.message).size()), each.message) << each.body;
  }
  const Error retry =
      decode_any_error(429, R"({"error":{"message":"x","details":[{"retryDelay":"48s"}]}})");
  EXPECT_EQ(retry.retry_after, std::chrono::seconds(48));
  for (const std::string_view body : {R"({"error":{"message":"Please try again in 6m0s. Visit"}})",
                                      R"({"error":{"message":"Please retry in 360s."}})",
                                      R"({"error":{"message":"it will reset after 6m"}})"}) {
    EXPECT_EQ(decode_any_error(429, body).retry_after, std::chrono::minutes(6)) << body;
    EXPECT_FALSE(decode_any_error(400, body).retry_after) << body;
  }
  EXPECT_EQ(client_status(kOpenaiChat, decode_any_error(529, "{}")), 503);
  EXPECT_EQ(client_status(kAnthropicMessages, decode_any_error(529, "{}")), 529);
}

}  // namespace
}  // namespace llm_proxy
