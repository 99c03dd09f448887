#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "base/deadline_list.h"
#include "config/snapshot.h"
#include "hosting/backend_host.h"
#include "upstream/model_cache.h"

namespace llm_proxy {

class WorkerContext;

// Answers "which models are there" without ever waiting long for a provider: from what is known,
// while what is old is asked for in the background. Only who asks first waits for the first
// answers, and no longer than kPatience.
//
// Owned by a worker's context; lives on that worker. What it learns goes to the server's
// ModelCache.
class ModelLister {
 public:
  using Done = std::function<void(const std::vector<HostedModels>&)>;

  static constexpr std::chrono::milliseconds kPatience{2000};
  static constexpr std::chrono::milliseconds kTick{50};  // another worker may have heard meanwhile

  ModelLister(WorkerContext& context, ModelCache& cache);
  ~ModelLister();
  ModelLister(const ModelLister&) = delete;
  ModelLister& operator=(const ModelLister&) = delete;

  // Whether enough is known to route by: somebody has asked under this snapshot, and has been
  // answered. What is old is asked for in the background.
  bool knows(const std::shared_ptr<const Snapshot>& snapshot);
  // Calls `done` once, now or later.
  void list(const std::shared_ptr<const Snapshot>& snapshot, Done done);
  // Asks nobody any more; who still waits is answered by what is known.
  void close();

 private:
  class Fetch;
  struct Waiting;

  void ask_hosts(const Snapshot& snapshot, const std::shared_ptr<Waiting>& waiting);
  void on_fetched(Fetch& fetch);
  void settle_ready();
  void on_tick(Waiting& waiting);
  void settle(Waiting& waiting);

  WorkerContext& context_;
  ModelCache& cache_;
  std::list<std::shared_ptr<Fetch>> fetches_;
  std::list<std::shared_ptr<Waiting>> waiting_;
  std::weak_ptr<const Snapshot> known_for_;  // under it somebody was answered
  TimePoint look_again_{};                   // at how old what we route by is
};

}  // namespace llm_proxy
