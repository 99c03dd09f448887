#include "upstream/echo_backend.h"

#include <algorithm>
#include <optional>
#include <string>

namespace llm_proxy {
namespace {

constexpr std::string_view kHint =
    "\n\n(This is the built-in echo backend. Set OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY "
    "or another "
    "provider's key, or start with --default-backend NAME[:MODEL], to talk to a real model.)";

std::int64_t count_words(std::string_view text) {
  std::int64_t words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (!space && !inside) ++words;
    inside = !space;
  }
  return words;
}

// All text of a message, and what stands for its other parts.
std::string readable(const Message& message) {
  std::string out;
  const auto add = [&out](std::string_view piece) {
    if (!out.empty() && !piece.empty()) out += '\n';
    out += piece;
  };
  for (const auto& part : message.parts) {
    if (const auto* text = std::get_if<TextPart>(&part)) {
      add(text->text.decode());
    } else if (const auto* media = std::get_if<MediaPart>(&part)) {
      static constexpr std::string_view kWords[] = {"[image]", "[document]", "[audio]", "[video]"};
      add(kWords[static_cast<std::size_t>(media->kind)]);
    } else if (const auto* result = std::get_if<ToolResultPart>(&part)) {
      Message inner;
      inner.parts = result->content;
      add("tool result: " + readable(inner));
    }
  }
  return out;
}

struct Call {
  Text name;
  std::string arguments;
};

const Tool* offered(const Request& request, std::string_view name) {
  for (const auto& tool : request.tools) {
    if (tool.kind != Tool::Kind::server && !tool.deferred && tool.name == name) return &tool;
  }
  return nullptr;
}

// The tool this turn must or should call; none after its result came back, so that a loop of calls
// ends.
std::optional<Call> wanted_call(const Request& request, std::string_view last_text,
                                bool after_result) {
  if (after_result || request.tools.empty()) return std::nullopt;
  const auto choice = request.tool_choice.value_or(ToolChoice{});
  if (choice.mode == ToolChoice::Mode::none) return std::nullopt;
  // "call NAME" with optional JSON behind it.
  if (const auto at = last_text.find("call "); at != std::string_view::npos) {
    const auto rest = last_text.substr(at + 5);
    const auto name = rest.substr(0, rest.find_first_of(" \n\t("));
    if (const Tool* tool = offered(request, name)) {
      const auto open = rest.find('{');
      const auto close = rest.rfind('}');
      const bool given =
          open != std::string_view::npos && close != std::string_view::npos && close > open;
      return Call{tool->name, given ? std::string(rest.substr(open, close - open + 1)) : "{}"};
    }
  }
  if (choice.mode == ToolChoice::Mode::one && !choice.names.empty())
    return Call{choice.names.front(), "{}"};
  if (choice.mode == ToolChoice::Mode::subset && choice.subset_required && !choice.names.empty()) {
    return Call{choice.names.front(), "{}"};
  }
  if (choice.mode == ToolChoice::Mode::required) {
    for (const auto& tool : request.tools) {
      if (tool.kind != Tool::Kind::server && !tool.deferred) return Call{tool.name, "{}"};
    }
  }
  return std::nullopt;
}

}  // namespace

void echo_reply(const Request& request, std::string_view reply_id, EventSink& sink) {
  std::int64_t input = 0;
  std::string last_text;
  bool after_result = false;
  for (const auto& message : request.messages) {
    const auto text = readable(message);
    input += count_words(text);
    if (message.role == Role::user || message.role == Role::tool) last_text = text;
    after_result = std::any_of(message.parts.begin(), message.parts.end(), [](const Part& part) {
      return std::holds_alternative<ToolResultPart>(part);
    });
  }

  sink.on_event(ReplyStart{Text::plain(reply_id), request.model, 0});
  const auto call = wanted_call(request, last_text, after_result);
  std::int64_t output = 0;
  if (call) {
    const auto call_id = "call_" + std::string(reply_id.substr(0, 24));
    PartStart start;
    start.kind = PartKind::tool_call;
    start.call_id = Text::plain(call_id);
    start.name = call->name;
    sink.on_event(start);
    sink.on_event(PartDelta{0, Text::plain(call->arguments)});
    sink.on_event(PartEnd{0});
    output = count_words(call->arguments);
  } else {
    const auto answer =
        (last_text.empty() ? std::string("(no user text)") : last_text) + std::string(kHint);
    sink.on_event(PartStart{});
    // Word by word, so that a stream looks like one; a cut lands on a space, never inside a
    // character.
    for (std::size_t begin = 0; begin < answer.size();) {
      const auto space = answer.find(' ', begin);
      const auto end = space == std::string::npos ? answer.size() : space + 1;
      sink.on_event(PartDelta{0, Text::plain(std::string_view(answer).substr(begin, end - begin))});
      begin = end;
    }
    sink.on_event(PartEnd{0});
    output = count_words(answer);
  }
  Usage usage;
  usage.input = input;
  usage.output = output;
  sink.on_event(UsageUpdate{usage});
  sink.on_event(Finish{call ? FinishReason::tool_calls : FinishReason::stop, {}, "stop"});
}

}  // namespace llm_proxy
