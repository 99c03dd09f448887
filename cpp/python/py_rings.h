#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "python/py_chain.h"

namespace llm_proxy {

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
  std::chrono::milliseconds patience(Phase phase, std::size_t bytes) const;

 private:
  std::shared_ptr<LaneInbox> inbox_;
  std::shared_ptr<const RingHandlers> handlers_;
  std::array<PluginChain, 4> chains_;
  std::array<std::chrono::milliseconds, 4> patience_;
  PyRef retired_;
  const std::shared_ptr<NativeServices> services_;
};

// Registers the C types of contexts and chains. Once, before anything else here. False with a
// Python error set on failure.
bool init_ring_types();

// The host inside its Python object (`_core.RingHost`); null with a Python error set if it is none.
PyRingHost* ring_host_of(PyObject* object);

// A coroutine that runs `chain` on `context`, for Python code that drives a ring itself.
PyOwned chain_coroutine(Lane& lane, std::shared_ptr<const RingHandlers> handlers,
                        std::shared_ptr<const PluginChain> chain, PyObject* context);

}  // namespace llm_proxy
