#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/request.h"
#include "routing/command_text.h"

namespace llm_proxy {

// Begins every answer of our own to a command, so that it is known again in a
// client's history.
inline constexpr std::string_view kCommandAnswer = "[llm-proxy] ";

// The in-chat commands of a request.
struct ChatCommands {
  std::vector<Command> run;  // of the turn the user has just written
  bool alone = false;        // that turn holds nothing else
  // The request without any command, without turns that only the proxy
  // answered, and without those answers; if there was one of these. All other
  // bytes stay, and a turn always leaves the same.
  std::optional<std::string> body;
};

// `request` is decoded from `body`. Commands begin with `standard` until one of them says
// otherwise; where none does, with the session's own prefix, if it has one.
ChatCommands take_chat_commands(const Request& request, std::string_view body,
                                std::string_view standard, std::string_view own = {});

}  // namespace llm_proxy
