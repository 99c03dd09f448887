#include "routing/command_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

namespace llm_proxy {
namespace {

class CommandTable : public testing::Test {
 protected:
  CommandTable() {
    backends_.resize(3);
    backends_[0].name = "openai";
    backends_[0].models = {"gpt-4.1"};
    backends_[1].name = "anthropic";
    backends_[2].name = "openrouter";
    rebuild({});
  }

  void rebuild(RouteTable::Settings settings) {
    routes_ = *RouteTable::build(backends_, std::move(settings));
  }

  // What the user hears; an error with "error: " before it.
  std::string say(std::string_view text) {
    const auto taken = take_commands(text, "!/", is_like_a_command);
    auto answer = run_commands(taken.commands, {routes_, "!/", "gpt-4.1"}, state_);
    return answer ? *answer : "error: " + answer.error().message;
  }
  // Where the client's model goes.
  std::string selector(std::string_view model = "gpt-4.1") const {
    return session_selector(state_, model, routes_);
  }

  std::vector<Backend> backends_;
  RouteTable routes_;
  SessionState state_;
};

TEST_F(CommandTable, changes_who_answers) {
  EXPECT_EQ(selector(), "gpt-4.1");
  EXPECT_EQ(say("!/backend(anthropic)"), "The backend of this session is now anthropic.");
  EXPECT_EQ(selector(), "anthropic:gpt-4.1");
  EXPECT_EQ(selector("openai:gpt-4.1"), "anthropic:gpt-4.1");
  EXPECT_EQ(selector("qwen/qwen3:free"), "anthropic:qwen/qwen3:free");
  EXPECT_EQ(selector("a|b"), "a|b");
  EXPECT_EQ(say("!/model(claude-x)"),
            "The model of this session is now claude-x, served by anthropic.");
  EXPECT_EQ(selector(), "anthropic:claude-x");
  EXPECT_EQ(say("!/model(openrouter:qwen/qwen3:free)"),
            "The model of this session is now openrouter:qwen/qwen3:free, "
            "served by openrouter.");
  EXPECT_EQ(selector(), "openrouter:qwen/qwen3:free");
  EXPECT_EQ(say("!/oneoff(anthropic:claude-y)"),
            "The next request goes to anthropic:claude-y, served by anthropic.");
  EXPECT_EQ(selector(), "anthropic:claude-y");
  EXPECT_EQ(say("!/unset(oneoff, model)"),
            "oneoff is not set any more.\nmodel is not set any more.");
  EXPECT_EQ(selector(), "gpt-4.1");
  EXPECT_EQ(say("!/model(openai:a|anthropic:b)"),
            "The model of this session is now openai:a|anthropic:b, served by "
            "openai, then "
            "anthropic.");
  EXPECT_EQ(say("!/model()"), "The model is the client's own again.");
  EXPECT_TRUE(state_.empty());
}

TEST_F(CommandTable, sets_parameters) {
  EXPECT_EQ(say("!/temperature(0.3) !/reasoning(high)"),
            "temperature is now 0.3.\nreasoning_effort is now high.");
  EXPECT_EQ(say("!/set(top_p=0.5, reasoning-effort=maximum)"),
            "top_p is now 0.5.\nreasoning-effort is now max.");
  EXPECT_EQ(describe(state_.params), "temperature=0.3, top_p=0.5, reasoning_effort=max");
  EXPECT_EQ(say("!/low"), "reasoning_effort is now low.");
  EXPECT_EQ(say("!/no-think"), "reasoning_effort is now none.");
  EXPECT_EQ(say("!/unset(temperature, top_p, reasoning_effort)"),
            "temperature is not set any more.\ntop_p is not set any "
            "more.\nreasoning_effort is not "
            "set any more.");
  EXPECT_TRUE(state_.empty());
}

TEST_F(CommandTable, keeps_failover_routes_of_the_session) {
  EXPECT_EQ(say("!/create-failover-route(name=safe, policy=k)"),
            "The failover route safe is there; name it as the model to use it.");
  EXPECT_EQ(say("!/route-append(safe, openai:gpt-4.1, anthropic:claude)"),
            "safe (k): openai:gpt-4.1, anthropic:claude");
  EXPECT_EQ(say("!/route-prepend(name=safe, element=openrouter:a/b)"),
            "safe (k): openrouter:a/b, openai:gpt-4.1, anthropic:claude");
  EXPECT_EQ(say("!/model(safe)"),
            "The model of this session is now safe, "
            "served by openrouter, then openai, then "
            "anthropic.");
  EXPECT_EQ(selector(), "openrouter:a/b|openai:gpt-4.1|anthropic:claude");
  EXPECT_EQ(say("!/route-list(safe)"),
            "safe (k): openrouter:a/b, openai:gpt-4.1, anthropic:claude");
  EXPECT_EQ(say("!/list-failover-routes"),
            "safe (k): openrouter:a/b, openai:gpt-4.1, anthropic:claude");
  EXPECT_EQ(say("!/route-clear(safe)"), "safe (k): empty");
  EXPECT_EQ(say("!/delete-failover-route(safe)"), "The failover route safe is gone.");
  EXPECT_EQ(say("!/list-failover-routes"), "There are no failover routes in this session.");
}

TEST_F(CommandTable, says_what_would_have_been_valid) {
  for (const auto& [text, want] : std::initializer_list<std::pair<std::string_view, std::string>>{
           {"!/backend(opnai)",
            "error: no backend is called 'opnai': did you mean 'openai'? There are: anthropic, "
            "openai, "
            "openrouter"},
           {"!/backend(mine)",
            "error: no backend is called 'mine'; there are: anthropic, openai, openrouter"},
           {"!/model(opnai:gpt-4.1)",
            "error: no backend is called 'opnai': did you mean 'openai'? There are: anthropic, "
            "openai, "
            "openrouter"},
           {"!/model(openai.7:gpt-4.1)",
            "error: model, character 1: 'openai.7' is no instance of 'openai'; "
            "there are: "
            "anthropic, openai, openrouter"},
           {"!/oneoff()", "error: oneoff needs a model: oneoff(backend:model)"},
           {"!/model(a|b^c)",
            "error: model, character 4: '^' cannot be mixed "
            "with '|': use one of "
            "|, ^ and ! throughout"},
           {"!/temperature(hot)", "error: temperature must be a number from 0 to 2, not 'hot'"},
           {"!/reasoning(huge)",
            "error: reasoning_effort must be none, low, medium, high, xhigh or "
            "max, not 'huge'"},
           {"!/set(temprature=1)",
            "error: there is no setting 'temprature'; there are: backend, "
            "model, command-prefix, project, "
            "project-dir, temperature, top_p, top_k, reasoning_effort, "
            "thinking_budget, verbosity"},
           {"!/set(temperature=1, temperature=2)", "error: 'temperature' is set twice"},
           {"!/route-append(none, a:b)",
            "error: no failover route is called 'none'; there are: none"},
           {"!/create-failover-route(x, policy=z)",
            "error: policy must be k, m, km or mk, not 'z'"},
       }) {
    EXPECT_EQ(say(text), want) << text;
    EXPECT_TRUE(state_.empty()) << text;
  }
  EXPECT_EQ(say("!/unheard(x)").substr(0, 62),
            "error: no command is called 'unheard'; there are: help, hello,");
  EXPECT_EQ(
      say("!/modle(x)"),
      "error: no command is called 'modle': did you mean !/model([backend:]model)? !/help lists "
      "all");
}

TEST_F(CommandTable, shows_how_a_garbled_command_is_written) {
  for (const auto& [text, want] : std::initializer_list<std::pair<std::string_view, std::string>>{
           {"!/backend anthropic", "write !/backend(anthropic)\n"},
           {"!/model(openai:gpt-4.1", "write !/model(openai:gpt-4.1)\n"},
           {"!/modle two", "write !/model(two)\n"},
           {"!/set model=x", "write !/set(model=x)\n"},
           {"!/set model=x, temperature=0", "write !/set(model=x, temperature=0)\n"},
           {"!/model two and tell me a joke", "write !/model(two)\n"},
           {"!/help me", "write !/help(me)\n"},
           {"!/status, please", "write !/status on a line of its own\n"},
       }) {
    const auto said = say(text);
    EXPECT_EQ(
        said.find("error: '" + std::string(text) + "' is not written as a command is: " + want), 0U)
        << said;
    EXPECT_TRUE(state_.empty()) << text;
  }
}

TEST_F(CommandTable, lists_models_and_names_the_nearest) {
  EXPECT_EQ(say("!/models"), "gpt-4.1");
  auto index = std::make_shared<ModelIndex>();
  index->put("openai", {"left out: the configuration says what it has"});
  index->put("anthropic", {"claude-sonnet-4-5", "claude-opus-4-5"});
  RouteTable::Settings settings;
  settings.aliases = {{"fast", "openai:gpt-4.1"}};
  settings.index = index;
  rebuild(std::move(settings));
  EXPECT_EQ(say("!/models"),
            "anthropic:claude-opus-4-5\nanthropic:claude-sonnet-4-5\nfast\ngpt-4.1");
  EXPECT_EQ(say("!/models(SONNET)"), "anthropic:claude-sonnet-4-5");
  EXPECT_EQ(say("!/models(llama)"), "No model's name holds 'llama'.");
  EXPECT_EQ(say("!/model(gtp-4.1)"),
            "The model of this session is now gtp-4.1, served by openai. No backend lists that "
            "model; the nearest is gpt-4.1.");
  EXPECT_EQ(say("!/model(gpt-4.1)"), "The model of this session is now gpt-4.1, served by openai.");
}

TEST_F(CommandTable, lists_a_bounded_number_of_models) {
  for (int i = 0; i < 1000; ++i) backends_[1].models.push_back("m" + std::to_string(i));
  rebuild({});
  const auto said = say("!/models");
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 200);
  EXPECT_NE(said.find("and 801 more: !/models(text)"), std::string::npos) << said;
}

TEST_F(CommandTable, does_all_or_nothing) {
  EXPECT_EQ(say("!/backend(anthropic) !/temperature(9)").substr(0, 6), "error:");
  EXPECT_TRUE(state_.empty());
}

TEST_F(CommandTable, cannot_leave_a_static_route) {
  rebuild({"", "", {}, {}, "openai:gpt-4.1"});
  for (const std::string_view text :
       {"!/backend(anthropic)", "!/model(x)", "!/oneoff(x)", "!/set(model=x)"}) {
    EXPECT_EQ(say(text),
              "error: the proxy's static_route sends every request "
              "to openai:gpt-4.1; "
              "model and backend cannot be changed");
  }
}

TEST_F(CommandTable, explains_itself) {
  EXPECT_EQ(say("!/help(oneoff)"),
            "!/oneoff([backend:]model): the model for the next request only");
  EXPECT_NE(say("!/help").find("!/temperature(0…2): the temperature"), std::string::npos);
  say("!/backend(anthropic) !/temperature(1)");
  EXPECT_EQ(say("!/status"),
            "model: anthropic:gpt-4.1, served by "
            "anthropic\nset in this session: backend "
            "anthropic, model not set, oneoff not "
            "set\nparameters: temperature=1\nbackends: "
            "anthropic, openai, openrouter");
}

SessionState with_backend(std::string name) {
  SessionState out;
  out.backend = std::move(name);
  return out;
}

TEST(SessionStore, forgets_what_nobody_uses) {
  SessionStore store;
  const TimePoint start{};
  const std::chrono::milliseconds hour{3'600'000};
  EXPECT_TRUE(store.empty());
  store.put("a", SessionStore::Kind::named, with_backend("x"), start);
  EXPECT_EQ(store.find("a", start + hour / 2, hour)->backend, "x");
  EXPECT_EQ(store.find("a", start + hour, hour)->backend, "x") << "its time begins anew";
  EXPECT_FALSE(store.find("a", start + 2 * hour, hour));
  EXPECT_TRUE(store.empty());
  EXPECT_FALSE(store.find("b", start, hour));
}

TEST(SessionStore, holds_a_bounded_number_and_drops_the_oldest) {
  SessionStore store;
  const TimePoint start{};
  const std::chrono::milliseconds hour{3'600'000};
  for (std::size_t i = 0; i < SessionStore::kMaxSessions; ++i) {
    store.put(std::to_string(i), SessionStore::Kind::named, with_backend("x"), start);
  }
  EXPECT_TRUE(store.find("0", start, hour));
  store.put("new", SessionStore::Kind::named, with_backend("y"), start);
  EXPECT_EQ(store.size(), SessionStore::kMaxSessions);
  EXPECT_TRUE(store.find("0", start, hour)) << "it was used since";
  EXPECT_FALSE(store.find("1", start, hour));
}

TEST(SessionStore, nobody_loses_a_session_to_somebody_who_has_more) {
  SessionStore store;
  const TimePoint start{};
  const std::chrono::milliseconds hour{3'600'000};
  const std::string ann(SessionStore::kOwnerBytes, 'a'), bob(SessionStore::kOwnerBytes, 'b');
  store.put(ann + "1", SessionStore::Kind::named, with_backend("x"), start);
  for (std::size_t i = 0; i < SessionStore::kMaxSessions + 100; ++i) {
    store.put(bob + std::to_string(i), SessionStore::Kind::named, with_backend("x"), start);
  }
  EXPECT_EQ(store.size(), SessionStore::kMaxSessions);
  EXPECT_TRUE(store.find(ann + "1", start, hour));
  EXPECT_FALSE(store.find(bob + "0", start, hour));
}

TEST(SessionStore, tells_whether_there_are_any_of_a_kind) {
  using Kind = SessionStore::Kind;
  SessionStore store;
  EXPECT_TRUE(store.empty(Kind::named) && store.empty(Kind::derived));
  store.put("a", Kind::named, with_backend("x"), {});
  EXPECT_FALSE(store.empty(Kind::named));
  EXPECT_TRUE(store.empty(Kind::derived));
  store.put("b", Kind::derived, with_backend("x"), {});
  store.put("a", Kind::named, {}, {});
  EXPECT_TRUE(store.empty(Kind::named));
  EXPECT_FALSE(store.empty(Kind::derived));
  store.put("b", Kind::derived, {}, {});
  EXPECT_TRUE(store.empty());
}

TEST(SessionStore, uses_a_oneoff_once) {
  SessionStore store;
  SessionState state;
  state.oneoff = "a:b";
  store.put("s", SessionStore::Kind::named, state, {});
  store.use_oneoff("s", "c:d");
  EXPECT_FALSE(store.empty());
  store.use_oneoff("s", "a:b");
  EXPECT_TRUE(store.empty());
}

TEST(SessionStore, tells_a_sessions_first_request) {
  SessionStore store;
  const std::chrono::milliseconds hour{3'600'000};
  EXPECT_TRUE(store.first_request("s", SessionStore::Kind::named, {}, hour));
  EXPECT_FALSE(store.first_request("s", SessionStore::Kind::named, {}, hour));
  EXPECT_TRUE(store.first_request("t", SessionStore::Kind::named, {}, hour));
}

TEST_F(CommandTable, begin_as_the_session_says) {
  EXPECT_EQ(say("!/set(command-prefix=#:)"), "Commands of this session begin with #: from now on.");
  EXPECT_EQ(state_.prefix, "#:");
  EXPECT_EQ(say("!/set(command-prefix=ab)"),
            "error: 'ab' is not 2 to 10 signs such as !/ (no blanks, letters, quotes, brackets)");
  EXPECT_EQ(state_.prefix, "#:");
  EXPECT_EQ(say("!/unset(command-prefix)"), "command-prefix is not set any more.");
  EXPECT_EQ(state_.prefix, "");
}

}  // namespace
}  // namespace llm_proxy
