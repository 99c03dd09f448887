#include "exchange/chat_commands.h"

#include <algorithm>
#include <utility>

#include "json/reader.h"
#include "json/splice.h"
#include "routing/command_table.h"

namespace llm_proxy {
namespace {

struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// Where a view into the body stands in it; nothing for a view of anything else.
std::optional<Range> range_of(std::string_view view, std::string_view body) {
  if (view.data() < body.data() || view.data() + view.size() > body.data() + body.size()) {
    return std::nullopt;
  }
  const auto begin = static_cast<std::size_t>(view.data() - body.data());
  return Range{begin, begin + view.size()};
}

// The item of a message's content that holds the byte at `offset`; all are of
// `body`.
std::optional<Range> part_around(JsonSlice message, std::size_t offset, std::string_view body) {
  JsonReader json(message);
  std::string_view key;
  if (!json.begin_object()) return std::nullopt;
  while (json.next_key(key)) {
    if (json.kind() != JsonKind::array || (key != "content" && key != "parts")) continue;
    if (!json.begin_array()) break;
    while (json.next_item()) {
      JsonSlice part;
      if (!json.value(part)) return std::nullopt;
      const auto range = range_of(part, body);
      if (range && range->begin <= offset && offset < range->end) return range;
    }
  }
  return std::nullopt;
}

// What is to be done to a body: items of its arrays removed, texts replaced.
class Edits {
 public:
  explicit Edits(std::string_view body) : body_(body) {}

  void remove(Range item) { removed_.push_back(item); }
  void replace(Range text, std::string_view with) {
    std::string escaped;
    Text::plain(with).escape_to(escaped);
    splices_.push_back({text.begin, text.end, std::move(escaped)});
  }
  bool empty() const { return removed_.empty() && splices_.empty(); }

  std::string made() {
    const auto by_begin = [](const auto& a, const auto& b) { return a.begin < b.begin; };
    std::sort(removed_.begin(), removed_.end(), by_begin);
    for (std::size_t i = 0; i < removed_.size();) {
      // Neighbours go together, with the comma behind them or else the one
      // before.
      auto [begin, end] = removed_[i++];
      while (i < removed_.size() && only_comma(end, removed_[i].begin)) end = removed_[i++].end;
      const auto next = skip(end);
      if (next < body_.size() && body_[next] == ',') {
        end = skip(next + 1);
      } else {
        auto before = begin;
        while (before > 0 && is_space(body_[before - 1])) --before;
        if (before > 0 && body_[before - 1] == ',') begin = before - 1;
      }
      splices_.push_back({begin, end, {}});
    }
    std::sort(splices_.begin(), splices_.end(), by_begin);
    return spliced(body_, splices_);
  }

 private:
  static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
  std::size_t skip(std::size_t at) const {
    while (at < body_.size() && is_space(body_[at])) ++at;
    return at;
  }
  bool only_comma(std::size_t from, std::size_t to) const {
    const auto comma = skip(from);
    return comma < to && body_[comma] == ',' && skip(comma + 1) == to;
  }

  std::string_view body_;
  std::vector<Range> removed_;
  std::vector<Splice> splices_;
};

// One user message, read for commands.
struct Turn {
  const Message* message = nullptr;
  std::vector<std::pair<const TextPart*, CommandText>> texts;  // those with commands
  bool blank = true;                                           // nothing of the user's own is left
};

Turn read_turn(const Message& message, std::string_view prefix) {
  Turn out{&message, {}, true};
  for (const auto& part : message.parts) {
    const auto* text = std::get_if<TextPart>(&part);
    if (text == nullptr) {
      out.blank = false;
      continue;
    }
    const auto plain = text->text.decode();
    auto taken = take_commands(plain, prefix, is_like_a_command);
    if (taken.commands.empty()) {
      out.blank = out.blank && is_only_injected(plain);
    } else {
      out.blank = out.blank && taken.blank;
      out.texts.emplace_back(text, std::move(taken));
    }
  }
  return out;
}

// Whether a conversation itself says with what its commands begin.
bool changes_prefix(const Request& request, std::string_view standard) {
  for (const auto& message : request.messages) {
    if (message.role != Role::user) continue;
    for (const auto& [part, taken] : read_turn(message, standard).texts) {
      for (const auto& command : taken.commands) {
        if (next_prefix(command, standard)) return true;
      }
    }
  }
  return false;
}

bool is_ours(const Message& message) {
  if (message.role != Role::assistant || message.parts.empty()) return false;
  const auto* text = std::get_if<TextPart>(&message.parts.front());
  return text != nullptr && text->text.decode().starts_with(kCommandAnswer);
}

}  // namespace

ChatCommands take_chat_commands(const Request& request, std::string_view body,
                                std::string_view standard, std::string_view own) {
  ChatCommands out;
  std::string prefix(own.empty() || changes_prefix(request, standard) ? standard : own);
  Edits edits(body);
  const auto drop = [&](const Message& message) {
    if (const auto range = range_of(message.source, body); range && range->end > range->begin) {
      edits.remove(*range);
    }
  };
  const auto strip = [&](const Turn& turn) {
    for (const auto& [part, taken] : turn.texts) {
      const auto range = range_of(part->text.bytes(), body);
      if (!range) continue;
      const auto whole =
          taken.rest.empty() ? part_around(turn.message->source, range->begin, body) : std::nullopt;
      if (whole) {
        edits.remove(*whole);
      } else {
        edits.replace(*range, taken.rest);
      }
    }
  };
  const auto& messages = request.messages;
  const auto is_said = [](const Message& message) {
    return message.role != Role::system && message.role != Role::developer;
  };
  for (std::size_t i = 0; i < messages.size();) {
    if (messages[i].role != Role::user) {
      ++i;
      continue;
    }
    // What a user says in one go may be several messages.
    std::vector<Turn> turns;
    for (; i < messages.size() && (messages[i].role == Role::user || !is_said(messages[i])); ++i) {
      if (messages[i].role == Role::user) turns.push_back(read_turn(messages[i], prefix));
    }
    const bool commands = std::any_of(turns.begin(), turns.end(),
                                      [](const Turn& turn) { return !turn.texts.empty(); });
    if (!commands) continue;
    for (const auto& turn : turns) {
      for (const auto& [part, taken] : turn.texts) {
        for (const auto& command : taken.commands) {
          if (auto next = next_prefix(command, standard)) prefix = *std::move(next);
        }
      }
    }
    const bool blank =
        std::all_of(turns.begin(), turns.end(), [](const Turn& turn) { return turn.blank; });
    if (i == messages.size()) {
      out.alone = blank;
      for (const auto& turn : turns) {
        for (const auto& [part, taken] : turn.texts) {
          out.run.insert(out.run.end(), taken.commands.begin(), taken.commands.end());
        }
      }
    } else if (const bool answered = is_ours(messages[i]); blank || answered) {
      for (const auto& turn : turns) drop(*turn.message);
      if (answered) drop(messages[i]);
      continue;
    }
    for (const auto& turn : turns) {
      if (turn.texts.empty()) continue;
      if (turn.blank && !blank) {
        drop(*turn.message);
      } else {
        strip(turn);
      }
    }
  }
  if (!edits.empty()) out.body = edits.made();
  return out;
}

}  // namespace llm_proxy
