#include "http/sse_reader.h"

#include <algorithm>
#include <cstring>

namespace llm_proxy {
namespace {

constexpr std::string_view kBom = "\xEF\xBB\xBF";
constexpr std::uint8_t kBomPast = 3;

// The first CR or LF. In windows, so that a text with only one of the two is not searched to its
// end for the other.
std::size_t find_line_end(std::string_view text) {
  constexpr std::size_t kWindow = 512;
  for (std::size_t start = 0; start < text.size(); start += kWindow) {
    const char* from = text.data() + start;
    std::size_t length = std::min(kWindow, text.size() - start);
    const auto* lf = static_cast<const char*>(std::memchr(from, '\n', length));
    if (lf != nullptr) length = static_cast<std::size_t>(lf - from);
    const auto* cr = static_cast<const char*>(std::memchr(from, '\r', length));
    if (cr != nullptr) return static_cast<std::size_t>(cr - text.data());
    if (lf != nullptr) return static_cast<std::size_t>(lf - text.data());
  }
  return std::string_view::npos;
}

}  // namespace

Result<bool> SseReader::next(std::string_view& input, SseEvent& out) {
  forget_delivered();
  while (!input.empty()) {
    if (skip_lf_) {
      skip_lf_ = false;
      if (input.front() == '\n') {
        input.remove_prefix(1);
        continue;
      }
    }
    if (bom_ < kBomPast) {
      if (input.front() == kBom[bom_]) {
        input.remove_prefix(1);
        ++bom_;
        continue;
      }
      if (!line_.append(kBom.substr(0, bom_))) return too_large();
      bom_ = kBomPast;
    }
    const std::size_t end = find_line_end(input);
    if (end == std::string_view::npos) return keep_partial_line(input);

    std::string_view text = input.substr(0, end);
    std::size_t next = end + 1;
    if (input[end] == '\r') {
      skip_lf_ = next == input.size();
      if (!skip_lf_ && input[next] == '\n') ++next;
    }
    if (!line_whole_ && !line_.empty()) {
      if (!line_.append(text)) return too_large();
      line_whole_ = true;
      text = line_.view();
    }
    input.remove_prefix(next);
    Result<bool> got = line(text, out);
    if (!got || *got) return got;
  }
  if (!keep_event()) return too_large();
  return false;
}

Result<bool> SseReader::finish(SseEvent& out) {
  forget_delivered();
  if (!line_whole_ && !line_.empty()) {
    line_whole_ = true;
    if (Result<bool> got = line(line_.view(), out); !got) return got;
  }
  return dispatch(out);
}

Result<bool> SseReader::line(std::string_view text, SseEvent& out) {
  size_ += text.empty() && !has_data_ ? 1 : text.size();
  if (size_ > limit_) return too_large();
  if (text.empty()) return dispatch(out);
  between_ = false;
  const std::size_t colon = std::min(text.find(':'), text.size());
  const std::string_view name = text.substr(0, colon);
  std::string_view value = text.substr(std::min(colon + 1, text.size()));
  if (!value.empty() && value.front() == ' ') value.remove_prefix(1);

  if (name == "data") {
    if (has_data_) {
      if (!keep_data() || !data_kept_.append("\n") || !data_kept_.append(value)) {
        return too_large();
      }
      data_ = data_kept_.view();
    } else {
      data_ = value;
      has_data_ = true;
    }
  } else if (name == "event") {
    event_ = value;
  }
  return false;
}

bool SseReader::dispatch(SseEvent& out) {
  between_ = true;
  delivered_ = true;
  if (!has_data_) {
    const std::size_t since_last = size_;
    forget_delivered();
    size_ = since_last;
    return false;
  }
  out = {event_, data_};
  return true;
}

void SseReader::forget_delivered() {
  if (!delivered_) return;
  delivered_ = false;
  has_data_ = false;
  size_ = 0;
  event_ = data_ = {};
  event_kept_.clear();
  data_kept_.clear();
}

Result<bool> SseReader::keep_partial_line(std::string_view& input) {
  if (!keep_event()) return too_large();
  if (line_whole_) line_.clear();
  line_whole_ = false;
  between_ = false;
  if (size_ + line_.size() + input.size() > limit_) return too_large();
  if (!line_.append(input)) return too_large();
  input = {};
  return false;
}

bool SseReader::keep_event() {
  if (!keep_data()) return false;
  if (event_.data() != event_kept_.view().data()) {
    event_kept_.clear();
    if (!event_kept_.append(event_)) return false;
  }
  event_ = event_kept_.view();
  return true;
}

bool SseReader::keep_data() {
  if (data_.data() != data_kept_.view().data()) {
    data_kept_.clear();
    if (!data_kept_.append(data_)) return false;
  }
  data_ = data_kept_.view();
  return true;
}

Error SseReader::too_large() const {
  return {ErrorKind::upstream_too_large,
          "the upstream sent " + std::to_string(limit_) + " bytes without the end of an event"};
}

}  // namespace llm_proxy
