#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llm_proxy {

// One in-chat command as it was typed: "!/set(model=openai:gpt-4.1,
// temperature=0)".
struct Command {
  std::string name;
  std::vector<std::pair<std::string, std::string>> args;  // a bare argument has no name
  // The line, where it begins like a command but is not written as one: "!/backend two". Empty: it
  // is a command.
  std::string garbled;

  // The value of the argument of that name, else of the first bare one; empty
  // if there is none.
  std::string_view value(std::string_view name) const;
};

// What stays of a user's text when its commands are taken out of it.
struct CommandText {
  static constexpr std::size_t kMaxCommands = 16;

  std::vector<Command> commands;
  std::string rest;    // meaningless without commands
  bool blank = false;  // nothing of the user's own is left
};

// What begins commands after this one, if it says something about that: the value of
// set(command-prefix=…), or `standard` after unset(command-prefix).
std::optional<std::string> next_prefix(const Command& command, std::string_view standard);

// Takes commands out of what a user wrote: lines that hold nothing else, and
// those at the beginning and the end of the text. Code fences, quoted lines and
// what programs put into a user's text
// (<system-reminder>, <environment_details>, …) are left alone. Depends on the
// text only, so that the same text always leaves the same rest.
//
// A first line that begins with the prefix and a name that `known` says yes to, but goes on
// otherwise than a command, is taken out whole as a garbled one. No `known`: it stays.
using CommandNameTest = bool (*)(std::string_view name);
CommandText take_commands(std::string_view text, std::string_view prefix,
                          CommandNameTest known = nullptr);

// Whether a text holds nothing of the user's own: blanks, and what programs put
// there.
bool is_only_injected(std::string_view text);

// Whether JSON text may hold a command: a look at the bytes, which never misses
// one and takes no time worth mentioning where there is none. The prefix is
// printable ASCII.
bool may_hold_command(std::string_view json, std::string_view prefix);

// 2 to 10 printable characters, neither blanks nor letters nor quotes, and not
// one character twice.
bool is_command_prefix(std::string_view prefix);

}  // namespace llm_proxy
