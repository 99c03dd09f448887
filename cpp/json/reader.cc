#include "json/reader.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <utility>

#include "base/ascii.h"
#include "json/scan.h"

namespace llm_proxy {

JsonKind JsonReader::kind() {
  if (failed_) return JsonKind::none;
  space();
  if (at_ == end_) return JsonKind::none;
  switch (*at_) {
    case '{':
      return JsonKind::object;
    case '[':
      return JsonKind::array;
    case '"':
      return JsonKind::string;
    case 't':
    case 'f':
      return JsonKind::boolean;
    case 'n':
      return JsonKind::null;
    default:
      return *at_ == '-' || is_digit(*at_) ? JsonKind::number : JsonKind::none;
  }
}

bool JsonReader::take(char expected, std::string_view problem) {
  if (failed_) return false;
  space();
  if (at_ == end_ || *at_ != expected) return fail(problem);
  ++at_;
  return true;
}

bool JsonReader::begin(char opening, std::int64_t index, std::string_view problem) {
  if (!take(opening, problem)) return false;
  if (open_ == kMaxOpen) return fail("is nested too deeply");
  frames_[open_++] = Frame{at_, 0, true, index, names_.size()};
  pending_ = false;
  return true;
}

bool JsonReader::begin_object() {
  return begin('{', -1, "must be an object");
}
bool JsonReader::begin_array() {
  return begin('[', 0, "must be an array");
}

bool JsonReader::next_key(std::string_view& key) {
  if (pending_ && !failed_) skip();
  if (failed_) return false;
  Frame& frame = frames_[open_ - 1];
  space();
  if (at_ != end_ && *at_ == '}') {
    if (limits_.unique_members && !end_names(frame.names)) return false;
    ++at_;
    --open_;
    return false;
  }
  if (!frame.first && !take(',', "is followed by neither a comma nor a closing brace"))
    return false;
  frame.first = false;
  space();
  std::string_view raw;
  if (at_ == end_ || *at_ != '"') return fail("has a member without a quoted key");
  if (!scan_string(raw)) return false;
  if (raw.find('\\') != std::string_view::npos) {
    key_scratch_ = Text::escaped(raw).decode();
    key = key_scratch_;
  } else {
    key = raw;
  }
  frame.key = raw.data();
  frame.key_size = static_cast<std::uint32_t>(std::min<std::size_t>(raw.size(), 100));
  if (limits_.unique_members && !note_name(raw, frame.names)) return false;
  if (!take(':', "is not followed by a colon")) return false;
  pending_ = true;
  return true;
}

bool JsonReader::next_item() {
  if (pending_ && !failed_) skip();
  if (failed_) return false;
  Frame& frame = frames_[open_ - 1];
  space();
  if (at_ != end_ && *at_ == ']') {
    ++at_;
    --open_;
    return false;
  }
  if (!frame.first) {
    if (!take(',', "is followed by neither a comma nor a closing bracket")) return false;
    ++frame.index;
  }
  frame.first = false;
  pending_ = true;
  return true;
}

bool JsonReader::string(Text& out) {
  if (failed_) return false;
  space();
  if (at_ == end_ || *at_ != '"') return fail("must be a string");
  std::string_view raw;
  if (!scan_string(raw)) return false;
  pending_ = false;
  out = Text::escaped(raw);
  return true;
}

bool JsonReader::boolean(bool& out) {
  if (kind() != JsonKind::boolean) return fail("must be true or false");
  const bool is_true = *at_ == 't';
  if (!scan_word(is_true ? "true" : "false")) return false;
  pending_ = false;
  out = is_true;
  return true;
}

bool JsonReader::number(JsonSlice& out) {
  if (kind() != JsonKind::number) return fail("must be a number");
  const char* start = at_;
  if (!scan_number()) return false;
  pending_ = false;
  out = {start, static_cast<std::size_t>(at_ - start)};
  return true;
}

bool JsonReader::integer(std::int64_t& out) {
  JsonSlice digits;
  if (!number(digits)) return false;
  const char* const last = digits.data() + digits.size();
  const auto whole = std::from_chars(digits.data(), last, out);
  if (whole.ec == std::errc() && whole.ptr == last) return true;
  double fraction = 0;
  const auto real = std::from_chars(digits.data(), last, fraction);
  if (real.ec != std::errc() || !(std::fabs(fraction) < 9.2e18)) return fail("is out of range");
  out = static_cast<std::int64_t>(fraction);
  return true;
}

bool JsonReader::object(JsonSlice& out) {
  if (kind() != JsonKind::object) return fail("must be an object");
  return value(out);
}

bool JsonReader::value(JsonSlice& out) {
  if (failed_) return false;
  space();
  const char* start = at_;
  if (!scan_value(static_cast<int>(open_))) return false;
  pending_ = false;
  out = {start, static_cast<std::size_t>(at_ - start)};
  return true;
}

bool JsonReader::skip() {
  JsonSlice ignored;
  return value(ignored);
}

bool JsonReader::null() {
  if (kind() != JsonKind::null || !scan_word("null")) return false;
  pending_ = false;
  return true;
}

bool JsonReader::finish() {
  if (pending_ && !failed_) skip();
  if (failed_) return false;
  space();
  return at_ == end_ || fail("is followed by something else");
}

std::size_t JsonReader::position() {
  space();
  return static_cast<std::size_t>(at_ - begin_);
}

bool JsonReader::scan_string(std::string_view& between_quotes) {
  const char* const start = ++at_;
  for (;;) {
    at_ = json_detail::find_special(at_, end_);
    if (at_ == end_) return fail("is a string without an end");
    if (*at_ == '"') {
      between_quotes = {start, static_cast<std::size_t>(at_ - start)};
      ++at_;
      return true;
    }
    if (*at_ != '\\') return fail("has a control character inside a string");
    if (end_ - at_ < 2) return fail("is a string without an end");
    if (at_[1] != 'u') {
      const char* const here = std::exchange(at_, json_detail::skip_escapes(at_, end_));
      if (at_ != here) continue;
    }
    switch (at_[1]) {
      case '"':
      case '\\':
      case '/':
      case 'b':
      case 'f':
      case 'n':
      case 'r':
      case 't':
        at_ += 2;
        break;
      case 'u':
        if (!scan_unicode_escape()) return false;
        break;
      default:
        return fail("has an invalid escape");
    }
  }
}

bool JsonReader::scan_unicode_escape() {
  const auto unit = [this](const char* at) -> int {
    if (end_ - at < 6 || at[0] != '\\' || at[1] != 'u') return -1;
    unsigned value = 0;
    const auto parsed = std::from_chars(at + 2, at + 6, value, 16);
    return parsed.ptr == at + 6 ? static_cast<int>(value) : -1;
  };
  const int first = unit(at_);
  if (first < 0) return fail("has an invalid escape");
  if (limits_.whole_characters && (first & 0xf800) == 0xd800) {
    const int second = unit(at_ + 6);
    if (first >= 0xdc00 || second < 0 || (second & 0xfc00) != 0xdc00) {
      return fail("has half of a surrogate pair in a string");
    }
    at_ += 6;
  }
  at_ += 6;
  return true;
}

// Whether an IEEE double can hold the number: what most programs read JSON into.
bool JsonReader::is_finite(std::string_view number) const {
  double value = 0;
  const auto parsed = std::from_chars(number.data(), number.data() + number.size(), value);
  if (parsed.ec != std::errc::result_out_of_range) return true;
  // Too large, or so small that it is zero: the place of its first digit tells them apart.
  if (number.front() == '-') number.remove_prefix(1);
  const auto exponent = number.find_first_of("eE");
  auto magnitude = static_cast<long>(std::min(number.find_first_of(".eE"), number.size()));
  if (exponent != std::string_view::npos) {
    const char* digits = number.data() + exponent + 1;
    if (*digits == '+') ++digits;
    long power = 0;
    const auto read = std::from_chars(digits, number.data() + number.size(), power);
    if (read.ec != std::errc()) return *digits == '-';
    magnitude += power;
  }
  return magnitude < 0;
}

bool JsonReader::scan_number() {
  const char* const first = at_;
  bool scaled = false;
  if (*at_ == '-') ++at_;
  const auto digits = [this] {
    const char* start = at_;
    while (at_ != end_ && is_digit(*at_)) ++at_;
    return at_ != start;
  };
  const bool zero = at_ != end_ && *at_ == '0';
  const char* start = at_;
  bool good = digits() && !(zero && at_ - start > 1);
  if (good && at_ != end_ && *at_ == '.') {
    ++at_;
    good = digits();
  }
  if (good && at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
    scaled = true;
    ++at_;
    if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    good = digits();
  }
  if (!good) return fail("is not a valid number");
  const auto size = at_ - first;
  if (limits_.finite_numbers && (scaled || size > 300)) {
    if (size > kMaxNumber || !is_finite({first, static_cast<std::size_t>(size)})) {
      return fail("is a number beyond what a 64-bit float can hold");
    }
  }
  return true;
}

bool JsonReader::scan_word(std::string_view word) {
  if (std::string_view(at_, static_cast<std::size_t>(end_ - at_)).substr(0, word.size()) != word) {
    return fail("is not valid JSON");
  }
  at_ += word.size();
  return true;
}

namespace {

// Up to so many members of an object are compared one by one as they come, more of them at the end.
constexpr std::size_t kFewNames = 16;

}  // namespace

// Notes a member of the object whose members begin at `first`; false: it is there already.
bool JsonReader::note_name(std::string_view raw, std::size_t first) {
  if (raw.find('\\') != std::string_view::npos) {
    raw = decoded_names_.emplace_back(Text::escaped(raw).decode());
  }
  const std::size_t count = names_.size() - first;
  if (count == kMaxMembers) return fail("has too many members");
  for (std::size_t i = first; count < kFewNames && i < names_.size(); ++i) {
    if (names_[i] == raw) return fail_twice(raw);
  }
  if (names_.capacity() == 0) names_.reserve(4 * kFewNames);
  names_.push_back(raw);
  return true;
}

// The object whose members begin at `first` is read.
bool JsonReader::end_names(std::size_t first) {
  if (names_.size() - first > kFewNames) {
    const auto begin = names_.begin() + static_cast<std::ptrdiff_t>(first);
    std::sort(begin, names_.end());
    const auto same = std::adjacent_find(begin, names_.end());
    if (same != names_.end()) return fail_twice(*same);
  }
  // The objects within this one are read, so what it had decoded stands last.
  const std::less<const char*> before;
  for (std::size_t i = first; i < names_.size() && !decoded_names_.empty(); ++i) {
    if (before(names_[i].data(), begin_) || !before(names_[i].data(), end_)) {
      decoded_names_.pop_back();
    }
  }
  names_.resize(first);
  return true;
}

bool JsonReader::fail_twice(std::string_view name) {
  constexpr std::size_t kShown = 60;
  std::string shown(name.substr(0, kShown));
  if (!valid_utf8(shown)) shown = "...";
  return fail("has the member '" + shown + "' twice");
}

bool JsonReader::scan_value(int depth) {
  space();
  if (at_ == end_) return fail("ends too early");
  switch (*at_) {
    case '"': {
      std::string_view ignored;
      return scan_string(ignored);
    }
    case '{': {
      if (depth >= limits_.depth) return fail("is nested too deeply");
      ++at_;
      space();
      if (at_ != end_ && *at_ == '}') return ++at_, true;
      const std::size_t first_name = names_.size();
      for (;;) {
        space();
        std::string_view key;
        if (at_ == end_ || *at_ != '"') return fail("has a member without a quoted key");
        if (!scan_string(key)) return false;
        if (limits_.unique_members && !note_name(key, first_name)) return false;
        if (!take(':', "has a key without a colon")) return false;
        if (!scan_value(depth + 1)) return false;
        space();
        if (at_ != end_ && *at_ == '}') {
          if (limits_.unique_members && !end_names(first_name)) return false;
          return ++at_, true;
        }
        if (!take(',', "has neither a comma nor a closing brace where one is due")) return false;
      }
    }
    case '[': {
      if (depth >= limits_.depth) return fail("is nested too deeply");
      ++at_;
      space();
      if (at_ != end_ && *at_ == ']') return ++at_, true;
      for (;;) {
        if (!scan_value(depth + 1)) return false;
        space();
        if (at_ != end_ && *at_ == ']') return ++at_, true;
        if (!take(',', "has neither a comma nor a closing bracket where one is due")) return false;
      }
    }
    case 't':
      return scan_word("true");
    case 'f':
      return scan_word("false");
    case 'n':
      return scan_word("null");
    default:
      if (*at_ == '-' || is_digit(*at_)) return scan_number();
      return fail("is not valid JSON");
  }
}

bool JsonReader::fail(std::string_view problem) {
  if (!failed_) {
    failed_ = true;
    problem_ = problem;
  }
  return false;
}

std::string JsonReader::path() const {
  std::string path;
  for (std::size_t i = 0; i < open_; ++i) {
    if (frames_[i].index >= 0) {
      path += '[';
      path += std::to_string(frames_[i].index);
      path += ']';
    } else if (frames_[i].key_size > 0) {
      if (!path.empty()) path += '.';
      path += Text::escaped({frames_[i].key, frames_[i].key_size}).decode();
    }
  }
  return path;
}

Error JsonReader::error(ErrorKind kind) const {
  Error error;
  error.kind = kind;
  error.param = path();
  error.message = (error.param.empty() ? "The JSON body" : error.param) + ' ' + problem_ +
                  " (at byte " + std::to_string(at_ - begin_) + ").";
  return error;
}

bool valid_utf8(std::string_view bytes) {
  return simdjson::validate_utf8(bytes.data(), bytes.size());
}

bool is_json_object(std::string_view text) {
  JsonReader json(text);
  JsonSlice ignored;
  return json.object(ignored) && json.finish();
}

void compact_to(JsonSlice json, std::string& out) {
  const char* at = json.data();
  const char* const end = at + json.size();
  const char* run = at;
  while (at != end) {
    if (*at == '"') {
      for (++at; at != end && *at != '"'; ++at) {
        at = json_detail::find_special(at, end);
        if (at == end) break;
        if (*at == '"') break;
        if (*at == '\\') ++at;
      }
      if (at != end) ++at;
    } else if (static_cast<unsigned char>(*at) <= ' ') {
      out.append(run, at);
      run = ++at;
    } else {
      ++at;
    }
  }
  out.append(run, at);
}

JsonSlice member(JsonSlice text, std::string_view key) {
  JsonReader json(text);
  JsonSlice found;
  std::string_view name;
  if (json.kind() != JsonKind::object || !json.begin_object()) return {};
  while (json.next_key(name)) {
    if (name == key) json.value(found);
  }
  return found;
}

Text string_member(JsonSlice json, std::string_view key) {
  const JsonSlice found = member(json, key);
  if (found.size() < 2 || found.front() != '"') return {};
  return Text::escaped(found.substr(1, found.size() - 2));
}

}  // namespace llm_proxy
