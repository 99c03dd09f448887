#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "python/py_context.h"
#include "python/py_lane.h"
#include "rings/native/native_plugin.h"

namespace llm_proxy {

// A plugin that was cancelled at its time limit has this long to end before the chain goes on
// without it.
constexpr std::chrono::milliseconds kGrace{100};
// Who computes for this much longer than its limit and the grace is interrupted.
constexpr std::chrono::milliseconds kMargin{500};
// What a busy interpreter may cost an exchange on top of its plugins' own limits: more than another
// exchange's plugin can compute, by default, before it is interrupted.
constexpr std::chrono::milliseconds kBusy{2000};

// What a larger body adds to the limit of each plugin: half a second for each MiB, in steps of
// powers of two, so that there are few different limits. Nothing below one MiB.
std::chrono::milliseconds allowance_for(std::size_t bytes);

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
  const char* lasting = nullptr;  // the same, for other threads
};

// Plugins that run as one job. Immutable.
struct PluginChain {
  std::vector<PluginEntry> entries;
  bool direct = true;  // every entry is
};

// Who had a chain started, and hears how it went. On the lane.
class ChainOwner {
 public:
  virtual ~ChainOwner() = default;
  // The chain has ended: `tag` is what it was made with, `stopped_by` is the entry that stopped it,
  // null if none did. `cancelled`: it did not get to its end and nobody waits for it. On the lane.
  virtual void on_chain_end(Lane& lane, std::uint32_t tag, PyObject* context,
                            const PluginEntry* stopped_by, bool cancelled) = 0;
  // The rest of the chain goes on in `successor`.
  virtual void on_chain_moved(PyRef successor) = 0;
  virtual void on_plugin_end(const PluginEntry& entry, float ms) = 0;
};

// For whom a chain runs: told apart by who owns it.
struct ChainRequest {
  std::shared_ptr<ChainOwner> owner;       // null: other Python code awaits the chain
  std::uint32_t tag = 0;                   // for the owner
  RunOrigin origin;                        // whom a failure is put down to
  std::chrono::milliseconds allowance{0};  // on top of each plugin's limit
};

// A coroutine that runs `chain` on `context` from its entry `from` on. Null with a Python error set
// on failure.
PyOwned make_chain(std::shared_ptr<Lane> lane, std::shared_ptr<const RingHandlers> handlers,
                   std::shared_ptr<const PluginChain> chain, PyOwned context, ChainRequest request,
                   std::size_t from);
// Runs a direct chain, whose plugins cannot suspend, to its end.
void run_chain(PyObject* coroutine, PyObject* context);
// The exchange no longer waits.
void cancel_chain(PyObject* coroutine);

// Registers the C type of this file. Once. False with a Python error set on failure.
bool init_chain_types();

}  // namespace llm_proxy
