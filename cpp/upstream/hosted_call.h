#pragma once

#include <memory>

#include "base/bounded_buffer.h"
#include "base/deadline_list.h"
#include "hosting/backend_host.h"
#include "model/reply_meter.h"
#include "server/worker_context.h"
#include "upstream/upstream_call.h"

namespace llm_proxy {

// Makes a hosted (Python) backend look like any other upstream: its JSON body or chat frames arrive
// at a ReplySink.
//
// Owned by its exchange, lives on its worker. What the sink is slow to take is queued here; the
// host's pump waits beyond the high watermark, and a backend that gives kMaxReply bytes all the
// same fails. One that is silent for too long is given up, unless it is the client that makes it
// wait.
class HostedUpstream final : public UpstreamCall,
                             public HostedSink,
                             public std::enable_shared_from_this<HostedUpstream> {
 public:
  HostedUpstream(WorkerContext& context, ReplySink& sink);
  void start(BackendHost& host, HostedRequest request);

  void resume() override;
  void cancel() override;

  void on_head(HostedHead head) override;
  void on_data(std::string bytes) override;
  void on_end() override;
  void on_error(Error error) override;

 private:
  enum class Ending { none, well, badly };
  void deliver();
  void await_bytes();
  void on_silence();
  void give_up(Error error);

  WorkerContext& context_;
  ReplySink* sink_;  // null once cancelled or ended
  std::shared_ptr<HostedCall> call_;
  std::string instance_;
  BoundedBuffer queued_{kMaxReply};
  bool begun_ = false;    // its head has come
  bool waiting_ = false;  // for resume()
  Ending ending_ = Ending::none;
  Error error_;
  Deadline silence_;
};

}  // namespace llm_proxy
