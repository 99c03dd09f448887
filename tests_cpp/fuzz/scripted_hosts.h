#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "hosting/backend_host.h"
#include "rings/ring_host.h"

// Ring plugins and Python backends that do what a fuzz target says: the engine's side of the seam
// to Python, without Python. Everything lives on the one worker and is called there.
namespace llm_proxy::fuzz {

class ScriptedRings;

// One exchange's rings. Its verdict comes when the script gives it, or at once.
class ScriptedRingSession final : public RingSession {
 public:
  explicit ScriptedRingSession(std::function<bool(RingVerdict&)> at_once)
      : at_once_(std::move(at_once)) {}

  Result<void> check_request() override { return {}; }
  void run_request(Done done) override { wait(std::move(done)); }
  void run_chunk(std::string, Done done) override { wait(std::move(done)); }
  void run_reply(RingReply, Done done) override { wait(std::move(done)); }
  void run_background(RingOutcome) override {}
  std::chrono::milliseconds patience(Ring, std::size_t) const override {
    return std::chrono::seconds(5);
  }
  bool is_busy() const override { return false; }
  RingVerdict overdue(Ring) override {
    done_ = nullptr;
    RingVerdict verdict;
    verdict.kind = RingVerdict::Kind::block;
    verdict.status = 503;
    return verdict;
  }
  void cancel() override {
    cancelled_ = true;
    done_ = nullptr;
  }

  void settle(RingVerdict verdict) {
    if (auto done = std::exchange(done_, nullptr)) done(std::move(verdict));
  }

 private:
  void wait(Done done) {
    if (cancelled_) return;
    RingVerdict verdict;
    if (at_once_(verdict)) return done(std::move(verdict));
    done_ = std::move(done);
  }

  const std::function<bool(RingVerdict&)> at_once_;
  Done done_;
  bool cancelled_ = false;
};

class ScriptedRings final : public RingHost {
 public:
  ScriptedRings(RingSet rings, StreamRules rules, std::function<bool(RingVerdict&)> at_once,
                std::vector<std::shared_ptr<ScriptedRingSession>>& opened)
      : RingHost(rings, rules), at_once_(std::move(at_once)), opened_(opened) {}

  std::shared_ptr<RingSession> open(RingRequest, WorkerPost&) override {
    return opened_.emplace_back(std::make_shared<ScriptedRingSession>(at_once_));
  }

 private:
  const std::function<bool(RingVerdict&)> at_once_;
  std::vector<std::shared_ptr<ScriptedRingSession>>& opened_;
};

// One call of a Python backend, in the order its contract gives: head, data, an end.
class ScriptedCall final : public HostedCall {
 public:
  explicit ScriptedCall(std::shared_ptr<HostedSink> sink) : sink_(std::move(sink)) {}

  void cancel() override { sink_ = nullptr; }
  void consumed(std::size_t) override {}

  void head(bool streaming, int status) {
    if (!sink_ || std::exchange(begun_, true)) return;
    HostedHead head;
    head.status = status;
    head.streaming = streaming;
    std::shared_ptr(sink_)->on_head(std::move(head));
  }
  void data(std::string bytes) {
    if (sink_ && begun_) std::shared_ptr(sink_)->on_data(std::move(bytes));
  }
  void end() {
    if (begun_) {
      if (const auto sink = std::exchange(sink_, nullptr)) sink->on_end();
    }
  }
  void fail() {
    if (const auto sink = std::exchange(sink_, nullptr)) {
      sink->on_error({ErrorKind::upstream_cut, "the script says so"});
    }
  }

 private:
  std::shared_ptr<HostedSink> sink_;
  bool begun_ = false;
};

class ScriptedBackends final : public BackendHost {
 public:
  std::shared_ptr<HostedCall> call(HostedRequest, std::shared_ptr<HostedSink> sink,
                                   WorkerPost&) override {
    return calls.emplace_back(std::make_shared<ScriptedCall>(std::move(sink)));
  }
  void models(WorkerPost& worker, std::function<void(std::vector<HostedModels>)> done) override {
    worker.post([done = std::move(done)] { done({}); });
  }
  void key(std::string, std::string, WorkerPost&,
           std::function<void(const Result<HostedKey>&)> done) override {
    keys.push_back(std::move(done));
  }

  std::vector<std::shared_ptr<ScriptedCall>> calls;
  std::vector<std::function<void(const Result<HostedKey>&)>> keys;
};

}  // namespace llm_proxy::fuzz
