#include "python/py_lane.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <stdexcept>

namespace llm_proxy {
namespace {

constexpr const char* kCapsuleName = "llm_proxy.Lane";

// The lane whose Scope is open on this thread.
thread_local Lane* lane_here = nullptr;

Lane* lane_of(PyObject* capsule) {
  return static_cast<Lane*>(PyCapsule_GetPointer(capsule, kCapsuleName));
}

PyOwned import_attribute(const char* module, const char* attribute) {
  const PyOwned imported = PyOwned::steal(PyImport_ImportModule(module));
  return imported ? PyOwned::steal(PyObject_GetAttrString(imported.get(), attribute)) : PyOwned();
}

}  // namespace

void PyRef::drop() noexcept {
  if (object_ == nullptr) return;
  if (lane_here != nullptr) {
    Py_DECREF(object_);
  } else {
    inbox_->drop(object_);
  }
  object_ = nullptr;
  inbox_.reset();
}

// ---- inbox

LaneInbox::LaneInbox() : bell_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (bell_ < 0) throw std::runtime_error("no file descriptor left for the lane's eventfd");
}

LaneInbox::~LaneInbox() {
  ::close(bell_);
}

std::int64_t LaneInbox::now() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

bool LaneInbox::submit(std::unique_ptr<LaneWork> work) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    first = work_.empty();
    work_.push_back(std::move(work));
  }
  if (first) {
    waiting_since_.store(now(), std::memory_order_relaxed);
    ring();
  }
  return true;
}

void LaneInbox::drop(PyObject* object) noexcept {
  const std::lock_guard lock(mutex_);
  if (!closed_) dropped_.push_back(object);  // rides along with the next batch of work
}

bool LaneInbox::closed() {
  const std::lock_guard lock(mutex_);
  return closed_;
}

std::chrono::nanoseconds LaneInbox::lag() const {
  std::int64_t since = inside_since_.load(std::memory_order_relaxed);
  if (since == 0) since = waiting_since_.load(std::memory_order_relaxed);
  return std::chrono::nanoseconds(since == 0 ? 0 : std::max<std::int64_t>(0, now() - since));
}

LaneInbox::Running LaneInbox::running() const {
  const std::int64_t until = step_until_.load(std::memory_order_relaxed);
  if (until == 0) return {};
  return {step_name_.load(std::memory_order_relaxed), now() < until};
}

const char* lasting_name(const std::string& name) {
  static std::mutex mutex;
  static auto& names = *new std::set<std::string>();  // never destroyed: read until the very end
  const std::lock_guard lock(mutex);
  return names.insert(name).first->c_str();
}

void LaneInbox::ring() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written =
      ::write(bell_, &one, sizeof one);  // full means: rung already
}

void LaneInbox::answer() noexcept {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(bell_, &count, sizeof count);
}

// ---- scope

Lane::Scope::Scope(Lane& lane) : lane_(lane), outer_(lane_here) {
  lane_here = &lane;
}

Lane::Scope::~Scope() {
  if (outer_ != &lane_) lane_.flush();
  lane_here = outer_;
}

// ---- lane

void Lane::OwnPost::post(Callback<void()> work) {
  inbox.post([held = std::move(work)](Lane&) mutable { held(); });
}

std::shared_ptr<Lane> Lane::attach(PyObject* loop) {
  std::shared_ptr<Lane> lane(new Lane);
  if (!lane->init(loop)) return nullptr;
  return lane;
}

bool Lane::init(PyObject* loop) {
  static PyMethodDef bell{"on_bell", on_bell, METH_NOARGS, nullptr};
  static PyMethodDef tick{"on_tick", on_tick, METH_NOARGS, nullptr};
  static PyMethodDef turn_end{"on_turn_end", on_turn_end, METH_NOARGS, nullptr};
  static PyMethodDef catch_step{
      "call_soon", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(on_call_soon)),
      METH_FASTCALL | METH_KEYWORDS, nullptr};

  thread_ = PyThread_get_thread_ident();
  loop_ = PyOwned::share(loop);
  self_ = PyOwned::steal(PyCapsule_New(this, kCapsuleName, nullptr));
  if (!self_) return false;
  bell_function_ = PyOwned::steal(PyCFunction_New(&bell, self_.get()));
  tick_function_ = PyOwned::steal(PyCFunction_New(&tick, self_.get()));
  turn_end_function_ = PyOwned::steal(PyCFunction_New(&turn_end, self_.get()));
  catch_function_ = PyOwned::steal(PyCFunction_New(&catch_step, self_.get()));
  call_soon_name_ = PyOwned::steal(PyUnicode_InternFromString("call_soon"));
  done_name_ = PyOwned::steal(PyUnicode_InternFromString("done"));
  cancel_name_ = PyOwned::steal(PyUnicode_InternFromString("cancel"));
  add_done_callback_name_ = PyOwned::steal(PyUnicode_InternFromString("add_done_callback"));
  task_type_ = import_attribute("asyncio", "Task");
  current_task_ = import_attribute("asyncio", "current_task");
  task_name_ = PyOwned::steal(PyUnicode_InternFromString("llm_proxy.lane"));
  hide_ = import_attribute("asyncio", "_unregister_task");
  tasks_ = PyOwned::steal(PySet_New(nullptr));
  if (!bell_function_ || !tick_function_ || !turn_end_function_ || !catch_function_ ||
      !task_type_ || !current_task_ || !hide_ || !tasks_)
    return false;
  forget_ = PyOwned::steal(PyObject_GetAttrString(tasks_.get(), "discard"));
  native_eager_ = PY_VERSION_HEX >= 0x030C0000;
  task_keywords_ =
      PyOwned::steal(native_eager_ ? Py_BuildValue("(sss)", "loop", "name", "eager_start")
                                   : Py_BuildValue("(ss)", "loop", "name"));
  if (!forget_ || !task_keywords_) return false;
  return static_cast<bool>(PyOwned::steal(
      PyObject_CallMethod(loop, "add_reader", "iO", inbox_->bell_, bell_function_.get())));
}

Lane::~Lane() {
  if (!closed_) close();
}

PyObject* Lane::on_bell(PyObject* self, PyObject*) {
  lane_of(self)->drain();
  Py_RETURN_NONE;
}

void Lane::drain() {
  if (closed_) return;
  const Scope scope(*this);
  ++counters_.drains;
  inbox_->answer();
  std::vector<PyObject*> dropped;
  {
    const std::lock_guard lock(inbox_->mutex_);
    fetched_.swap(inbox_->work_);
    dropped.swap(inbox_->dropped_);
  }
  inbox_->waiting_since_.store(0, std::memory_order_relaxed);
  const std::int64_t start = LaneInbox::now();
  inbox_->inside_since_.store(start, std::memory_order_relaxed);
  for (auto& work : fetched_) batch_.push_back(std::move(work));
  fetched_.clear();
  for (PyObject* object : dropped) Py_DECREF(object);

  for (int done = 0; !batch_.empty() && done < kJobsPerDrain; ++done) {
    if (done % 8 == 7 && LaneInbox::now() - start > kDrainBudget.count()) break;
    const std::unique_ptr<LaneWork> work = std::move(batch_.front());
    batch_.pop_front();
    ++counters_.jobs;
    try {
      work->run(*this);
    } catch (const std::exception& error) {  // nothing may unwind into the interpreter
      PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    if (PyErr_Occurred() != nullptr) PyErr_WriteUnraisable(bell_function_.get());
    if (closed_) return;
  }
  inbox_->inside_since_.store(0, std::memory_order_relaxed);
  if (!batch_.empty()) {
    inbox_->waiting_since_.store(LaneInbox::now(), std::memory_order_relaxed);
    inbox_->ring();
  }
}

void Lane::reply(WorkerPost& worker, Callback<void()> answer) {
  for (auto& [known, waiting] : answers_) {
    if (known == &worker) {
      waiting.push_back(std::move(answer));
      return;
    }
  }
  answers_.emplace_back(&worker, std::vector<Callback<void()>>{});
  answers_.back().second.push_back(std::move(answer));
}

void Lane::flush() {
  for (auto& [worker, waiting] : answers_) {
    ++counters_.posts;
    if (waiting.size() == 1) {
      worker->post(std::move(waiting.front()));
    } else {
      worker->post([all = std::move(waiting)]() mutable {
        for (auto& answer : all) answer();
      });
    }
  }
  answers_.clear();
}

// Eager Tasks before 3.12: a Task asks its loop to call its first step soon; for that one call the
// loop answers with a function of ours that keeps the step, and we call it at once.
PyObject* Lane::on_call_soon(PyObject* self, PyObject* const* args, Py_ssize_t count,
                             PyObject* names) {
  Lane* lane = lane_of(self);
  if (count >= 1) lane->caught_step_ = PyOwned::share(args[0]);
  if (names != nullptr && PyTuple_GET_SIZE(names) == 1) {
    lane->caught_context_ = PyOwned::share(args[count]);
  }
  Py_RETURN_NONE;
}

PyOwned Lane::shadowed_start(PyObject* coroutine) {
  // Inside another Task's step a second one cannot be entered; it starts with the loop's next turn.
  const PyOwned current = current_task();
  if (!current) return {};
  const bool eager =
      current.get() == Py_None &&
      PyObject_SetAttr(loop_.get(), call_soon_name_.get(), catch_function_.get()) == 0;
  PyErr_Clear();
  PyObject* const args[] = {coroutine, loop_.get(), task_name_.get()};
  PyOwned task =
      PyOwned::steal(PyObject_Vectorcall(task_type_.get(), args, 1, task_keywords_.get()));
  if (!eager) return task;

  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  if (PyObject_DelAttr(loop_.get(), call_soon_name_.get()) != 0) PyErr_Clear();
  PyErr_Restore(type, value, trace);
  const PyOwned step = std::move(caught_step_);
  const PyOwned context = std::move(caught_context_);
  if (!task || !step) return task;
  if (context && PyContext_Enter(context.get()) != 0) return {};
  const PyOwned stepped = PyOwned::steal(PyObject_CallNoArgs(step.get()));
  if (!stepped) PyErr_WriteUnraisable(task.get());
  if (context && PyContext_Exit(context.get()) != 0) PyErr_WriteUnraisable(task.get());
  return task;
}

PyOwned Lane::start_task(PyOwned coroutine) {
  ++counters_.tasks;
  PyOwned task;
  if (native_eager_) {
    PyObject* const args[] = {coroutine.get(), loop_.get(), task_name_.get(), Py_True};
    task = PyOwned::steal(PyObject_Vectorcall(task_type_.get(), args, 1, task_keywords_.get()));
  } else {
    task = shadowed_start(coroutine.get());
  }
  if (!task) return {};
  const PyOwned done = PyOwned::steal(PyObject_CallMethodNoArgs(task.get(), done_name_.get()));
  if (!done) return {};
  if (done.get() == Py_True) return task;
  ++counters_.suspended;
  if (PySet_Add(tasks_.get(), task.get()) != 0) return {};
  if (!PyOwned::steal(PyObject_CallOneArg(hide_.get(), task.get()))) return {};
  const PyOwned added = PyOwned::steal(
      PyObject_CallMethodOneArg(task.get(), add_done_callback_name_.get(), forget_.get()));
  return added ? std::move(task) : PyOwned();
}

PyOwned Lane::current_task() const {
  return PyOwned::steal(PyObject_CallOneArg(current_task_.get(), loop_.get()));
}

Py_ssize_t Lane::running_tasks() const {
  return PySet_GET_SIZE(tasks_.get());
}

LaneDeadline::~LaneDeadline() {
  if (armed_on_ != nullptr) armed_on_->disarm(*this);
}

void Lane::arm(LaneDeadline& deadline, std::chrono::steady_clock::time_point at) {
  disarm(deadline);
  deadline.place_ = deadlines_.emplace(at.time_since_epoch().count() - blocked_, &deadline);
  deadline.armed_on_ = this;
  if (!ticking_) start_ticker();
}

void Lane::disarm(LaneDeadline& deadline) {
  if (deadline.armed_on_ == nullptr) return;
  deadlines_.erase(deadline.place_);
  deadline.armed_on_ = nullptr;
}

PyObject* Lane::on_tick(PyObject* self, PyObject*) {
  // After close() the capsule still exists, but no longer the lane.
  if (PyCapsule_GetContext(self) == nullptr) lane_of(self)->tick();
  Py_RETURN_NONE;
}

void Lane::tick() {
  const Scope scope(*this);
  ticking_ = false;
  const std::int64_t late = LaneInbox::now() - next_tick_;
  if (late > std::chrono::nanoseconds(kTick).count()) blocked_ += late;
  const std::int64_t now = LaneInbox::now() - blocked_;
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    LaneDeadline* due = deadlines_.begin()->second;
    disarm(*due);
    due->on_deadline();
    if (PyErr_Occurred() != nullptr) PyErr_WriteUnraisable(tick_function_.get());
  }
  if (!deadlines_.empty() && !ticking_) start_ticker();
}

void Lane::start_ticker() {
  const PyOwned handle = PyOwned::steal(
      PyObject_CallMethod(loop_.get(), "call_later", "dO",
                          static_cast<double>(kTick.count()) / 1000.0, tick_function_.get()));
  if (!handle) PyErr_WriteUnraisable(loop_.get());
  ticking_ = static_cast<bool>(handle);
  next_tick_ = LaneInbox::now() + std::chrono::nanoseconds(kTick).count();
}

void Lane::at_turn_end(Callback<void()> work) {
  turn_end_.push_back(std::move(work));
  if (turn_end_.size() > 1 && !closed_) return;
  const PyOwned handle = closed_
                             ? PyOwned()
                             : PyOwned::steal(PyObject_CallMethodOneArg(
                                   loop_.get(), call_soon_name_.get(), turn_end_function_.get()));
  if (handle) return;
  PyErr_Clear();  // the loop is closed
  end_turn();
}

PyObject* Lane::on_turn_end(PyObject* self, PyObject*) {
  // After close() the capsule still exists, but no longer the lane.
  if (PyCapsule_GetContext(self) == nullptr) lane_of(self)->end_turn();
  Py_RETURN_NONE;
}

void Lane::end_turn() {
  const Scope scope(*this);
  ending_.swap(turn_end_);
  for (auto& work : ending_) work();
  ending_.clear();
}

void Lane::bury() {
  std::vector<std::unique_ptr<LaneWork>> unrun;
  std::vector<PyObject*> dropped;
  {
    const std::lock_guard lock(inbox_->mutex_);
    inbox_->closed_ = true;
    unrun.swap(inbox_->work_);
    dropped.swap(inbox_->dropped_);
  }
  inbox_->waiting_since_.store(0, std::memory_order_relaxed);
  inbox_->inside_since_.store(0, std::memory_order_relaxed);
  for (PyObject* object : dropped) Py_DECREF(object);
  batch_.clear();
}

Lane::Step::Step(Lane& lane, const char* name, std::chrono::steady_clock::time_point since,
                 std::chrono::nanoseconds allowed)
    : lane_(lane),
      outer_name_(lane.inbox_->step_name_.load(std::memory_order_relaxed)),
      outer_until_(lane.inbox_->step_until_.load(std::memory_order_relaxed)) {
  lane.inbox_->step_name_.store(name, std::memory_order_relaxed);
  lane.inbox_->step_until_.store((since.time_since_epoch() + allowed).count(),
                                 std::memory_order_relaxed);
}

Lane::Step::~Step() {
  end();
}

bool Lane::Step::end() {
  if (std::exchange(ended_, true)) return false;
  lane_.inbox_->step_until_.store(outer_until_, std::memory_order_relaxed);
  lane_.inbox_->step_name_.store(outer_name_, std::memory_order_relaxed);
  if (!std::exchange(lane_.interrupted_, false)) return false;
  PyThreadState_SetAsyncExc(lane_.thread_, nullptr);  // it may have ended before it was hit
  return true;
}

bool Lane::interrupt(PyObject* exception) {
  const std::int64_t until = inbox_->step_until_.load(std::memory_order_relaxed);
  if (until == 0 || LaneInbox::now() < until) return false;
  interrupted_ = PyThreadState_SetAsyncExc(thread_, exception) == 1;
  return interrupted_;
}

PyOwned Lane::close() {
  const Scope scope(*this);
  PyOwned cancelled = PyOwned::steal(PySequence_List(tasks_.get()));
  if (closed_) return cancelled;
  closed_ = true;
  PyCapsule_SetContext(self_.get(), this);
  end_turn();
  while (!deadlines_.empty()) disarm(*deadlines_.begin()->second);
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  const PyOwned removed =
      PyOwned::steal(PyObject_CallMethod(loop_.get(), "remove_reader", "i", inbox_->bell_));
  if (!removed) PyErr_Clear();  // the loop is closed already
  for (Py_ssize_t i = 0; cancelled && i < PyList_GET_SIZE(cancelled.get()); ++i) {
    const PyOwned asked = PyOwned::steal(
        PyObject_CallMethodNoArgs(PyList_GET_ITEM(cancelled.get(), i), cancel_name_.get()));
    if (!asked) PyErr_Clear();
  }
  bury();
  PySet_Clear(tasks_.get());
  PyErr_Restore(type, value, trace);
  return cancelled;
}

}  // namespace llm_proxy
