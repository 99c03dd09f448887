#include "json/array_reader.h"

#include <string>

namespace llm_proxy {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

}  // namespace

void JsonArrayReader::add(std::string_view bytes) {
  const std::size_t keep = state_ == State::inside ? begin_ : at_;
  buffer_.drop_front(keep);
  at_ -= keep;
  begin_ = 0;
  if (!buffer_.append(bytes)) state_ = State::too_large;
}

bool JsonArrayReader::next(std::string_view& element) {
  const std::string_view text = buffer_.view();
  for (; at_ < text.size(); ++at_) {
    const char c = text[at_];
    switch (state_) {
      case State::before:
        if (is_space(c)) break;
        state_ = c == '[' ? State::between : State::failed;
        break;
      case State::between:
        if (is_space(c) || c == ',') break;
        if (c == ']') {
          state_ = State::ended;
        } else if (c == '{') {
          state_ = State::inside;
          begin_ = at_;
          depth_ = 1;
        } else {
          state_ = State::failed;
        }
        break;
      case State::inside:
        if (in_string_) {
          if (escaped_) {
            escaped_ = false;
          } else if (c == '\\') {
            escaped_ = true;
          } else if (c == '"') {
            in_string_ = false;
          }
        } else if (c == '"') {
          in_string_ = true;
        } else if (c == '{' || c == '[') {
          ++depth_;
        } else if ((c == '}' || c == ']') && --depth_ == 0) {
          state_ = State::between;
          element = text.substr(begin_, ++at_ - begin_);
          return true;
        }
        if (at_ - begin_ >= max_element_) state_ = State::too_large;
        break;
      case State::ended:
        if (!is_space(c)) state_ = State::failed;
        break;
      case State::failed:
      case State::too_large:
        return false;
    }
  }
  return false;
}

Result<void> JsonArrayReader::status() const {
  if (state_ == State::too_large) {
    return Error{.kind = ErrorKind::upstream_too_large,
                 .message = "an element of the upstream's stream is larger than " +
                            std::to_string(max_element_) + " bytes"};
  }
  if (state_ != State::failed) return {};
  return Error{.kind = ErrorKind::upstream_garbled,
               .message = "The upstream's stream is not an array of JSON objects."};
}

}  // namespace llm_proxy
