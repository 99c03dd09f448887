#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace llm_proxy {

// The head of an upstream's reply, without what belongs to its connection.
struct UpstreamHead {
  int status = 200;
  bool event_stream = false;  // text/event-stream
  std::string content_type;
  // The end-to-end header lines as they came ("name: value\r\n"…), to be passed on where client and
  // upstream speak the same format. Connection, framing, cookie and CORS fields are left out.
  std::string fields;
  std::optional<std::chrono::milliseconds> retry_after;
};

// Receives one upstream's reply as it arrives. Implemented by the relays; outlives the call it is
// given to.
//
//   on_head ( on_bytes* on_turn )* (on_end | on_failure)      or      on_failure
//
// `on_turn` ends the bytes of one read: the sink writes them and says whether to read on at once;
// if not, it calls UpstreamCall::resume() when the client has taken them. That is all the
// back-pressure there is.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  virtual void on_head(UpstreamHead head) = 0;
  virtual void on_bytes(std::string_view payload) = 0;
  virtual bool on_turn() = 0;
  // The client has seen the beginning of this reply, and the rest comes in events.
  virtual bool streaming() const { return false; }
  virtual void on_end() = 0;
  // Connect, timeout, garbled framing, cut body. Nothing follows.
  virtual void on_failure(Error error) = 0;
};

// One request to one upstream, under way. Owned by its exchange; lives on the exchange's worker.
class UpstreamCall {
 public:
  virtual ~UpstreamCall() = default;
  virtual void resume() = 0;
  // Closes the upstream at once; the sink hears nothing more. Idempotent.
  virtual void cancel() = 0;
};

}  // namespace llm_proxy
