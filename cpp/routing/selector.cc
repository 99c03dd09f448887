#include "routing/selector.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace llm_proxy {
namespace {

constexpr std::string_view kOperators = "|^!";
constexpr std::string_view kSyntax = "SYNTAX_ERROR";
constexpr std::string_view kLeaf = "INVALID_LEAF";
constexpr std::string_view kUnsupported = "UNSUPPORTED_CONSTRUCT";

Error wrong(std::string_view code, std::size_t position, std::string problem) {
  Error out{ErrorKind::malformed_request,
            "model, character " + std::to_string(position + 1) + ": " + std::move(problem)};
  out.code = code;
  out.param = "model";
  return out;
}

std::string in_quotes(std::string_view text) {
  return "'" + std::string(text.substr(0, 60)) + "'";
}

Composition composition(char op) {
  return op == '|' ? Composition::failover : op == '^' ? Composition::weighted : Composition::race;
}

// Seconds, to the millisecond.
std::optional<std::chrono::milliseconds> seconds(std::string_view text) {
  double value = -1;
  const auto end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  if (read.ec != std::errc() || read.ptr != end || !(value >= 0) || value > 3600) {
    return std::nullopt;
  }
  return std::chrono::milliseconds(static_cast<std::int64_t>(value * 1000));
}

template <typename T>
std::optional<T> positive(std::string_view text) {
  T value = 0;
  const auto end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, value);
  if (read.ec != std::errc() || read.ptr != end || value == 0) return std::nullopt;
  return value;
}

// What an annotation is called, where it may stand, and how it is set: false if the value is none.
struct Annotation {
  std::string_view name;
  std::string_view code;
  char needs;  // the operator it belongs to; 0: any
  std::string_view expected;
  bool (*set)(SelectorLeg& leg, std::string_view value);
};

constexpr std::array kAnnotations{
    Annotation{"weight", "INVALID_WEIGHT", '^', "a whole number of at least 1",
               [](SelectorLeg& leg, std::string_view value) {
                 const auto number = positive<std::uint32_t>(value);
                 if (!number || *number > 1'000'000) return false;
                 leg.weight = *number;
                 return true;
               }},
    Annotation{"first", kSyntax, '^', "nothing, 1, yes or true",
               [](SelectorLeg& leg, std::string_view value) {
                 leg.first = value.empty() || value == "1" || value == "yes" || value == "true";
                 return leg.first || value == "0" || value == "no" || value == "false";
               }},
    Annotation{"max_context", "INVALID_MAX_CONTEXT", '\0', "a whole number of tokens",
               [](SelectorLeg& leg, std::string_view value) {
                 const auto number = positive<std::uint64_t>(value);
                 if (number) leg.max_context = *number;
                 return number.has_value();
               }},
    Annotation{"handicap", "INVALID_HANDICAP", '!', "a number of seconds from 0 to 3600",
               [](SelectorLeg& leg, std::string_view value) {
                 const auto number = seconds(value);
                 if (number) leg.handicap = *number;
                 return number.has_value();
               }},
    Annotation{"ttft_timeout", "INVALID_TTFT_TIMEOUT", '\0', "a number of seconds from 0 to 3600",
               [](SelectorLeg& leg, std::string_view value) {
                 const auto number = seconds(value);
                 if (number) leg.ttft_timeout = *number;
                 return number.has_value();
               }},
};

std::string annotation_names() {
  std::string out;
  for (const auto& row : kAnnotations) {
    if (!out.empty()) out += ", ";
    out += row.name;
  }
  return out;
}

Result<std::string> percent_decoded(std::string_view text, std::size_t position) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned value = 0;
    const auto end = text.data() + std::min(i + 3, text.size());
    const auto read = std::from_chars(text.data() + i + 1, end, value, 16);
    if (read.ptr != text.data() + i + 3 || value == 0) {
      return wrong(kSyntax, position + i, "'%' must be followed by two hexadecimal digits");
    }
    out += static_cast<char>(value);
    i += 2;
  }
  return out;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Selector> parse() {
    if (text_.size() > Selector::kMaxSize) {
      return wrong(kSyntax, Selector::kMaxSize, "a model may have at most 2048 characters");
    }
    if (auto read = affinity(); !read) return std::move(read).error();
    for (;;) {
      if (auto parsed = leg(); !parsed) return std::move(parsed).error();
      if (at_ == text_.size()) break;
      const char op = text_[at_];
      if (op_ != '\0' && op != op_) {
        return wrong(kUnsupported, at_,
                     std::string("'") + op + "' cannot be mixed with '" + op_ +
                         "': use one of |, ^ and ! throughout");
      }
      op_ = op;
      ++at_;
      if (out_.legs.size() == Selector::kMaxLegs) {
        return wrong(kUnsupported, at_, "a selector may have at most 16 legs");
      }
    }
    if (op_ != '\0') out_.how = composition(op_);
    for (const auto& [row, position] : used_) {
      if (row->needs != '\0' && row->needs != op_) {
        return wrong(
            row->code, position,
            "[" + std::string(row->name) + "] means something between '" + row->needs + "' only");
      }
    }
    const auto firsts = std::count_if(out_.legs.begin(), out_.legs.end(),
                                      [](const SelectorLeg& leg) { return leg.first; });
    if (firsts > 1) return wrong(kSyntax, 0, "at most one leg can be [first]");
    return std::move(out_);
  }

 private:
  Result<void> affinity() {
    constexpr std::string_view kBegin = "{affinity=";
    if (!text_.starts_with('{')) return {};
    const auto close = text_.find('}');
    const auto value = text_.substr(0, close).starts_with(kBegin)
                           ? text_.substr(kBegin.size(), close - kBegin.size())
                           : std::string_view();
    if (close == text_.npos || (value != "session" && value != "client")) {
      return wrong(kSyntax, 0, "'{' begins {affinity=session} or {affinity=client}");
    }
    out_.affinity = value == "session" ? Affinity::session : Affinity::client;
    at_ = close + 1;
    return {};
  }

  Result<void> leg() {
    SelectorLeg leg;
    while (at_ < text_.size() && text_[at_] == '[') {
      if (auto read = annotations(leg); !read) return read;
    }
    leg.position = at_;
    const auto end = std::min(text_.find_first_of(kOperators, at_), text_.size());
    const auto body = text_.substr(at_, end - at_);
    const auto question = body.find('?');
    leg.target = body.substr(0, question);
    if (leg.target.empty() || leg.target.ends_with(':')) {
      return wrong(kLeaf, at_ + leg.target.size(),
                   "a model is missing; write model, backend:model or backend.instance:model");
    }
    if (const auto blank = leg.target.find_first_of(" \t\r\n[]{}"); blank != leg.target.npos) {
      return wrong(kLeaf, at_ + blank, "a model holds no blanks and no brackets");
    }
    if (question != std::string_view::npos) {
      if (auto read = params(leg, at_ + question + 1, end); !read) return read;
    }
    at_ = end;
    out_.legs.push_back(std::move(leg));
    return {};
  }

  Result<void> annotations(SelectorLeg& leg) {
    const auto close = text_.find(']', at_);
    if (close == std::string_view::npos) return wrong(kSyntax, at_, "'[' is not closed");
    auto from = at_ + 1;
    while (from <= close) {
      const auto end = std::min(text_.find(',', from), close);
      const auto item = text_.substr(from, end - from);
      const auto equals = item.find('=');
      const auto key = item.substr(0, equals);
      const auto value = equals == item.npos ? std::string_view() : item.substr(equals + 1);
      if (key == "thinker") {
        return wrong(kUnsupported, from,
                     "[thinker] is not supported; there are: " + annotation_names());
      }
      const auto row = std::find_if(kAnnotations.begin(), kAnnotations.end(),
                                    [&](const Annotation& known) { return known.name == key; });
      if (row == kAnnotations.end()) {
        return wrong(
            kSyntax, from,
            "no annotation is called " + in_quotes(key) + "; there are: " + annotation_names());
      }
      if (!row->set(leg, value)) {
        return wrong(row->code, from,
                     std::string(key) + " must be " + std::string(row->expected) + ", not " +
                         in_quotes(value));
      }
      used_.emplace_back(&*row, from);
      from = end + 1;
    }
    at_ = close + 1;
    return {};
  }

  Result<void> params(SelectorLeg& leg, std::size_t from, std::size_t end) {
    while (from < end) {
      const auto stop = std::min(text_.find('&', from), end);
      const auto item = text_.substr(from, stop - from);
      const auto equals = item.find('=');
      if (equals == std::string_view::npos || equals == 0) {
        return wrong(kSyntax, from, "a parameter is written name=value, not " + in_quotes(item));
      }
      const auto name = item.substr(0, equals);
      auto value = percent_decoded(item.substr(equals + 1), from + equals + 1);
      if (!value) return std::move(value).error();
      if (auto set = set_param(leg.params, name, *value); !set) {
        if (set.error().kind != ErrorKind::not_found) {
          return wrong(kLeaf, from, set.error().message);
        }
        out_.ignored.emplace_back(name.substr(0, 40));
      }
      from = stop + 1;
    }
    return {};
  }

  std::string_view text_;
  std::size_t at_ = 0;
  char op_ = '\0';
  Selector out_;
  std::vector<std::pair<const Annotation*, std::size_t>> used_;
};

}  // namespace

bool is_plain_selector(std::string_view text) {
  return text.find_first_of("|^![?{") == std::string_view::npos;
}

Result<Selector> parse_selector(std::string_view text) {
  return Parser(text).parse();
}

}  // namespace llm_proxy
