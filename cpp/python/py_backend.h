#pragma once

#include "python/py_ref.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hosting/backend_host.h"
#include "python/py_lane.h"

namespace llm_proxy {

// One call to a Python backend: what the exchange's handle, the work on the lane and the reply's
// Python object share. Outlives whichever of them goes first.
//
//   running ─► settled        (end, error or cancel; the sink is let go on its worker)
class PyBackendCall : public std::enable_shared_from_this<PyBackendCall> {
 public:
  PyBackendCall(std::shared_ptr<HostedSink> sink, WorkerPost& worker,
                std::shared_ptr<LaneInbox> inbox)
      : sink_(std::move(sink)), worker_(worker), inbox_(std::move(inbox)) {}

  // Worker: the exchange's half.
  void cancel();
  void consumed(std::size_t bytes);

  // Lane: the backend's half. What is said in one turn of the loop is delivered by one hop, in
  // order.
  bool wanted() const { return !cancelled_.load(std::memory_order_relaxed); }
  void runs_as(PyRef running) { running_ = std::move(running); }
  void head(Lane& lane, HostedHead head);
  bool data(Lane& lane, std::string_view bytes);  // true: wait for resume
  void end(Lane& lane) { finish(lane, std::nullopt); }
  void error(Lane& lane, Error error) { finish(lane, std::move(error)); }
  // Nobody will say how it ended: says so. Any thread; nothing when it has settled.
  void abandon();

 private:
  // What the backend has said and the worker has not heard.
  struct Said {
    std::optional<HostedHead> head;
    std::string bytes;
    bool ended = false;
    std::optional<Error> error;
  };

  void finish(Lane& lane, std::optional<Error> error);
  template <typename Fill>
  void say(Lane& lane, Fill fill);
  void hear(Said said);
  void settle_with(Error error);

  std::shared_ptr<HostedSink> sink_;  // worker only; empty once settled
  WorkerPost& worker_;
  const std::shared_ptr<LaneInbox> inbox_;
  std::optional<Said> said_;  // lane only
  PyRef running_;             // lane only: the Running of llm_proxy.backends.runtime.bridge
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> told_{false};  // an end or an error is under way to the worker
  std::atomic<std::size_t> unread_{0};
  std::atomic<bool> waiting_{false};
};

// The Python backends of a process, as exchanges see them.
//
// Made on the lane; used from every worker until the server has stopped.
class PyBackendHost : public BackendHost {
 public:
  // `start`, `list_models` and `key` are the bound methods of the BackendBridge.
  PyBackendHost(std::shared_ptr<LaneInbox> inbox, PyRef start, PyRef list_models, PyRef key);

  std::shared_ptr<HostedCall> call(HostedRequest request, std::shared_ptr<HostedSink> sink,
                                   WorkerPost& worker) override;
  void models(WorkerPost& worker, std::function<void(std::vector<HostedModels>)> done) override;
  void key(std::string instance, std::string refused, WorkerPost& worker,
           std::function<void(const Result<HostedKey>&)> done) override;

 private:
  const std::shared_ptr<LaneInbox> inbox_;
  const std::shared_ptr<const PyRef> start_;
  const std::shared_ptr<const PyRef> list_models_;
  const std::shared_ptr<const PyRef> key_;
};

}  // namespace llm_proxy
