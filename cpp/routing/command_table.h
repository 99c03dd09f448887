#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "routing/command_text.h"
#include "routing/route_table.h"
#include "routing/session_store.h"

namespace llm_proxy {

// What a command may look at.
struct CommandContext {
  const RouteTable& routes;
  std::string_view prefix;  // "!/", for the help
  std::string_view model;   // the client's own
};

// Whether a command has this name, or one so near to it that it is most likely misspelt.
bool is_like_a_command(std::string_view name);

// Whether one of them tells which models there are.
bool asks_for_models(const std::vector<Command>& commands);

// Runs the commands in their order: all of them, or none if one is wrong. The
// answer, a line or more for each, is for the user; an Error
// (malformed_request) says what would have been valid.
Result<std::string> run_commands(const std::vector<Command>& commands,
                                 const CommandContext& context, SessionState& state);

}  // namespace llm_proxy
