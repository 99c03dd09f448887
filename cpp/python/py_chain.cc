#include "python/py_chain.h"

#include <array>
#include <bit>
#include <new>

namespace llm_proxy {
namespace {

using Clock = std::chrono::steady_clock;

// Names that are looked up or compared for every plugin, and classes of asyncio. Made once, kept
// for good.
struct Known {
  PyObject* passthrough = nullptr;
  PyObject* action = nullptr;
  PyObject* throw_name = nullptr;
  PyObject* close_name = nullptr;
  PyObject* cancel = nullptr;
  PyObject* cancelling = nullptr;
  PyObject* uncancel = nullptr;
  PyObject* cancelled_error = nullptr;
};
Known known;

bool is_set(PyObject* value) {
  return value != nullptr && value != Py_False && value != Py_None;
}

// Awaits one plugin after the other; the body of a coroutine object.
//
// Lives in its coroutine object, on the lane. `owner` is null when other Python code awaits it.
//
//   running ─► suspended ─► running ... ─► ended
//                  └─► cancelled at its limit ─► suspended for good: left behind, its successor has
//                  the rest
class ChainRun final : public LaneDeadline {
 public:
  ChainRun(std::shared_ptr<Lane> lane, std::shared_ptr<const RingHandlers> handlers,
           std::shared_ptr<const PluginChain> chain, PyOwned context, ChainRequest request,
           std::size_t from)
      : lane_(std::move(lane)),
        handlers_(std::move(handlers)),
        chain_(std::move(chain)),
        context_(std::move(context)),
        owner_(std::move(request.owner)),
        tag_(request.tag),
        origin_(request.origin),
        allowance_(request.allowance),
        at_(from) {}

  PySendResult send(PyObject* value, PyObject** out);
  PySendResult raise(PyObject* const* args, Py_ssize_t count, PyObject** out);
  void close();
  // The exchange no longer waits.
  void cancel();
  void on_deadline() override;

 private:
  const PluginEntry& entry() const { return chain_->entries[at_]; }
  PySendResult go_on(PySendResult went, PyObject* result, PyObject** out);
  // Runs code of the plugin: from clock_ until it gives way.
  template <typename Run>
  auto step(Run run) {
    resumed_ = clock_;
    Lane::Step watched(*lane_, entry().lasting, clock_, allowed_);
    const auto result = run();
    interrupted_ = watched.end() || interrupted_;
    return result;
  }
  bool begin_next();
  bool chain_stops();
  void suspend();
  void settle(PyOwned result);
  bool raised();
  void timed_out();
  void plugin_ended(bool failed);
  void leave_behind();
  void end(bool cancelled);
  bool cancelled_from_outside();
  void forgive_cancel();
  void cancel_task();

  const std::shared_ptr<Lane> lane_;
  std::shared_ptr<const RingHandlers> handlers_;
  std::shared_ptr<const PluginChain> chain_;
  PyOwned context_;
  std::shared_ptr<ChainOwner> owner_;
  const std::uint32_t tag_;
  const RunOrigin origin_;
  const std::chrono::milliseconds allowance_;
  PyOwned plugin_;  // the coroutine of entry(), between its begin and its end
  PyOwned task_;    // the Task that drives us, known once we suspend
  std::size_t at_;
  const PluginEntry* last_ = nullptr;    // the entry that ran last
  Clock::time_point started_{};          // of entry()
  Clock::time_point clock_{};            // when we last looked
  bool watched_ = false;                 // entry() has its deadline armed
  bool over_limit_ = false;              // entry() was cancelled at its limit
  Clock::time_point resumed_{};          // when entry() last began to compute
  std::chrono::milliseconds allowed_{};  // who computes for longer has missed its exchange
  bool interrupted_ = false;             // the watchdog stopped it computing
  bool cancelled_ = false;
  bool left_behind_ = false;
  bool stopped_ = false;
  bool ended_ = false;
};

struct ChainObject {
  PyObject_HEAD alignas(ChainRun) std::byte run[sizeof(ChainRun)];
};
PyTypeObject* chain_type = nullptr;

ChainRun& run_of(PyObject* self) {
  return *std::launder(reinterpret_cast<ChainRun*>(reinterpret_cast<ChainObject*>(self)->run));
}

PySendResult ChainRun::send(PyObject* value, PyObject** out) {
  const Lane::Scope scope(*lane_);
  if (ended_) {
    PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    return PYGEN_ERROR;
  }
  if (!plugin_) {
    clock_ = Clock::now();
    if (!begin_next()) {
      end(false);
      Py_INCREF(Py_None);
      *out = Py_None;
      return PYGEN_RETURN;
    }
    value = Py_None;
  } else {
    clock_ = Clock::now();
  }
  PyObject* result = nullptr;
  const PySendResult went = step([&] { return PyIter_Send(plugin_.get(), value, &result); });
  return go_on(went, result, out);
}

// The return value of a coroutine whose throw() has ended it. False, error untouched: it raised
// something else.
bool take_stop_iteration(PyObject** value) {
  if (!PyErr_ExceptionMatches(PyExc_StopIteration)) return false;
  PyObject *type, *exception, *trace;
  PyErr_Fetch(&type, &exception, &trace);
  PyErr_NormalizeException(&type, &exception, &trace);
  *value = PyObject_GetAttrString(exception, "value");
  Py_XDECREF(type);
  Py_XDECREF(exception);
  Py_XDECREF(trace);
  return *value != nullptr;
}

PySendResult ChainRun::raise(PyObject* const* args, Py_ssize_t count, PyObject** out) {
  const Lane::Scope scope(*lane_);
  if (!plugin_) {  // cancelled before the first step: no plugin is there to hear of it
    if (!ended_) end(true);
    if (PyExceptionInstance_Check(args[0])) {
      PyErr_SetObject(PyExceptionInstance_Class(args[0]), args[0]);
    } else {
      PyErr_SetObject(args[0], count > 1 ? args[1] : nullptr);
    }
    return PYGEN_ERROR;
  }
  std::array<PyObject*, 4> call{plugin_.get()};
  for (Py_ssize_t i = 0; i < count && i < 3; ++i) call[static_cast<std::size_t>(i) + 1] = args[i];
  clock_ = Clock::now();
  PyObject* result = step([&] {
    return PyObject_VectorcallMethod(known.throw_name, call.data(),
                                     static_cast<std::size_t>(count) + 1, nullptr);
  });
  if (result != nullptr) return go_on(PYGEN_NEXT, result, out);
  if (take_stop_iteration(&result)) return go_on(PYGEN_RETURN, result, out);
  return go_on(PYGEN_ERROR, nullptr, out);
}

PySendResult ChainRun::go_on(PySendResult went, PyObject* result, PyObject** out) {
  for (;;) {
    if (went == PYGEN_NEXT) {
      if (!left_behind_) suspend();
      *out = result;
      return PYGEN_NEXT;
    }
    plugin_.reset();
    if (left_behind_) {  // what it says comes too late
      Py_XDECREF(result);
      PyErr_Clear();
      ended_ = true;
      task_.reset();
      break;
    }
    if (went == PYGEN_RETURN) {
      settle(PyOwned::steal(result));
    } else if (!raised()) {
      return PYGEN_ERROR;
    }
    if (!begin_next()) {
      end(false);
      break;
    }
    result = nullptr;
    went = step([&] { return PyIter_Send(plugin_.get(), Py_None, &result); });
  }
  Py_INCREF(Py_None);
  *out = Py_None;
  return PYGEN_RETURN;
}

bool ChainRun::chain_stops() {
  const PyOwned answer = call_handler(handlers_->stopped, context_.get(), last_->facts.get());
  if (!answer || answer.get() == Py_True) return true;
  const Ring ring = last_->ring;
  while (at_ < chain_->entries.size() && entry().ring == ring) ++at_;
  set_slot(context_.get(), context_layout.stop_chain, Py_False);
  return false;
}

bool ChainRun::begin_next() {
  for (;;) {
    if (last_ != nullptr && is_set(slot(context_.get(), context_layout.stop_chain)) &&
        chain_stops()) {
      stopped_ = true;
      return false;
    }
    if (cancelled_ || at_ >= chain_->entries.size()) return false;
    const PluginEntry& next = entry();
    last_ = &next;
    if (next.record->rests(clock_)) {
      if (next.fail_closed) call_handler(handlers_->quarantined, context_.get(), next.facts.get());
      ++at_;
      continue;
    }
    started_ = clock_;
    allowed_ = next.timeout + allowance_ + kGrace + kMargin;
    plugin_ =
        PyOwned::steal(step([&] { return PyObject_CallOneArg(next.call.get(), context_.get()); }));
    if (plugin_ && !PyCoro_CheckExact(plugin_.get())) {
      const PyAsyncMethods* methods = Py_TYPE(plugin_.get())->tp_as_async;
      if (methods == nullptr || methods->am_await == nullptr) {
        PyErr_Format(PyExc_TypeError, "plugin %s returned %.100s, which cannot be awaited",
                     next.name->c_str(), Py_TYPE(plugin_.get())->tp_name);
        plugin_.reset();
      } else {
        plugin_ = PyOwned::steal(methods->am_await(plugin_.get()));
      }
    }
    if (plugin_) return true;
    raised();
  }
}

void ChainRun::suspend() {
  if (!task_) {
    task_ = lane_->current_task();
    if (!task_) PyErr_Clear();
  }
  if (watched_) return;
  watched_ = true;
  lane_->arm(*this, started_ + entry().timeout + allowance_);
}

void ChainRun::plugin_ended(bool failed) {
  if (watched_) lane_->disarm(*this);
  watched_ = false;
  clock_ = Clock::now();
  const double ms = std::chrono::duration<double, std::milli>(clock_ - started_).count();
  if (failed) {
    entry().record->failed(ms, origin_);
  } else {
    entry().record->ended(ms);
  }
  if (owner_ != nullptr) owner_->on_plugin_end(entry(), static_cast<float>(ms));
  over_limit_ = interrupted_ = false;
  ++at_;
}

void ChainRun::settle(PyOwned result) {
  if (over_limit_) forgive_cancel();  // it was told to stop and answered instead: good enough
  if (interrupted_ || Clock::now() - resumed_ > allowed_) {
    timed_out();  // it computed all the while: the exchange has gone on without it
    return;
  }
  bool failed = false;
  if (result.get() != Py_None) {
    const PyOwned action = PyOwned::steal(PyObject_GetAttr(result.get(), known.action));
    if (!action) PyErr_Clear();
    if (action.get() != known.passthrough) {
      const PyOwned said =
          call_handler(handlers_->settle, context_.get(), entry().facts.get(), result.get());
      if (said && PyUnicode_Check(said.get())) {
        failed = PyUnicode_CompareWithASCIIString(said.get(), "error") == 0;
        if (!failed) entry().record->blocked();
      }
    }
  }
  plugin_ended(failed);
}

// The plugin has raised (the error is set). True: dealt with, the chain goes on. False: not ours,
// it stays set.
bool ChainRun::raised() {
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (trace != nullptr && value != nullptr) PyException_SetTraceback(value, trace);
  const PyOwned held_type = PyOwned::steal(type);
  const PyOwned exception = PyOwned::steal(value);
  const PyOwned held_trace = PyOwned::steal(trace);
  const auto put_back = [&] {
    Py_XINCREF(type);
    Py_XINCREF(value);
    Py_XINCREF(trace);
    PyErr_Restore(type, value, trace);
  };
  const bool exits = PyErr_GivenExceptionMatches(value, PyExc_GeneratorExit) != 0;
  const bool cancels = PyErr_GivenExceptionMatches(value, known.cancelled_error) != 0;
  if (exits || (cancels && cancelled_)) {
    end(true);
    put_back();
    return false;
  }
  if (over_limit_) forgive_cancel();
  if (over_limit_ || interrupted_) {
    timed_out();
    return true;
  }
  if (cancels && cancelled_from_outside()) {
    end(true);
    put_back();
    return false;
  }
  if (cancels && owner_ != nullptr) forgive_cancel();
  call_handler(handlers_->failed, context_.get(), entry().facts.get(), value);
  plugin_ended(true);
  return true;
}

void ChainRun::timed_out() {
  entry().record->timed_out();
  call_handler(handlers_->timed_out, context_.get(), entry().facts.get());
  plugin_ended(true);
}

// Whether who awaits the chain wants it to end. An exchange says so through cancel() alone: what
// else cancels its Task is a plugin's doing, and the failure of the plugin it hits.
bool ChainRun::cancelled_from_outside() {
  if (lane_->closed()) return true;
  if (owner_ != nullptr) return false;
  if (known.cancelling == nullptr) return owner_ == nullptr;  // 3.10 does not say who cancelled
  PyOwned task = task_ ? PyOwned::share(task_.get()) : lane_->current_task();
  if (!task || task.get() == Py_None) {
    PyErr_Clear();
    return false;
  }
  const PyOwned count = PyOwned::steal(PyObject_CallMethodNoArgs(task.get(), known.cancelling));
  if (!count) {
    PyErr_Clear();
    return false;
  }
  return PyLong_AsLong(count.get()) > 0;
}

void ChainRun::forgive_cancel() {
  if (known.uncancel == nullptr || !task_) return;
  const PyOwned left = PyOwned::steal(PyObject_CallMethodNoArgs(task_.get(), known.uncancel));
  if (!left) PyErr_Clear();
}

void ChainRun::cancel_task() {
  if (!task_ || task_.get() == Py_None) return;
  const PyOwned asked = PyOwned::steal(PyObject_CallMethodNoArgs(task_.get(), known.cancel));
  if (!asked) PyErr_WriteUnraisable(task_.get());
}

void ChainRun::on_deadline() {
  if (over_limit_) {
    leave_behind();
    return;
  }
  over_limit_ = true;
  lane_->arm(*this, Clock::now() + kGrace);
  cancel_task();
}

// The plugin was cancelled and runs on. Its Task keeps it alive (the lane holds running Tasks); the
// chain does not wait.
void ChainRun::leave_behind() {
  if (owner_ == nullptr) return;  // whoever awaits us waits for the plugin
  left_behind_ = true;
  entry().record->left_behind();
  timed_out();
  std::shared_ptr<ChainOwner> owner = std::move(owner_);
  PyOwned successor = make_chain(lane_, handlers_, chain_, PyOwned::share(context_.get()),
                                 {owner, tag_, origin_, allowance_}, at_);
  if (!successor) {
    owner->on_chain_end(*lane_, tag_, context_.get(), nullptr, true);
    return;
  }
  run_of(successor.get()).last_ = last_;
  owner->on_chain_moved(lane_->ref(PyOwned::share(successor.get())));
  if (!lane_->start_task(std::move(successor))) PyErr_WriteUnraisable(context_.get());
}

void ChainRun::cancel() {
  cancelled_ = true;
  cancel_task();
}

void ChainRun::close() {
  if (plugin_) {
    const PyOwned closed =
        PyOwned::steal(PyObject_CallMethodNoArgs(plugin_.get(), known.close_name));
    if (!closed) PyErr_WriteUnraisable(plugin_.get());
    plugin_.reset();
  }
  if (!ended_ && !left_behind_) end(true);
}

void ChainRun::end(bool cancelled) {
  ended_ = true;
  task_.reset();  // it holds us: an ended run must not hold it
  if (watched_) lane_->disarm(*this);
  if (const std::shared_ptr<ChainOwner> owner = std::move(owner_)) {
    owner->on_chain_end(*lane_, tag_, context_.get(), stopped_ ? last_ : nullptr, cancelled);
  }
}

// ---- the coroutine type around it

PySendResult chain_send(PyObject* self, PyObject* value, PyObject** out) {
  return run_of(self).send(value, out);
}

PyObject* as_generator_result(PySendResult step, PyObject* result) {
  if (step == PYGEN_RETURN) {
    if (result == Py_None) {
      PyErr_SetNone(PyExc_StopIteration);
    } else {
      PyErr_SetObject(PyExc_StopIteration, result);
    }
    Py_DECREF(result);
    return nullptr;
  }
  return step == PYGEN_NEXT ? result : nullptr;
}

PyObject* chain_send_method(PyObject* self, PyObject* value) {
  PyObject* result = nullptr;
  const PySendResult step = run_of(self).send(value, &result);
  return as_generator_result(step, result);
}

PyObject* chain_next(PyObject* self) {
  return chain_send_method(self, Py_None);
}

PyObject* chain_throw(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  if (count < 1 || count > 3) {
    PyErr_SetString(PyExc_TypeError, "throw expects 1 to 3 arguments");
    return nullptr;
  }
  PyObject* result = nullptr;
  const PySendResult step = run_of(self).raise(args, count, &result);
  return as_generator_result(step, result);
}

PyObject* chain_close(PyObject* self, PyObject*) {
  run_of(self).close();
  Py_RETURN_NONE;
}

PyObject* chain_await(PyObject* self) {
  Py_INCREF(self);
  return self;
}

void chain_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject *error_type, *value, *trace;
  PyErr_Fetch(&error_type, &value, &trace);
  run_of(self).close();
  run_of(self).~ChainRun();
  PyErr_Restore(error_type, value, trace);
  type->tp_free(self);
  Py_DECREF(type);
}

}  // namespace

std::chrono::milliseconds allowance_for(std::size_t bytes) {
  const std::size_t mebibytes = bytes >> 20;
  return std::chrono::milliseconds(mebibytes == 0 ? 0 : 500 * std::bit_ceil(mebibytes));
}

PyOwned make_chain(std::shared_ptr<Lane> lane, std::shared_ptr<const RingHandlers> handlers,
                   std::shared_ptr<const PluginChain> chain, PyOwned context, ChainRequest request,
                   std::size_t from) {
  PyOwned object = PyOwned::steal(chain_type->tp_alloc(chain_type, 0));
  if (object) {
    new (reinterpret_cast<ChainObject*>(object.get())->run)
        ChainRun(std::move(lane), std::move(handlers), std::move(chain), std::move(context),
                 std::move(request), from);
  }
  return object;
}

void run_chain(PyObject* coroutine, PyObject* context) {
  PyObject* result = nullptr;
  const PySendResult step = run_of(coroutine).send(Py_None, &result);
  Py_XDECREF(result);
  if (step == PYGEN_ERROR) PyErr_WriteUnraisable(context);
  if (step == PYGEN_NEXT)
    run_of(coroutine).close();  // it cannot; if it does, the exchange's patience settles it
}

void cancel_chain(PyObject* coroutine) {
  run_of(coroutine).cancel();
}

bool init_chain_types() {
  if (chain_type != nullptr) return true;
  static PyMethodDef chain_methods[] = {
      {"send", chain_send_method, METH_O, nullptr},
      {"throw", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(chain_throw)),
       METH_FASTCALL, nullptr},
      {"close", chain_close, METH_NOARGS, nullptr},
      {nullptr, nullptr, 0, nullptr},
  };
  static PyType_Slot chain_slots[] = {
      {Py_tp_dealloc, reinterpret_cast<void*>(chain_dealloc)},
      {Py_tp_methods, chain_methods},
      {Py_am_await, reinterpret_cast<void*>(chain_await)},
      {Py_am_send, reinterpret_cast<void*>(chain_send)},
      {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)},
      {Py_tp_iternext, reinterpret_cast<void*>(chain_next)},
      {0, nullptr},
  };
  static PyType_Spec chain_spec{"llm_proxy._core.ChainRun", sizeof(ChainObject), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                chain_slots};
  chain_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&chain_spec));
  known.passthrough = PyUnicode_InternFromString("passthrough");
  known.action = PyUnicode_InternFromString("action");
  known.throw_name = PyUnicode_InternFromString("throw");
  known.close_name = PyUnicode_InternFromString("close");
  known.cancel = PyUnicode_InternFromString("cancel");
  if (PY_VERSION_HEX >= 0x030B0000) {
    known.cancelling = PyUnicode_InternFromString("cancelling");
    known.uncancel = PyUnicode_InternFromString("uncancel");
  }
  const PyOwned asyncio = PyOwned::steal(PyImport_ImportModule("asyncio"));
  if (!asyncio) return false;
  known.cancelled_error = PyObject_GetAttrString(asyncio.get(), "CancelledError");
  return chain_type != nullptr && known.cancelled_error != nullptr;
}

}  // namespace llm_proxy
