#include "routing/command_text.h"

#include <gtest/gtest.h>

#include <tuple>

namespace llm_proxy {
namespace {

// "set(model=a:b,temperature=0) help() | the rest"; "| -" when nothing of the
// user's own is left.
std::string taken(std::string_view text, std::string_view prefix = "!/") {
  const auto found = take_commands(text, prefix);
  if (found.commands.empty()) return "nothing";
  std::string out;
  for (const auto& command : found.commands) {
    out += command.name + "(";
    for (const auto& [key, value] : command.args) {
      if (out.back() != '(') out += ",";
      out += key.empty() ? value : key + "=" + value;
    }
    out += ") ";
  }
  return out + "| " + (found.blank ? "-" + found.rest : found.rest);
}

TEST(CommandText, finds_commands_where_users_put_them) {
  for (const auto& [text, want] : std::initializer_list<std::pair<std::string_view, std::string>>{
           {"!/help", "help() | -"},
           {"  !/status  \n", "status() | -"},
           {"!/backend(openai)", "backend(openai) | -"},
           {"!/model(openai:gpt-4.1)", "model(openai:gpt-4.1) | -"},
           {"!/model(openrouter:qwen/qwen3:free?temperature=0.2)",
            "model(openrouter:qwen/qwen3:free?temperature=0.2) | -"},
           {"!/set(model=a:b, temperature=0)", "set(model=a:b,temperature=0) | -"},
           {"!/set( name = \"a, b)\" , x='1')", "set(name=a, b),x=1) | -"},
           {"!/model(x) !/temperature(0.5)", "model(x) temperature(0.5) | -"},
           {"!/model(x)\nHello there", "model(x) | Hello there"},
           {"Hello there\n!/model(x)", "model(x) | Hello there"},
           {"one\n!/model(x)\ntwo", "model(x) | one\ntwo"},
           {"Hello there !/oneoff(a:b)", "oneoff(a:b) | Hello there"},
           {"!/oneoff(a:b) Hello there", "oneoff(a:b) | Hello there"},
           {"!/model(x) Hello !/temperature(1)", "model(x) temperature(1) | Hello"},
           {"Hello !/max", "max() | Hello"},
           {"don't, it's !/model(x)", "model(x) | don't, it's"},
           {"<task>\n!/model(x)\n</task>", "model(x) | -<task>\n</task>"},
           {"<task>!/model(x)</task>", "model(x) | -<task></task>"},
           {"<task>\nDo it !/model(x)\n</task>", "model(x) | <task>\nDo it\n</task>"},
           {"!/status\n<system-reminder>\n!/help\n</system-reminder>",
            "status() | -<system-reminder>\n!/help\n</system-reminder>"},
           {"Go on "
            "!/model(x)\n\n<environment_details>\nfiles\n</"
            "environment_details>",
            "model(x) | Go "
            "on\n\n<environment_details>\nfiles\n</environment_details>"},
       }) {
    EXPECT_EQ(taken(text), want) << text;
  }
}

TEST(CommandText, leaves_alone_what_is_no_command) {
  for (const std::string_view text : {
           "what does !/model(x) do?",
           "run #!/bin/sh and !/bin/ls please",
           "#!/bin/bash",
           "!/usr/bin/env",
           "!/",
           "!/ help",
           "!/9lives",
           "!/model(x",
           "!/model(x))",
           "!/help me",
           "wow!/help",
           "see `!/help`",
           "> !/help",
           "```\n!/help\n```",
           "~~~sh\n!/help\n",
           "<system-reminder>!/help</system-reminder>",
           "<system-reminder>\nnever closed\n!/help",
           "<environment_details>\n!/help\n</environment_details>\n",
       }) {
    EXPECT_EQ(taken(text), "nothing") << text;
  }
}

TEST(CommandText, takes_a_garbled_first_line_out_whole) {
  const auto known = [](std::string_view name) { return name == "model" || name == "set"; };
  for (const auto& [text, argument, rest] :
       std::initializer_list<std::tuple<std::string_view, std::string_view, std::string_view>>{
           {"!/model two", "two", ""},
           {"!/model(two", "two", ""},
           {"!/model two)", "two", ""},
           {"!/model[two]", "two", ""},
           {"!/model: two", "two", ""},
           {"!/ model(two)", "two", ""},
           {"!/model(two))", "two", ""},
           {"!/set model=x", "model=x", ""},
           {"!/model two\nand now?", "two", "and now?"},
           {"!/model?", "", ""},
       }) {
    const auto found = take_commands(text, "!/", known);
    ASSERT_EQ(found.commands.size(), 1U) << text;
    EXPECT_FALSE(found.commands[0].garbled.empty()) << text;
    EXPECT_EQ(found.commands[0].value("name"), argument) << text;
    EXPECT_EQ(found.rest, rest) << text;
    EXPECT_EQ(found.blank, rest.empty()) << text;
  }
  for (const std::string_view text :
       {"!/model/two", "!/model.txt", "!/other two", "see !/model two", "one\n!/model two",
        "> !/model two", "```\n!/model two\n```"}) {
    EXPECT_TRUE(take_commands(text, "!/", known).commands.empty()) << text;
  }
  EXPECT_EQ(take_commands("!/model(x) and then", "!/", known).rest, "and then");
}

TEST(CommandText, knows_any_prefix) {
  EXPECT_EQ(taken("$$/help", "$$/"), "help() | -");
  EXPECT_EQ(taken("!/help", "$$/"), "nothing");
  for (const std::string_view good : {"!/", "//!", "#:", "@@@"})
    EXPECT_TRUE(is_command_prefix(good));
  for (const std::string_view bad :
       {"", "!", "!!", "! /", "a/", "\"/", "\\/", "!(", "12345678901"}) {
    EXPECT_FALSE(is_command_prefix(bad)) << bad;
  }
}

TEST(CommandText, is_taken_out_the_same_way_again) {
  for (const std::string_view text : {"one\n!/model(x)\ntwo !/max", "!/a(b) text"}) {
    const auto once = take_commands(text, "!/");
    EXPECT_TRUE(take_commands(once.rest, "!/").commands.empty()) << once.rest;
  }
}

TEST(CommandText, is_bounded) {
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "!/help\n";
  EXPECT_EQ(take_commands(many, "!/").commands.size(), CommandText::kMaxCommands);
  const std::string open = "!/set(" + std::string(100'000, '(');
  EXPECT_TRUE(take_commands(open, "!/").commands.empty());
}

TEST(MayHoldCommand, sees_every_spelling_and_passes_by_what_cannot_be_one) {
  for (const std::string_view yes :
       {R"({"content":"!/help"})", R"({"content":"!\/help"})", R"({"a":"x\n!/help"})",
        R"({"a":"x !/help"})", R"({"a":"<task>!/help"})", R"({"a":"x\u000a!/help"})"}) {
    EXPECT_TRUE(may_hold_command(yes, "!/")) << yes;
  }
  for (const std::string_view no : {R"({"content":"#!/bin/sh"})", R"({"content":"wow! /help"})",
                                    R"({"content":"!/ x"})", "", "!", R"({"content":"!!!"})"}) {
    EXPECT_FALSE(may_hold_command(no, "!/")) << no;
  }
}

}  // namespace
}  // namespace llm_proxy
