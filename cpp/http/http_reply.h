#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bounded_buffer.h"
#include "base/result.h"
#include "http/chunked_decoder.h"
#include "http/head.h"

namespace llm_proxy {

// One HTTP/1.1 reply as its bytes arrive.
//
// Owned by a connection of llm_proxy.backends.runtime.http_transport; lives on the lane. Holds the
// head, and nothing of the body.
//
//   head ─► body ─► done      (after an Error: of no further use)
class HttpReply {
 public:
  static constexpr int kMaxInterim = 16;  // replies of 100 to 199 before the one that counts

  explicit HttpReply(bool to_head_request) : to_head_request_(to_head_request) {}
  HttpReply(const HttpReply&) = delete;
  HttpReply& operator=(const HttpReply&) = delete;

  // What of the body is in `bytes`: a view that holds until the next call, or until `bytes` goes.
  Result<std::string_view> feed(std::string_view bytes);
  // The connection has ended. An Error unless that is how this reply ends.
  Result<void> on_end();

  // Null until it is complete.
  const ReplyHead* head() const { return state_ == State::head ? nullptr : &parsed_; }
  bool done() const { return state_ == State::done; }
  // The connection may carry another exchange: all was read, and nothing came after it.
  bool reusable() const { return done() && parsed_.keep_alive && !left_over_; }

 private:
  enum class State : std::uint8_t { head, body, done };

  Result<std::string_view> on_head_bytes(std::string_view bytes);
  Result<std::string_view> on_body_bytes(std::string_view bytes);
  Result<std::string_view> on_chunks(std::string_view bytes);

  const bool to_head_request_;
  State state_ = State::head;
  // As it came, with what came with it; `parsed_` looks into it.
  BoundedBuffer head_{HeadLimits{}.bytes + (64u << 10)};
  ReplyHead parsed_;
  int interim_ = 0;
  std::uint64_t left_ = 0;  // of a body with a length
  ChunkedDecoder chunks_{ErrorKind::upstream_garbled};
  std::string body_, early_;  // no more than one feed() gave
  bool left_over_ = false;
};

}  // namespace llm_proxy
