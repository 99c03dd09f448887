#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/deadline_list.h"
#include "base/memory_budget.h"
#include "config/snapshot.h"
#include "hosting/admin_host.h"
#include "ledger/access_log.h"
#include "ledger/server_stats.h"
#include "net/byte_stream.h"
#include "net/turn_queue.h"
#include "net/upstream_pool.h"
#include "net/worker.h"
#include "routing/session_store.h"
#include "stores/response_store.h"
#include "stores/seal_store.h"
#include "upstream/hosted_keys.h"
#include "upstream/model_cache.h"
#include "upstream/model_lister.h"

namespace llm_proxy {

class ClientSession;

// The deadline lists of a snapshot's durations: looked up once, not per request.
struct DeadlineLists {
  DeadlineList* client_head = nullptr;
  DeadlineList* client_body = nullptr;
  DeadlineList* client_idle = nullptr;
  DeadlineList* client_write = nullptr;
  DeadlineList* first_byte = nullptr;
  DeadlineList* stream_idle = nullptr;
  DeadlineList* keep_alive = nullptr;
  DeadlineList* retry_tick = nullptr;  // a wait between attempts is looked at this often
};

// What one worker's sessions and exchanges share: its loop, its pool, its snapshot, its counters.
// No locks but the stores' own: everything else but the counters is touched on the worker
// only.
//
// Owned by the Server, which destroys it after the worker was joined.
class WorkerContext {
 public:
  WorkerContext(Worker& worker, std::shared_ptr<const UpstreamEnvironment> environment,
                std::shared_ptr<const Snapshot> snapshot, AccessLog& log, SealStore& seals,
                ResponseStore& responses, SessionStore& chats, ModelCache& models,
                MemoryBudget& memory, std::function<ServerStats()> stats,
                AdminHost* admin = nullptr);
  ~WorkerContext();
  WorkerContext(const WorkerContext&) = delete;
  WorkerContext& operator=(const WorkerContext&) = delete;

  Worker& worker() { return worker_; }
  UpstreamPool& pool() { return pool_; }
  // For work that would keep the others of this worker waiting.
  TurnQueue& slices() { return slices_; }
  AccessLog& log() { return log_; }
  SealStore& seals() { return seals_; }
  ResponseStore& responses() { return responses_; }
  SessionStore& chats() { return chats_; }
  ModelCache& models() { return models_; }
  MemoryBudget& memory() { return memory_; }
  ModelLister& lister() { return lister_; }
  HostedKeys& hosted_keys() { return hosted_keys_; }
  // Of the whole server.
  ServerStats stats() const { return stats_(); }
  AdminHost* admin() { return admin_; }
  const std::shared_ptr<const Snapshot>& snapshot() const { return snapshot_; }
  const DeadlineLists& deadlines() const { return deadlines_; }

  void publish(std::shared_ptr<const Snapshot> snapshot);

  void accept(StreamPtr stream, bool anthropic = false);
  // The session has closed; it is destroyed by a later handler, never under its own feet.
  void retire(ClientSession& session);
  // Keeps a finished object until a later handler: whoever ended it may still be on the stack. Not
  // for long, whatever comes: it may be the last that holds a generation of plugins.
  void bury(std::shared_ptr<void> finished);
  void sweep() { graveyard_.clear(); }

  // Calls session.on_turn_end() behind everything that is ready now. Streams are written then: a
  // client is woken once for what came meanwhile, and all clients back to back.
  void flush_at_turn_end(ClientSession& session);

  // Lets sessions end; `on_empty` runs once when none is left.
  void drain(Callback<void()> on_empty);
  // Cuts every connection now.
  void cut_all();
  // Ends every exchange with an error after `deadline`, and cuts what is left soon after.
  void stop_after(std::chrono::milliseconds deadline);
  bool draining() const { return draining_; }

  // 32 hex digits: 128 bits of the system's cryptographic generator, which nobody can guess.
  std::string next_request_id();

  struct Counters {
    std::atomic<std::uint64_t> requests{0};
    std::atomic<std::uint64_t> active{0};
    std::atomic<std::uint64_t> connections{0};
    std::atomic<std::uint64_t> decoding{0};  // request bodies whose coding is being taken off
    std::atomic<std::uint64_t> slices{0};    // of such bodies, since the start
  };
  Counters& counters() { return counters_; }

 private:
  void check_empty();
  void end_turn();
  void on_drain_deadline();

  Worker& worker_;
  UpstreamPool pool_;
  TurnQueue slices_;
  std::shared_ptr<const Snapshot> snapshot_;
  AccessLog& log_;
  SealStore& seals_;
  ResponseStore& responses_;
  SessionStore& chats_;
  ModelCache& models_;
  MemoryBudget& memory_;
  std::function<ServerStats()> stats_;
  AdminHost* admin_;
  HostedKeys hosted_keys_;
  DeadlineLists deadlines_;
  std::list<std::shared_ptr<ClientSession>> sessions_;
  std::vector<std::shared_ptr<void>> graveyard_;
  std::vector<std::weak_ptr<ClientSession>> to_flush_;
  std::vector<std::weak_ptr<ClientSession>> flushing_;
  Callback<void()> on_empty_;
  Deadline drain_deadline_;
  Deadline sweep_;
  bool draining_ = false;
  bool stopping_ = false;                   // the exchanges that were left have been told to end
  std::array<unsigned char, 1024> random_;  // not yet used: from random_at_ on
  std::size_t random_at_ = random_.size();
  Counters counters_;
  ModelLister lister_;
};

}  // namespace llm_proxy
