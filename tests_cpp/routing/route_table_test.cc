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

// Every candidate of a selector: "openai gpt-4.1, anthropic claude{temperature=0}".
class SelectorRoutes : public RouteTableTest {
 protected:
  SelectorRoutes() {
    settings_.aliases = {{"fast", "openrouter:a/b"},
                         {"^claude-(\\w+)-(\\d)$", "anthropic:claude-\\1-\\2-0"},
                         {"best", "openai:gpt-4.1|anthropic:claude"}};
  }

  std::string all(std::string_view selector, RouteTable::Hints hints = {}) {
    auto table = RouteTable::build(backends_, settings_);
    if (!table) return table.error().message;
    return shown(table->resolve(selector, hints));
  }

  static std::string shown(const Result<Route>& route) {
    if (!route) {
      return std::to_string(route.error().http_status()) + " " + route.error().message;
    }
    std::string out;
    for (const auto& candidate : route->candidates) {
      if (!out.empty()) out += ", ";
      out += candidate.backend->name + " " + candidate.model;
      if (candidate.params) out += "{" + describe(*candidate.params) + "}";
    }
    for (const auto& lane : route->race) {
      out += "; lane " + std::to_string(lane.begin) + "-" + std::to_string(lane.end) + " after " +
             std::to_string(lane.delay.count());
    }
    return out;
  }

  RouteTable::Settings settings_;
};

TEST_F(SelectorRoutes, mean_backends_and_models) {
  for (const auto& [selector, want] :
       std::initializer_list<std::pair<std::string_view, std::string_view>>{
           {"openai:gpt-4.1?temperature=0", "openai gpt-4.1{temperature=0}"},
           {"shared?top_k=3", "openai shared{top_k=3}, anthropic shared{top_k=3}"},
           {"openai:a|anthropic:b", "openai a, anthropic b"},
           {"openai:a|openai:a", "openai a"},
           {"openai:a?temperature=0|openai:a", "openai a{temperature=0}, openai a"},
           {"qwen/qwen3:free|openrouter:qwen/qwen3:free",
            "openai qwen/qwen3:free, openrouter qwen/qwen3:free"},
           {"[handicap=2]openai:a!anthropic:b!shared",
            "openai a, anthropic b, openai shared, anthropic shared; lane 0-1 after 0; lane 1-2 "
            "after 2000; lane 2-4 after 2000"},
           {"fast", "openrouter a/b"},
           {"alias:fast", "openrouter a/b"},
           {"fast|shared", "openrouter a/b, openai shared, anthropic shared"},
           {"best", "openai gpt-4.1, anthropic claude"},
           {"claude-opus-4", "anthropic claude-opus-4-0"},
           {"claude-opus-4-1", "openai claude-opus-4-1"},
           {"alias:slow",
            "404 model, character 7: no alias is called 'slow'; there are: fast, best"},
           {"auto:cheap",
            "400 model, character 1: 'auto:' is reserved; name a model or one of the "
            "backends: anthropic, openai, openrouter"},
           {"openai.7:gpt-4.1",
            "404 model, character 1: 'openai.7' is no instance of 'openai'; "
            "there are: anthropic, openai, openrouter"},
           {"openai:a|",
            "400 model, character 10: a model is missing; write model, backend:model "
            "or backend.instance:model"},
       }) {
    EXPECT_EQ(all(selector), want) << selector;
  }
}

TEST_F(SelectorRoutes, follow_the_static_route_unless_they_name_a_backend) {
  settings_.static_route = "openrouter:fixed/model";
  EXPECT_EQ(all("gpt-4.1"), "openrouter fixed/model");
  EXPECT_EQ(all(""), "openrouter fixed/model");
  EXPECT_EQ(all("a|b"), "openrouter fixed/model");
  EXPECT_EQ(all("openai:gpt-4.1"), "openai gpt-4.1");
  EXPECT_EQ(all("a|anthropic:b"), "openai a, anthropic b");
  settings_.static_route = "a||b";
  EXPECT_EQ(all("gpt-4.1"),
            "static_route: model, character 3: a model is missing; write model, "
            "backend:model or backend.instance:model");
}

TEST_F(SelectorRoutes, draw_by_weight_and_keep_the_others_behind) {
  auto table = *RouteTable::build(backends_, settings_);
  int first = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const auto route =
        table.resolve("[weight=3]openai:a^anthropic:b", {i * 2654435761u, /*first_request=*/false});
    ASSERT_EQ(route->candidates.size(), 2u);
    first += route->candidates.front().model == "a" ? 1 : 0;
  }
  EXPECT_NEAR(first, 750, 50);
  for (std::uint32_t i = 0; i < 20; ++i) {
    EXPECT_EQ(shown(table.resolve("[weight=99]openai:a^[first]anthropic:b", {i, true})),
              "anthropic b, openai a");
  }
}

TEST_F(SelectorRoutes, use_the_instances_of_a_backend_in_turn_and_one_of_them_by_name) {
  backends_[0].keys = {"one", "two"};
  backends_.resize(5);
  backends_[3].name = "openai.1";  // a key of the plain one's pool
  backends_[3].keys = {"one"};
  backends_[4].name = "openai.work";
  backends_[4].keys = {"other"};
  auto table = *RouteTable::build(backends_, settings_);
  EXPECT_EQ(shown(table.resolve("openai:m")), "openai m, openai.work m");
  EXPECT_EQ(shown(table.resolve("openai:m")), "openai.work m, openai m");
  EXPECT_EQ(shown(table.resolve("openai:m")), "openai m, openai.work m");
  EXPECT_EQ(shown(table.resolve("openai.work:m")), "openai.work m");
  EXPECT_EQ(shown(table.resolve("openai.1:m")), "openai.1 m");
}

TEST_F(SelectorRoutes, serve_a_backend_that_has_named_instances_only) {
  backends_[2].name = "local.left";
  backends_.resize(4);
  backends_[3].name = "local.right";
  auto table = *RouteTable::build(backends_, settings_);
  EXPECT_EQ(shown(table.resolve("local:m")), "local.left m, local.right m");
  EXPECT_EQ(shown(table.resolve("local:m")), "local.right m, local.left m");
}

TEST_F(SelectorRoutes, are_refused_at_start_where_an_alias_can_never_work) {
  settings_.aliases = {{"gpt-(.*", "openai:x"}};
  EXPECT_EQ(all("m"), "model_aliases: 'gpt-(.*': position 8: '(' is not closed");
  settings_.aliases = {{"gpt-(.*)", "openai:\\2"}};
  EXPECT_EQ(all("m"),
            "model_aliases: 'gpt-(.*)': \\2 stands for nothing: the pattern has 1 groups");
  settings_.aliases = {{"gpt", "a|b^c"}};
  EXPECT_EQ(all("m"),
            "model_aliases: 'gpt': model, character 4: '^' cannot be mixed with '|': use "
            "one of |, ^ and ! throughout");
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
