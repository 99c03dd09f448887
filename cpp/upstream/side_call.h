#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/bounded_buffer.h"
#include "upstream/http_call.h"
#include "upstream/upstream_call.h"

namespace llm_proxy {

// A question to an upstream beside the exchange's own: about a stored response, or for a count.
// Asked once; how it goes costs no key and no breaker anything.
//
// Owned by its exchange; lives on its worker. `done` is called once, unless cancelled before, and
// never from within start(). An answer longer than kMaxBody is none.
//
//   created ─► asking ─► answered | failed (status 0) | cancelled
class SideCall final : public ReplySink, public std::enable_shared_from_this<SideCall> {
 public:
  static constexpr std::size_t kMaxBody = 64u << 20;

  struct Answer {
    int status = 0;  // 0: none came
    std::string body;

    bool ok() const { return status >= 200 && status < 300; }
  };
  using Done = std::function<void(Answer)>;

  // `request.body` is replaced by `body`.
  SideCall(WorkerContext& context, UpstreamRequest request, std::string body, Done done);

  void start() { call_.start(); }
  void cancel() {
    call_.cancel();
    done_ = nullptr;
  }

 private:
  void on_head(UpstreamHead head) override { status_ = head.status; }
  void on_bytes(std::string_view payload) override;
  bool on_turn() override { return true; }
  void on_end() override;
  void on_failure(Error error) override;
  void tell(Answer answer);

  WorkerContext& context_;
  std::string body_;
  Done done_;
  int status_ = 0;
  BoundedBuffer answer_{kMaxBody};
  HttpCall call_;
};

}  // namespace llm_proxy
