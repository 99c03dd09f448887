#include "http/http_reply.h"

#include <algorithm>

namespace llm_proxy {

Result<std::string_view> HttpReply::feed(std::string_view bytes) {
  return state_ == State::head ? on_head_bytes(bytes) : on_body_bytes(bytes);
}

Result<std::string_view> HttpReply::on_head_bytes(std::string_view bytes) {
  if (!head_.append(bytes))
    return Error{.kind = ErrorKind::upstream_too_large, .message = "the head does not end"};
  for (;;) {
    const Result<std::size_t> length =
        parse_reply_head(head_.view(), HeadLimits{}, to_head_request_, parsed_);
    if (!length) return length.error();
    if (*length == 0) return std::string_view();
    if (!parsed_.interim()) {
      state_ = State::body;
      left_ = parsed_.framing == Framing::length ? parsed_.content_length : 0;
      early_ =
          head_.view().substr(*length);  // never in the string that `parsed_` looks into: it stays
      return on_body_bytes(early_);
    }
    if (++interim_ > kMaxInterim)
      return Error{.kind = ErrorKind::upstream_garbled, .message = "too many interim replies"};
    head_.drop_front(*length);
  }
}

Result<std::string_view> HttpReply::on_body_bytes(std::string_view bytes) {
  std::string_view body;
  if (state_ == State::body) {
    switch (parsed_.framing) {
      case Framing::none:
        break;
      case Framing::length:
        body = bytes.substr(0, std::min<std::uint64_t>(left_, bytes.size()));
        left_ -= body.size();
        bytes.remove_prefix(body.size());
        break;
      case Framing::until_close:
        return bytes;
      case Framing::chunked:
        return on_chunks(bytes);
    }
    if (left_ == 0) state_ = State::done;
  }
  left_over_ = left_over_ || !bytes.empty();
  return body;
}

Result<std::string_view> HttpReply::on_chunks(std::string_view bytes) {
  std::string_view only;
  body_.clear();
  while (!bytes.empty() && !chunks_.done()) {
    const Result<std::string_view> piece = chunks_.next(bytes);
    if (!piece) return piece.error();
    if (only.empty()) {
      only = *piece;
    } else {
      if (body_.empty()) body_ = only;
      body_ += *piece;
    }
  }
  if (chunks_.done()) state_ = State::done;
  left_over_ = !bytes.empty();
  return body_.empty() ? only : std::string_view(body_);
}

Result<void> HttpReply::on_end() {
  if (state_ == State::done) return {};
  if (state_ == State::body && parsed_.framing == Framing::until_close) {
    state_ = State::done;
    return {};
  }
  return Error{.kind = ErrorKind::upstream_garbled,
               .message = state_ == State::body
                              ? "peer closed connection without sending complete message body"
                              : "Server disconnected without sending a response."};
}

}  // namespace llm_proxy
