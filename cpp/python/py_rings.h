#pragma once

#include "python/py_lane.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "plugin/native/native_plugin.h"
#include "plugin/ring_host.h"

namespace llm_proxy {

// Numbers of one plugin, kept across generations by whoever publishes them.
struct PluginNumbers {
  std::uint64_t invocations = 0;
  std::uint64_t errors = 0;
  std::uint64_t blocks = 0;
  std::uint64_t timeouts = 0;
  std::uint64_t left_behind = 0;  // timed out and did not even stop when cancelled
  double total_latency_ms = 0;
  std::uint32_t consecutive_errors = 0;
  std::int64_t quarantined_until = 0;  // steady clock, ns; 0: not
  std::vector<float> latencies_ms;     // a ring buffer once full
};

// Counts them: on the lane, and on the workers where the plugin is a native one. A leaf mutex.
class PluginRecord {
 public:
  static constexpr std::size_t kWindow = 500;  // latencies kept for percentiles
  static constexpr std::uint32_t kQuarantineAfter = 10;
  static constexpr std::chrono::seconds kQuarantine{60};

  void ended(double latency_ms, bool failed);
  void blocked() { count(&PluginNumbers::blocks); }
  void timed_out() { count(&PluginNumbers::timeouts); }
  void left_behind() { count(&PluginNumbers::left_behind); }
  // Failed too often and rests. A rest that is over is forgotten.
  bool rests(std::chrono::steady_clock::time_point now);
  PluginNumbers numbers() const;

 private:
  void count(std::uint64_t PluginNumbers::*what) {
    const std::lock_guard lock(mutex_);
    ++(numbers_.*what);
  }

  mutable std::mutex mutex_;
  PluginNumbers numbers_;
};

// What the plugins of one exchange took.
struct RingTrace {
  struct Step {
    Ring ring;
    std::shared_ptr<const std::string> plugin;
    float ms;
  };

  std::string request_id;
  double arrived_at = 0;    // Unix seconds
  std::vector<Step> steps;  // guarded by the RingTimes that know it
  // Known when the exchange has ended, on its worker; negative: not yet, or there was none.
  std::atomic<float> total_ms{-1}, upstream_ms{-1}, first_token_ms{-1};
};

// The last exchanges' traces, and the last times of each ring. Any thread: a leaf mutex.
class RingTimes {
 public:
  static constexpr std::size_t kTraces = 100;
  static constexpr std::size_t kWindow = 500;

  void began(std::shared_ptr<RingTrace> trace);
  // A chain has ended: its steps are added to its trace.
  void took(RingTrace& trace, std::vector<RingTrace::Step> steps);

  struct Shown {
    std::shared_ptr<const RingTrace> trace;
    std::vector<RingTrace::Step> steps;
  };
  std::vector<Shown> traces() const;  // oldest first
  std::vector<float> window(Ring ring) const;

 private:
  mutable std::mutex mutex_;
  std::deque<std::shared_ptr<RingTrace>> traces_;
  std::array<std::deque<float>, kRings.size()> windows_;
};

// One plugin in a chain: what to call, how, and what its failure means.
struct PluginEntry {
  Ring ring = Ring::ingress;
  PyRef call;   // execute(ctx) -> coroutine
  PyRef facts;  // the Python entry the handlers are given: name, ring, fail policy
  std::chrono::milliseconds timeout{500};
  bool fail_closed = false;
  bool direct = false;                   // its coroutine cannot suspend: needs no Task
  StreamRules stream;                    // what it does to streams, in the reply ring
  bool hears = false;                    // called with each piece of a stream, not with the reply
  const NativePlugin* native = nullptr;  // does the same without Python
  std::shared_ptr<PluginRecord> record;
  std::shared_ptr<const std::string> name;
};

// Plugins that run as one job. Immutable.
struct PluginChain {
  std::vector<PluginEntry> entries;
  bool direct = true;  // every entry is
};

// The Python side of the contract, made once per lane from llm_proxy.plugins.engine. C++ runs the
// plugins and handles what nearly always happens; everything rarer is a call of one of these.
struct RingHandlers {
  PyRef context_type;  // PluginContext
  PyRef state;         // the PluginState shared by all contexts
  PyRef fill;          // (name, facts) -> value of a lazy field of the context
  PyRef adopt;         // (ctx, notes, placeholders): what native plugins have left to a context
  PyRef begin;   // (ctx, "chunk" | "reply" | "background", facts): what the context learns before
                 // that ring
  PyRef settle;  // (ctx, entry, result) -> None | "error" | "block"; not called for a plain
                 // passthrough
  PyRef failed;  // (ctx, entry, exception)
  PyRef timed_out;    // (ctx, entry)
  PyRef quarantined;  // (ctx, entry), fail-closed entries only
  PyRef stopped;  // (ctx, entry) -> bool; stop_chain is set. True: the chain ends. False: only this
                  // ring does
  PyRef verdict;  // (ctx, entry) -> (kind, status, type, message, headers, body) of a chain that
                  // ended so
  std::shared_ptr<RingTimes> times = std::make_shared<RingTimes>();
  PyRef reply_change;  // (ctx) -> None | (status, headers, body)
  PyRef unsendable;    // (ctx, exception): what keeps the body they left from being JSON
};

// One generation of Python plugins.
//
// Made on the lane, published to the server, dropped by the last exchange that uses it on any
// thread; then `retired` is called on the lane (on_unload of the instances).
class PyRingHost final : public RingHost, public std::enable_shared_from_this<PyRingHost> {
 public:
  // `services` may be null: then nothing is native.
  PyRingHost(std::shared_ptr<LaneInbox> inbox, std::shared_ptr<const RingHandlers> handlers,
             std::vector<PluginEntry> entries, PyRef retired,
             std::shared_ptr<NativeServices> services);
  ~PyRingHost() override;

  std::shared_ptr<RingSession> open(RingRequest request, WorkerPost& worker) override;

  enum class Phase : std::uint8_t { request, chunk, reply, background };
  static Phase phase_of(Ring ring);
  const PluginChain& chain(Phase phase) const { return chains_[static_cast<std::size_t>(phase)]; }
  const RingHandlers& handlers() const { return *handlers_; }
  const std::shared_ptr<LaneInbox>& inbox() const { return inbox_; }
  NativeServices* services() const { return services_.get(); }
  // What a stuck chain means for the exchange.
  RingVerdict overdue(Phase phase) const;
  std::chrono::milliseconds patience(Phase phase) const;

 private:
  std::shared_ptr<LaneInbox> inbox_;
  std::shared_ptr<const RingHandlers> handlers_;
  std::array<PluginChain, 4> chains_;
  PyRef retired_;
  const std::shared_ptr<NativeServices> services_;
};

// Registers the C types of this file. Once, before anything else here. False with a Python error
// set on failure.
bool init_ring_types();
// Where the hot fields of PluginContext live. Once, with the class. False with a Python error set
// on failure.
bool learn_context_type(PyObject* context_type);

// The host inside its Python object (`_core.RingHost`); null with a Python error set if it is none.
PyRingHost* ring_host_of(PyObject* object);

// A coroutine that runs `chain` on `context`, for Python code that drives a ring itself.
PyOwned chain_coroutine(Lane& lane, std::shared_ptr<const RingHandlers> handlers,
                        std::shared_ptr<const PluginChain> chain, PyObject* context);

}  // namespace llm_proxy
