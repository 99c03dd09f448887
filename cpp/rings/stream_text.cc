#include "rings/stream_text.h"

#include "json/text.h"

namespace llm_proxy {

bool PlaceholderRestorer::begins_one(std::string_view tail) const {
  const auto next = values_.lower_bound(tail);
  return next != values_.end() && next->first.size() > tail.size() && next->first.starts_with(tail);
}

void PlaceholderRestorer::add(std::string_view text, bool in_json, std::string& out) {
  if (held_.empty() && text.find('[') == std::string_view::npos) {
    out += text;
    return;
  }
  held_ += text;
  const std::string_view all = held_;
  std::size_t at = 0;
  for (;;) {
    const auto open = all.find('[', at);
    out += all.substr(at, open - at);
    if (open == std::string_view::npos) {
      held_.clear();
      return;
    }
    const auto close = all.find_first_of("[]", open + 1);
    if (close == std::string_view::npos) {
      const auto tail = all.substr(open);
      if (begins_one(tail)) {
        held_.erase(0, open);
        return;
      }
      out += tail;
      held_.clear();
      return;
    }
    at = all[close] == '[' ? close : close + 1;
    const auto token = all.substr(open, at - open);
    if (const auto known = values_.find(token); known == values_.end()) {
      out += token;
    } else if (in_json) {
      Text::plain(known->second).escape_to(out);
    } else {
      out += known->second;
    }
  }
}

void PlaceholderRestorer::finish(std::string& out) {
  out += held_;
  held_.clear();
}

LoopDetector::Found LoopDetector::add(std::string_view text) {
  for (const char c : text) {
    if (c == ' ') {
      end_word();
    } else if (word_.size() < kLongestWord) {
      word_ += c;
    } else {
      too_long_ = true;
    }
    breaks_ = c == '\n' ? breaks_ + 1 : 0;
    if (breaks_ == kBreaks) {
      breaks_ = 0;
      if (++stutters_ >= kMaxStutters && found_ == Found::nothing) found_ = Found::stutter;
    }
  }
  return found_;
}

void LoopDetector::end_word() {
  const bool again = !too_long_ && !word_.empty() && word_ == before_;
  repeats_ = again ? repeats_ + 1 : 0;
  // The word after these would be one too many; who waits for its end has sent it already.
  if (repeats_ >= kMaxRepeats && found_ == Found::nothing) found_ = Found::loop;
  before_.swap(word_);
  if (too_long_) before_.clear();
  word_.clear();
  too_long_ = false;
}

}  // namespace llm_proxy
