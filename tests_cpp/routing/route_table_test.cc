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
    const auto route = table.resolve("[weight=3]openai:a^anthropic:b", {i * 2654435761u, {}, {}});
    ASSERT_EQ(route->candidates.size(), 2u);
    first += route->candidates.front().model == "a" ? 1 : 0;
  }
  EXPECT_NEAR(first, 750, 50);
  for (std::uint32_t i = 0; i < 20; ++i) {
    EXPECT_EQ(shown(table.resolve("[weight=99]openai:a^[first]anthropic:b",
                                  {i, [] { return true; }, {}})),
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

TEST_F(SelectorRoutes, ask_only_the_instances_that_list_the_model) {
  backends_[2].name = "openai.work";
  backends_[2].models = {"gpt-5"};
  EXPECT_EQ(all("openai:gpt-5"), "openai.work gpt-5");
  EXPECT_EQ(all("openai:gpt-4.1"), "openai gpt-4.1");
  EXPECT_EQ(all("openai:unlisted"), "openai unlisted, openai.work unlisted");
  EXPECT_EQ(all("openai.work:gpt-4.1"), "openai.work gpt-4.1");
}

TEST_F(SelectorRoutes, serve_a_backend_that_has_named_instances_only) {
  backends_[2].name = "local.left";
  backends_.resize(4);
  backends_[3].name = "local.right";
  auto table = *RouteTable::build(backends_, settings_);
  EXPECT_EQ(shown(table.resolve("local:m")), "local.left m, local.right m");
  EXPECT_EQ(shown(table.resolve("local:m")), "local.right m, local.left m");
}

TEST_F(SelectorRoutes, go_to_who_says_it_has_the_model) {
  const auto index = std::make_shared<ModelIndex>();
  settings_.index = index;
  auto table = *RouteTable::build(backends_, settings_);
  EXPECT_EQ(shown(table.resolve("mistral-large")), "openai mistral-large");
  index->put("openrouter", {"mistral-large", "claude-sonnet-4-5", "gpt-4.1"});
  index->put("gone", {"mistral-large"});
  EXPECT_EQ(shown(table.resolve("mistral-large")), "openrouter mistral-large");
  EXPECT_EQ(shown(table.resolve("mistral-large|openai:a")), "openrouter mistral-large, openai a");
  EXPECT_EQ(shown(table.resolve("claude-sonnet-4-5")),
            "anthropic claude-sonnet-4-5, openrouter claude-sonnet-4-5");
  index->put("openrouter", {});
  EXPECT_EQ(shown(table.resolve("mistral-large")), "openai mistral-large");
  index->put("openai", {"mistral-large"});  // its configuration lists others
  index->put("openrouter", {"mistral-large"});
  EXPECT_EQ(shown(table.resolve("mistral-large")), "openrouter mistral-large");
}

TEST_F(SelectorRoutes, need_what_providers_say_only_where_nobody_else_knows) {
  settings_.index = std::make_shared<ModelIndex>();
  settings_.failover_routes["chain"].elements = {"openai:a"};
  auto table = *RouteTable::build(backends_, settings_);
  for (const auto& [selector, want] :
       std::initializer_list<std::pair<std::string_view, bool>>{{"openai:gpt-x", false},
                                                                {"gpt-4.1", false},
                                                                {"fast", false},
                                                                {"chain", false},
                                                                {"", false},
                                                                {"gpt-x", true},
                                                                {"openai:a|gpt-x", true},
                                                                {"openai:a|gpt-4.1", false},
                                                                {"gpt-x?temperature=0", true}}) {
    EXPECT_EQ(table.needs_index(selector), want) << selector;
  }
  settings_.static_route = "openai:a";
  EXPECT_FALSE(RouteTable::build(backends_, settings_)->needs_index("gpt-x"));
  backends_.resize(1);
  settings_ = {};
  settings_.index = std::make_shared<ModelIndex>();
  EXPECT_FALSE(RouteTable::build(backends_, settings_)->needs_index("gpt-x"));
}

TEST_F(SelectorRoutes, take_one_provider_of_two_formats_for_one) {
  const auto index = std::make_shared<ModelIndex>();
  settings_.index = index;
  settings_.default_backend = "anthropic";
  for (auto& backend : backends_) backend.models.clear();
  backends_[0].base_url = backends_[1].base_url = "https://one.example/v1";
  backends_[2].base_url = "https://other.example/v1";
  for (const auto& backend : backends_) index->put(backend.name, {"m"});
  EXPECT_EQ(all("m"), "anthropic m, openrouter m");
  backends_.resize(2);
  EXPECT_FALSE(RouteTable::build(backends_, settings_)->needs_index("m"));
  EXPECT_EQ(all("m"), "anthropic m");
}

TEST_F(SelectorRoutes, ask_first_who_is_preferred_for_the_model) {
  backends_.resize(4);
  backends_[3].name = "mirror";
  for (auto& backend : backends_) {
    backend.type = backend.name;
    backend.models = {"m"};
  }
  backends_[1].routing_cost = 2;
  backends_[2].routing_cost = 1;
  backends_[1].routing_priority = 5;
  backends_[3].routing_priority = 9;
  settings_.default_backend = "openrouter";
  const auto order = [&](Preference preference) {
    settings_.policy.model_only_preference_policy = preference;
    return all("m");
  };
  EXPECT_EQ(order(Preference::default_first), "openrouter m, openai m, anthropic m, mirror m");
  EXPECT_EQ(order(Preference::cost), "openrouter m, anthropic m, openai m, mirror m");
  EXPECT_EQ(order(Preference::priority), "mirror m, anthropic m, openai m, openrouter m");
  settings_.policy.model_only_preference_policy = Preference::round_robin;
  auto table = *RouteTable::build(backends_, settings_);
  EXPECT_EQ(shown(table.resolve("m")), "openai m, anthropic m, openrouter m, mirror m");
  EXPECT_EQ(shown(table.resolve("m")), "anthropic m, openrouter m, mirror m, openai m");
  settings_.policy.model_only_model_overrides["m"] = Preference::priority;
  EXPECT_EQ(all("m"), "mirror m, anthropic m, openai m, openrouter m");
  settings_.policy.model_only_model_overrides.clear();
  settings_.policy.model_only_preference_policy = Preference::default_first;
  settings_.policy.model_only_backend_family_overrides["anthropic"] = Preference::cost;
  EXPECT_EQ(all("m"), "openrouter m, openai m, anthropic m, mirror m");
  for (auto& backend : backends_) backend.type = "anthropic";
  EXPECT_EQ(all("m"), "openrouter m, anthropic m, openai m, mirror m");
}

TEST_F(SelectorRoutes, may_be_named_only_as_the_policy_says) {
  backends_.resize(4);
  backends_[3].name = "openai.work";
  settings_.failover_routes["chain"].elements = {"openai:a"};
  const auto no = [](std::string_view what, std::string_view instead) {
    return "403 model: whoever runs this proxy has switched off " + std::string(what) + "; write " +
           std::string(instead);
  };
  auto& policy = settings_.policy;
  policy.disable_backend_ids = true;
  EXPECT_EQ(all("openai.work:a"), no("naming an instance", "model or backend:model"));
  EXPECT_EQ(all("openai:a|openai.work:b"), no("naming an instance", "model or backend:model"));
  EXPECT_EQ(all("anthropic:a"), "anthropic a");
  policy.disable_backend_names = true;
  EXPECT_EQ(all("openai:a?temperature=0"), no("naming a backend", "model"));
  EXPECT_EQ(all("gpt-4.1"), "openai gpt-4.1");
  EXPECT_EQ(all("unknown:a"), "openai unknown:a, openai.work unknown:a");
  // What the operator has configured may name what it likes.
  EXPECT_EQ(all("fast"), "openrouter a/b");
  EXPECT_EQ(all("alias:fast"), "openrouter a/b");
  EXPECT_EQ(all("best"), "openai gpt-4.1, openai.work gpt-4.1, anthropic claude");
  EXPECT_EQ(all("chain"), "openai a, openai.work a");
  policy = {};
  policy.disable_model_names = true;
  EXPECT_EQ(all("gpt-4.1"),
            no("models without a backend", "backend:model or backend.instance:model"));
  EXPECT_EQ(all("openai.work:a"), "openai.work a");
  EXPECT_EQ(all("fast"), "openrouter a/b");
  settings_.static_route = "openai.work:a";
  EXPECT_EQ(all("gpt-4.1"), "openai.work a");
}

TEST_F(SelectorRoutes, keep_to_one_instance_and_leg_where_they_are_told_to) {
  backends_.resize(5);
  backends_[3].name = "openai.a";
  backends_[4].name = "openai.b";
  auto table = *RouteTable::build(backends_, settings_);
  const auto as = [](std::uint64_t session, std::uint64_t client) {
    RouteTable::Hints hints;
    hints.identity = [=](Affinity affinity) {
      return affinity == Affinity::session ? session : client;
    };
    return hints;
  };
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(shown(table.resolve("{affinity=session}openai:m", as(1, 2))),
              "openai.a m, openai.b m, openai m");
    EXPECT_EQ(shown(table.resolve("{affinity=client}openai:m", as(1, 2))),
              "openai.b m, openai m, openai.a m");
  }
  const auto drawn = [&](std::uint64_t session) {
    return shown(table.resolve("{affinity=session}anthropic:a^openrouter:b", as(session, 0)));
  };
  EXPECT_EQ(drawn(7), drawn(7));
  bool differs = false;
  for (std::uint64_t session = 0; session < 20; ++session) {
    differs = differs || drawn(session * 2654435761u) != drawn(7);
  }
  EXPECT_TRUE(differs);
  EXPECT_EQ(table.resolve("{affinity=session}openai:m", as(41, 0))->sticky, 41u);
  EXPECT_EQ(table.resolve("openai:m", as(41, 0))->sticky, std::nullopt);
}

TEST_F(SelectorRoutes, are_read_once_and_mean_the_same_ever_after) {
  auto table = *RouteTable::build(backends_, settings_);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 500; ++i) {  // more than are kept
      const auto model = "openai:m" + std::to_string(i);
      ASSERT_EQ(shown(table.resolve(model + "?top_k=" + std::to_string(i + 1))),
                "openai m" + std::to_string(i) + "{top_k=" + std::to_string(i + 1) + "}");
    }
  }
}

TEST_F(SelectorRoutes, are_refused_at_start_where_an_alias_can_never_work) {
  settings_.aliases = {{"gpt-(.*", "openai:x"}};
  EXPECT_EQ(all("m"), "model_aliases: 'gpt-(.*': not a regular expression: missing ): gpt-(.*");
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
