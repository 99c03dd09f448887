#include "base/error.h"

#include <gtest/gtest.h>

namespace llm_proxy {
namespace {

TEST(Error, own_status_wins_over_the_kinds) {
  Error error{ErrorKind::unavailable, "busy"};
  EXPECT_EQ(error.http_status(), 503);
  error.status = 529;
  EXPECT_EQ(error.http_status(), 529);
}

TEST(Error, every_status_an_upstream_may_answer_has_a_kind) {
  EXPECT_EQ(kind_of_status(400), ErrorKind::malformed_request);
  EXPECT_EQ(kind_of_status(401), ErrorKind::unauthenticated);
  EXPECT_EQ(kind_of_status(404), ErrorKind::not_found);
  EXPECT_EQ(kind_of_status(418), ErrorKind::malformed_request);
  EXPECT_EQ(kind_of_status(429), ErrorKind::rate_limited);
  EXPECT_EQ(kind_of_status(502), ErrorKind::upstream_garbled);
  EXPECT_EQ(kind_of_status(529), ErrorKind::overloaded);
  EXPECT_EQ(kind_of_status(599), ErrorKind::unavailable);
}

}  // namespace
}  // namespace llm_proxy
