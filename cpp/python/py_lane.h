#pragma once

#include "python/py_ref.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/callback.h"
#include "base/worker_post.h"

namespace llm_proxy {

class Lane;

// One piece of work for the lane. Made on any thread, run once on the lane with the GIL held,
// destroyed anywhere: its members may be PyRefs, never PyOwned. It must not block. A Python error
// it leaves set is logged, not lost.
class LaneWork {
 public:
  virtual ~LaneWork() = default;
  virtual void run(Lane& lane) = 0;
};

// The half of the lane that any thread may touch: a mailbox with an eventfd for a bell.
//
// Shared by the lane and by everything that may outlive it. Its mutex is a leaf: held for a push or
// a swap only.
class LaneInbox {
 public:
  LaneInbox();
  ~LaneInbox();
  LaneInbox(const LaneInbox&) = delete;
  LaneInbox& operator=(const LaneInbox&) = delete;

  // Queues `work`. False, and `work` is destroyed, when the lane has closed. One bell per empty →
  // non-empty.
  bool submit(std::unique_ptr<LaneWork> work);
  // The same for a callable `void(Lane&)`.
  template <typename F>
  bool post(F work);

  // Queues a decref. After close the object is leaked: nobody is left who may touch it.
  void drop(PyObject* object) noexcept;

  bool closed();
  // How long the oldest work has waited for the lane, or the lane has been inside one drain. Zero:
  // neither.
  std::chrono::nanoseconds lag() const;
  // The plugin whose code runs on the lane now and has not given way: its name, which lives as long
  // as the process, and whether it is within its limit. Null name: none runs.
  struct Running {
    const char* name = nullptr;
    bool within_limit = false;
  };
  Running running() const;

 private:
  friend class Lane;

  void ring() noexcept;
  void answer() noexcept;
  static std::int64_t now();

  std::mutex mutex_;
  std::vector<std::unique_ptr<LaneWork>> work_;
  std::vector<PyObject*> dropped_;
  bool closed_ = false;
  const int bell_;
  std::atomic<std::int64_t> waiting_since_{0};
  std::atomic<std::int64_t> inside_since_{0};
  std::atomic<const char*> step_name_{nullptr};  // of the plugin whose code is running
  std::atomic<std::int64_t> step_until_{0};      // its limit: steady clock, ns; 0: none runs
};

// `name`, kept for as long as the process: what other threads may read at any time.
const char* lasting_name(const std::string& name);

// Something on the lane that has a time limit. Its owner disarms it before it dies (the destructor
// does).
class LaneDeadline {
 public:
  LaneDeadline() = default;
  LaneDeadline(const LaneDeadline&) = delete;
  LaneDeadline& operator=(const LaneDeadline&) = delete;
  // Inside a Scope. Disarmed before it is called.
  virtual void on_deadline() = 0;

 protected:
  virtual ~LaneDeadline();

 private:
  friend class Lane;
  Lane* armed_on_ = nullptr;
  std::multimap<std::int64_t, LaneDeadline*>::iterator place_;
};

// The one thread that runs Python: the asyncio loop's. Takes work from the inbox in batches, keeps
// the batch short so that the loop's own sockets keep running, and answers each worker with one
// post per batch.
//
// Owned by the hosting Python object; every function here is called on the loop's thread with the
// GIL held.
//
//   open ─► closed        (close() before the loop closes; what is still queued is destroyed unrun)
class Lane : public std::enable_shared_from_this<Lane> {
 public:
  static constexpr int kJobsPerDrain = 256;
  static constexpr std::chrono::nanoseconds kDrainBudget = std::chrono::milliseconds(1);

  // Marks that C++ is running on the lane with the GIL held. Every entry from Python into C++ opens
  // one: drops of PyRefs are immediate inside, and the answers collected inside leave together when
  // the outermost ends.
  class Scope {
   public:
    explicit Scope(Lane& lane);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Lane& lane_;
    Lane* const outer_;
  };

  // Attaches to a running asyncio loop (asyncio's own or uvloop's). Null with a Python error set on
  // failure.
  static std::shared_ptr<Lane> attach(PyObject* loop);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  const std::shared_ptr<LaneInbox>& inbox() const { return inbox_; }
  PyObject* loop() const { return loop_.get(); }
  PyRef ref(PyOwned object) const { return PyRef(std::move(object), inbox_); }

  // Runs `answer` on `worker`, batched with the other answers of this turn. Inside a Scope.
  void reply(WorkerPost& worker, Callback<void()> answer);

  // Runs `work` inside a Scope when what the loop runs now has had its turn: what is said piece by
  // piece leaves together. At once when the lane has closed.
  void at_turn_end(Callback<void()> work);

  // The lane as somebody's worker: what is posted runs on the lane. For callers that live here
  // themselves.
  WorkerPost& as_worker() { return own_post_; }

  // Runs a coroutine as a real asyncio.Task whose first step runs now (EAGER). It is kept alive and
  // cancelled by close() until it ends; asyncio.all_tasks() does not list it, so that a plugin
  // which cancels all tasks it finds cancels no request. Null with a Python error set if no Task
  // could be made.
  PyOwned start_task(PyOwned coroutine);
  // The Task that is running; None outside of any. Null with an error set on failure.
  PyOwned current_task() const;
  // Tasks that suspended and have not ended.
  Py_ssize_t running_tasks() const;

  // Calls on_deadline() once `at` has passed: no earlier, later by at most a tick. Time in which
  // the loop was blocked does not count: what waits is not charged for what others compute. One
  // timer of the loop serves all deadlines, and none runs while none is armed.
  static constexpr std::chrono::milliseconds kTick{5};
  void arm(LaneDeadline& deadline, std::chrono::steady_clock::time_point at);
  void disarm(LaneDeadline& deadline);

  // While one lives, the code of a plugin runs on the lane and may be interrupted.
  class Step {
   public:
    // `name`: a lasting_name(). `since`: now, on the steady clock. `allowed`: how long it may run
    // without giving way.
    Step(Lane& lane, const char* name, std::chrono::steady_clock::time_point since,
         std::chrono::nanoseconds allowed);
    ~Step();
    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;
    // Ends it. True: it was interrupted; nothing of that is left to hit whoever runs next.
    bool end();

   private:
    Lane& lane_;
    const char* const outer_name_;
    const std::int64_t outer_until_;
    bool ended_ = false;
  };
  // Raises `exception` in the lane's thread if a plugin has been running for longer than it may
  // without giving way. The one function that another thread may call, with the GIL held.
  bool interrupt(PyObject* exception);

  // Detaches from the loop, cancels the tasks that still run and returns them (a new list) to be
  // awaited.
  PyOwned close();
  bool closed() const { return closed_; }

  struct Counters {
    std::uint64_t jobs = 0;
    std::uint64_t drains = 0;
    std::uint64_t posts = 0;      // answers' batches
    std::uint64_t tasks = 0;      // coroutines started as a Task
    std::uint64_t suspended = 0;  // of these, the ones that did not end in their first step
  };
  const Counters& counters() const { return counters_; }

 private:
  Lane() = default;
  bool init(PyObject* loop);
  void drain();
  void flush();
  void bury();
  PyOwned shadowed_start(PyObject* coroutine);

  static PyObject* on_bell(PyObject* self, PyObject*);
  static PyObject* on_call_soon(PyObject* self, PyObject* const* args, Py_ssize_t count,
                                PyObject* names);
  static PyObject* on_tick(PyObject* self, PyObject*);
  void tick();
  static PyObject* on_turn_end(PyObject* self, PyObject*);
  void end_turn();
  void start_ticker();

  struct OwnPost final : WorkerPost {
    explicit OwnPost(LaneInbox& box) : inbox(box) {}
    void post(Callback<void()> work) override;
    LaneInbox& inbox;
  };

  std::shared_ptr<LaneInbox> inbox_ = std::make_shared<LaneInbox>();
  OwnPost own_post_{*inbox_};
  PyOwned loop_;
  PyOwned self_;  // a capsule of this lane, the `self` of its Python callables
  PyOwned bell_function_;
  PyOwned tick_function_;
  PyOwned turn_end_function_;
  PyOwned call_soon_name_;
  PyOwned catch_function_;  // stands in for loop.call_soon while an eager Task is made (3.10, 3.11)
  PyOwned task_type_;
  PyOwned task_keywords_;  // ("loop", "name"[, "eager_start"])
  PyOwned task_name_;
  PyOwned current_task_;  // asyncio.current_task
  PyOwned tasks_;         // set of suspended tasks
  PyOwned forget_;        // tasks_.discard
  PyOwned hide_;          // asyncio._unregister_task
  PyOwned done_name_, add_done_callback_name_, cancel_name_;
  bool native_eager_ = false;
  bool closed_ = false;
  PyOwned caught_step_, caught_context_;
  std::deque<std::unique_ptr<LaneWork>> batch_;
  std::vector<std::unique_ptr<LaneWork>> fetched_;
  std::vector<std::pair<WorkerPost*, std::vector<Callback<void()>>>> answers_;
  std::vector<Callback<void()>> turn_end_;
  std::vector<Callback<void()>> ending_;
  std::multimap<std::int64_t, LaneDeadline*> deadlines_;
  unsigned long thread_ = 0;
  bool interrupted_ = false;
  bool ticking_ = false;
  std::int64_t next_tick_ = 0;  // when the ticker is due
  std::int64_t blocked_ = 0;    // by how much it has come too late, in all: deadlines_ leave it out
  Counters counters_;
};

template <typename F>
bool LaneInbox::post(F work) {
  struct Call final : LaneWork {
    explicit Call(F f) : function(std::move(f)) {}
    void run(Lane& lane) override { function(lane); }
    F function;
  };
  return submit(std::make_unique<Call>(std::move(work)));
}

}  // namespace llm_proxy
