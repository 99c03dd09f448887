#include "routing/command_text.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

namespace llm_proxy {
namespace {

constexpr std::size_t kMaxName = 40;
constexpr std::size_t kMaxArguments = 4096;

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v';
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_name(char c) {
  return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// Blocks that programs put into a user's text.
constexpr std::array<std::string_view, 16> kInjected{"system-reminder",
                                                     "system_reminder",
                                                     "environment_details",
                                                     "environment_context",
                                                     "user_instructions",
                                                     "INSTRUCTIONS",
                                                     "ide_selection",
                                                     "ide_opened_file",
                                                     "attached_files",
                                                     "file_content",
                                                     "files",
                                                     "context",
                                                     "local-command-stdout",
                                                     "local-command-stderr",
                                                     "command-message",
                                                     "additional_data"};
// Tags that programs put around it.
constexpr std::array<std::string_view, 7> kWrappers{
    "task", "user_message", "user_query", "feedback", "answer", "user_request", "userRequest"};

// "<name", then ">" or blank; the tag's name if it is one of `names`.
template <typename Names>
std::string_view opened(std::string_view text, const Names& names) {
  if (!text.starts_with('<')) return {};
  for (const auto name : names) {
    if (text.size() > name.size() + 1 && text.substr(1, name.size()) == name &&
        (text[name.size() + 1] == '>' || is_blank(text[name.size() + 1]))) {
      return name;
    }
  }
  return {};
}

// Behind the injected block that begins here; 0 if none does.
std::size_t injected_end(std::string_view text) {
  const auto name = opened(text, kInjected);
  if (name.empty()) return 0;
  const auto close = "</" + std::string(name) + ">";
  const auto end = text.find(close);
  return end == text.npos ? text.size() : end + close.size();
}

// Behind a wrapper's opening or closing tag that begins here; 0 if none does.
std::size_t wrapper_end(std::string_view text) {
  if (!text.starts_with('<')) return 0;
  auto inner = std::string(text.substr(0, 40));
  if (inner.starts_with("</")) inner.erase(1, 1);
  if (opened(inner, kWrappers).empty()) return 0;
  const auto end = text.find('>');
  return end == text.npos ? 0 : end + 1;
}

std::string unquoted(std::string_view text) {
  text = trimmed(text);
  const bool quoted = text.size() >= 2 && (text.front() == '"' || text.front() == '\'') &&
                      text.back() == text.front();
  if (quoted) text = text.substr(1, text.size() - 2);
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && !is_name(text[i + 1])) ++i;
    out += text[i];
  }
  return out;
}

void add_argument(std::string_view text, Command& out) {
  text = trimmed(text);
  if (text.empty()) return;
  std::size_t name = 0;
  while (name < text.size() && is_name(text[name])) ++name;
  auto equals = name;
  while (equals < text.size() && is_blank(text[equals])) ++equals;
  if (name > 0 && equals < text.size() && text[equals] == '=') {
    out.args.emplace_back(std::string(text.substr(0, name)), unquoted(text.substr(equals + 1)));
  } else {
    out.args.emplace_back(std::string(), unquoted(text));
  }
}

// Whether a quote behind this much of an argument opens its value; elsewhere it
// is an apostrophe.
bool begins_value(std::string_view argument) {
  argument = trimmed(argument);
  return argument.empty() || argument.back() == '=';
}

// The command that begins here, with its length; nothing if none does.
struct Parsed {
  Command command;
  std::size_t size = 0;
  bool parentheses = false;
};
std::optional<Parsed> parse_command(std::string_view text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return std::nullopt;
  Parsed out;
  auto at = prefix.size();
  const auto name = at;
  while (at < text.size() && is_name(text[at])) ++at;
  if (at == name || at - name > kMaxName || !is_letter(text[name])) return std::nullopt;
  out.command.name = text.substr(name, at - name);
  out.size = at;
  auto open = at;
  while (open < text.size() && (text[open] == ' ' || text[open] == '\t')) ++open;
  if (open == text.size() || text[open] != '(') {
    if (at < text.size() && !is_blank(text[at])) return std::nullopt;
    return out;
  }
  out.parentheses = true;
  int depth = 0;
  char quote = '\0';
  auto begin = open + 1;
  for (at = open; at < text.size() && at - open < kMaxArguments; ++at) {
    const char c = text[at];
    if (c == '\n') return std::nullopt;
    if (c == '\\') {
      ++at;
    } else if (quote != '\0') {
      if (c == quote) quote = '\0';
    } else if ((c == '"' || c == '\'') && begins_value(text.substr(begin, at - begin))) {
      quote = c;
    } else if (c == '(') {
      ++depth;
    } else if (c == ',' && depth == 1) {
      add_argument(text.substr(begin, at - begin), out.command);
      begin = at + 1;
    } else if (c == ')' && --depth == 0) {
      add_argument(text.substr(begin, at - begin), out.command);
      out.size = at + 1;
      return out;
    }
  }
  return std::nullopt;
}

// Commands one behind the other, from the beginning of `text`: how far they
// reach.
struct Sequence {
  std::vector<Command> commands;
  std::size_t size = 0;
  bool parentheses = true;  // all of them
};
Sequence parse_sequence(std::string_view text, std::string_view prefix, bool need_parentheses) {
  Sequence out;
  std::size_t at = 0;
  while (out.commands.size() < CommandText::kMaxCommands) {
    auto parsed = parse_command(text.substr(at), prefix);
    if (!parsed || (need_parentheses && !parsed->parentheses)) break;
    at += parsed->size;
    if (at < text.size() && !is_blank(text[at])) break;
    out.commands.push_back(std::move(parsed->command));
    out.size = at;
    while (at < text.size() && is_blank(text[at])) ++at;
  }
  return out;
}

// The command that a line most likely means which begins like one and goes on otherwise:
// "!/backend two", "!/model(two", "!/set model=x". What stands behind its name is its one argument.
std::optional<Command> parse_garbled(std::string_view line, std::string_view prefix,
                                     CommandNameTest known) {
  if (known == nullptr || !line.starts_with(prefix)) return std::nullopt;
  const auto text = trimmed(line.substr(prefix.size()));
  std::size_t end = 0;
  while (end < text.size() && is_name(text[end])) ++end;
  const auto name = text.substr(0, end);
  auto rest = text.substr(end);
  // "!/project/src" and "!/help.txt" are paths.
  const bool ends = rest.empty() || is_blank(rest.front()) || rest == "." ||
                    std::string_view("([{:=,;?!").find(rest.front()) != std::string_view::npos;
  if (!ends || name.empty() || name.size() > kMaxName || !known(name)) return std::nullopt;
  const auto strip = [&rest](std::string_view first, std::string_view last) {
    while (!rest.empty() && first.find(rest.front()) != first.npos) rest.remove_prefix(1);
    while (!rest.empty() && last.find(rest.back()) != last.npos) rest.remove_suffix(1);
  };
  strip(" \t([{:=,;?!.", " \t)]};?!.");
  Command out{std::string(name), {}, std::string(line.substr(0, kMaxArguments))};
  if (!rest.empty()) out.args.emplace_back(std::string(), rest.substr(0, kMaxArguments));
  return out;
}

bool is_whole(const Sequence& sequence, std::string_view text) {
  return !sequence.commands.empty() && sequence.size == text.size();
}

// The user's own lines, one after the other, with what is protected in between.
struct Line {
  std::size_t begin = 0;
  std::size_t end = 0;  // behind its newline
  bool own = true;
  bool blank = false;
};

std::vector<Line> lines_of(std::string_view text) {
  std::vector<Line> out;
  std::string_view fence;
  for (std::size_t at = 0; at < text.size();) {
    const auto start = text.substr(at);
    auto indent = std::min(start.find_first_not_of(" \t"), start.size());
    if (fence.empty()) {
      if (const auto end = injected_end(start.substr(indent)); end > 0) {
        out.push_back({at, at + indent + end, false, true});
        at = out.back().end;
        continue;
      }
    }
    const auto newline = start.find('\n');
    const auto size = newline == start.npos ? start.size() : newline + 1;
    const auto line = trimmed(start.substr(0, size));
    Line entry{at, at + size, fence.empty() && !line.starts_with('>'), line.empty()};
    if (line.starts_with("```") || line.starts_with("~~~")) {
      const auto mark = line.substr(0, 3);
      if (fence.empty()) {
        fence = mark;
      } else if (fence == mark) {
        fence = {};
      }
      entry.own = false;
    }
    out.push_back(entry);
    at += size;
  }
  return out;
}

// Without wrapper tags at its beginning and end.
std::pair<std::size_t, std::size_t> inside(std::string_view text, std::size_t begin,
                                           std::size_t end) {
  while (begin < end) {
    while (begin < end && is_blank(text[begin])) ++begin;
    const auto tag = wrapper_end(text.substr(begin, end - begin));
    if (tag == 0) break;
    begin += tag;
  }
  for (;;) {
    while (end > begin && is_blank(text[end - 1])) --end;
    const auto open = text.substr(begin, end - begin).rfind('<');
    if (open == text.npos || text[end - 1] != '>' ||
        wrapper_end(text.substr(begin + open, end - begin - open)) != end - begin - open) {
      break;
    }
    end = begin + open;
  }
  return {begin, end};
}

}  // namespace

std::string_view Command::value(std::string_view wanted) const {
  for (const auto& [key, text] : args) {
    if (key == wanted) return text;
  }
  for (const auto& [key, text] : args) {
    if (key.empty()) return text;
  }
  return {};
}

std::optional<std::string> next_prefix(const Command& command, std::string_view standard) {
  constexpr std::string_view kSetting = "command-prefix";
  for (const auto& [name, value] : command.args) {
    if (command.name == "set" && name == kSetting && is_command_prefix(value)) return value;
    if (command.name == "unset" && (name == kSetting || value == kSetting)) {
      return std::string(standard);
    }
  }
  return std::nullopt;
}

CommandText take_commands(std::string_view text, std::string_view prefix, CommandNameTest known) {
  CommandText out;
  if (text.find(prefix) == text.npos) return out;
  const auto lines = lines_of(text);
  const auto own = [&](const Line& line) {
    if (!line.own || line.blank) return false;
    const auto [begin, end] = inside(text, line.begin, line.end);
    return begin < end;
  };
  const auto first = std::find_if(lines.begin(), lines.end(), own);
  const auto last = std::find_if(lines.rbegin(), lines.rend(), own);
  const auto take = [&out](std::vector<Command> commands) {
    for (auto& command : commands) {
      if (out.commands.size() < CommandText::kMaxCommands)
        out.commands.push_back(std::move(command));
    }
  };
  for (auto line = lines.begin(); line != lines.end(); ++line) {
    if (!own(*line)) {
      out.rest += text.substr(line->begin, line->end - line->begin);
      continue;
    }
    auto [begin, end] = inside(text, line->begin, line->end);
    const auto whole = text.substr(begin, end - begin);
    auto sequence = parse_sequence(whole, prefix, /*need_parentheses=*/false);
    bool all = is_whole(sequence, whole);
    if (!all && line == first) {
      if (auto garbled = parse_garbled(whole, prefix, known);
          garbled && parse_sequence(whole, prefix, /*need_parentheses=*/true).commands.empty()) {
        sequence.commands.assign(1, *std::move(garbled));
        all = true;
      }
    }
    if (all) {
      take(std::move(sequence.commands));
      // The line goes, but what wraps it stays.
      const auto around = std::string(text.substr(line->begin, begin - line->begin)) +
                          std::string(text.substr(end, line->end - end));
      if (!trimmed(around).empty()) out.rest += around;
      continue;
    }
    auto from = begin;
    auto to = end;
    if (line == first) {
      sequence = parse_sequence(whole, prefix, /*need_parentheses=*/true);
      if (!sequence.commands.empty()) {
        from += sequence.size;
        while (from < end && is_blank(text[from])) ++from;
        take(std::move(sequence.commands));
      }
    }
    if (last != lines.rend() && &*line == &*last) {
      for (auto at = from; at < end; ++at) {
        if (at > from && !is_blank(text[at - 1])) continue;
        const auto tail = text.substr(at, end - at);
        if (!tail.starts_with(prefix)) continue;
        sequence = parse_sequence(tail, prefix, /*need_parentheses=*/false);
        if (!is_whole(sequence, tail)) continue;
        take(std::move(sequence.commands));
        to = at;
        while (to > from && is_blank(text[to - 1])) --to;
        break;
      }
    }
    out.rest += text.substr(line->begin, begin - line->begin);
    out.rest += text.substr(from, to - from);
    out.rest += text.substr(end, line->end - end);
  }
  if (out.commands.empty()) {
    out.rest.clear();
    return out;
  }
  while (!out.rest.empty() && is_blank(out.rest.back())) out.rest.pop_back();
  const auto begin = std::min(out.rest.find_first_not_of("\r\n"), out.rest.size());
  out.rest.erase(0, begin);

  out.blank = is_only_injected(out.rest);
  return out;
}

bool is_only_injected(std::string_view text) {
  for (;;) {
    text = trimmed(text);
    if (text.empty()) return true;
    const auto skip = std::max(injected_end(text), wrapper_end(text));
    if (skip == 0) return false;
    text.remove_prefix(skip);
  }
}

bool may_hold_command(std::string_view json, std::string_view prefix) {
  const char* at = json.data();
  const char* const end = json.data() + json.size();
  while (at != end) {
    at = static_cast<const char*>(
        std::memchr(at, prefix.front(), static_cast<std::size_t>(end - at)));
    if (at == nullptr) return false;
    // A slash may be escaped.
    const char* behind = at;
    bool same = true;
    for (const char c : prefix) {
      if (c == '/' && end - behind > 1 && *behind == '\\' && behind[1] == '/') ++behind;
      same = behind != end && *behind == c;
      if (!same) break;
      ++behind;
    }
    // What comes before it: a blank, a quote, the end of a tag or of an escape.
    const char before = at == json.data() ? ' ' : at[-1];
    const bool begins = is_blank(before) || before == '"' || before == '>' ||
                        (at - json.data() > 1 && at[-2] == '\\') ||
                        (at - json.data() > 5 && at[-6] == '\\' && at[-5] == 'u');
    if (same && begins && behind != end && is_letter(*behind)) return true;
    ++at;
  }
  return false;
}

bool is_command_prefix(std::string_view prefix) {
  return prefix.size() >= 2 && prefix.size() <= 10 &&
         std::all_of(prefix.begin(), prefix.end(),
                     [](char c) {
                       return c > ' ' && c <= '~' && !is_name(c) && c != '"' && c != '\\' &&
                              c != '(' && c != ')' && c != '<' && c != '>';
                     }) &&
         !(prefix.size() == 2 && prefix[0] == prefix[1]);
}

}  // namespace llm_proxy
