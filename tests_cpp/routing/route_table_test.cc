#include "routing/route_table.h"

#include <gtest/gtest.h>

namespace llm_proxy {
namespace {

class RouteTableTest : public testing::Test {
 protected:
  RouteTableTest() {
    backends_.resize(3);
    backends_[0].name = "openai";
    backends_[0].models = {"gpt-4.1", "shared"};
    backends_[1].name = "anthropic";
    backends_[1].models = {"claude-sonnet-4-5", "shared"};
    backends_[2].name = "openrouter";
  }

  std::string first(std::string_view model, RouteTable::Settings settings = {}) {
    auto table = RouteTable::build(backends_, std::move(settings));
    auto route = table->resolve(model);
    if (!route) return "error: " + route.error().message;
    return route->candidates.front().backend->name + " " + route->candidates.front().model;
  }

  std::vector<Backend> backends_;
};

TEST_F(RouteTableTest, takes_a_prefix_as_a_backend_only_if_one_has_that_name) {
  EXPECT_EQ(first("anthropic:claude-x"), "anthropic claude-x");
  EXPECT_EQ(first("openrouter:qwen/qwen3:free"), "openrouter qwen/qwen3:free");
  EXPECT_EQ(first("llama3:8b"), "openai llama3:8b");
  EXPECT_EQ(first("qwen/anthropic:free"), "openai qwen/anthropic:free");
}

TEST_F(RouteTableTest, finds_the_backend_that_knows_the_model) {
  EXPECT_EQ(first("claude-sonnet-4-5"), "anthropic claude-sonnet-4-5");
  EXPECT_EQ(first("shared"), "openai shared");
  EXPECT_EQ(first("shared", {"anthropic", "", {}}), "anthropic shared");
}

TEST_F(RouteTableTest, sends_unknown_models_to_the_default) {
  EXPECT_EQ(first("new-model"), "openai new-model");
  EXPECT_EQ(first("new-model", {"anthropic", "claude-sonnet-4-5", {}}),
            "anthropic claude-sonnet-4-5");
  EXPECT_EQ(first("fast", {"", "", {{"fast", "openrouter:a/b"}}}), "openrouter a/b");
}

TEST_F(RouteTableTest, names_the_valid_backends_when_the_default_is_none_of_them) {
  const auto table = RouteTable::build(backends_, {"opnai", "", {}});
  ASSERT_FALSE(table);
  EXPECT_EQ(
      table.error().message,
      "default_backend: no backend is called 'opnai'; there are: anthropic, openai, openrouter");
}

TEST_F(RouteTableTest, says_what_to_do_when_there_is_no_backend_at_all) {
  backends_.clear();
  EXPECT_EQ(first("gpt-4.1").substr(0, 34), "error: no backend is configured: s");
}

}  // namespace
}  // namespace llm_proxy
