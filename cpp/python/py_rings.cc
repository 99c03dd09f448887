#include "python/py_rings.h"

#include <structmember.h>

#include <atomic>
#include <cstring>
#include <new>

#include "python/json_convert.h"

namespace llm_proxy {
namespace {

using Clock = std::chrono::steady_clock;
using Phase = PyRingHost::Phase;

// A plugin that was cancelled at its time limit has this long to end before the chain goes on
// without it.
constexpr std::chrono::milliseconds kGrace{100};
// What a busy interpreter may cost an exchange on top of its plugins' own limits.
constexpr std::chrono::milliseconds kMargin{500};

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

// Where PluginContext keeps the slots that C++ reads and writes for every plugin.
struct ContextLayout {
  Py_ssize_t body = 0, response = 0, error = 0, stop_chain = 0, state = 0, source = 0,
             placeholders = 0;
};
ContextLayout layout;

PyObject*& slot(PyObject* context, Py_ssize_t offset) {
  return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(context) + offset);
}

void set_slot(PyObject* context, Py_ssize_t offset, PyObject* value) {
  PyObject* old = std::exchange(slot(context, offset), value);
  Py_INCREF(value);
  Py_XDECREF(old);
}

bool is_set(PyObject* value) {
  return value != nullptr && value != Py_False && value != Py_None;
}

PyOwned text(std::string_view utf8) {
  return PyOwned::steal(
      PyUnicode_DecodeUTF8(utf8.data(), static_cast<Py_ssize_t>(utf8.size()), "replace"));
}

void put(PyObject* dict, const char* key, PyOwned value) {
  if (!value || PyDict_SetItemString(dict, key, value.get()) != 0) PyErr_Clear();
}

PyOwned headers_dict(const RingHeaders& headers) {
  PyOwned dict = PyOwned::steal(PyDict_New());
  for (const auto& [name, value] : headers) {
    const PyOwned key = text(name);
    const PyOwned held = text(value);
    if (dict && key && held && PyDict_SetItem(dict.get(), key.get(), held.get()) != 0)
      PyErr_Clear();
  }
  return dict;
}

PyOwned request_facts(const RingRequest& request, double arrived_at) {
  PyOwned facts = PyOwned::steal(PyDict_New());
  if (!facts) return facts;
  put(facts.get(), "request_id", text(request.request_id));
  put(facts.get(), "session_id", text(request.session_id));
  put(facts.get(), "client_host", text(request.client_host));
  put(facts.get(), "method", text(request.method));
  put(facts.get(), "path", text(request.path));
  put(facts.get(), "frontend", text(request.frontend));
  put(facts.get(), "key_hash", text(request.key_hash));
  put(facts.get(), "headers", headers_dict(request.headers));
  put(facts.get(), "arrived_at", PyOwned::steal(PyFloat_FromDouble(arrived_at)));
  return facts;
}

PyOwned reply_facts(const RingReply& reply) {
  PyOwned facts = PyOwned::steal(PyDict_New());
  if (!facts) return facts;
  put(facts.get(), "status", PyOwned::steal(PyLong_FromLong(reply.status)));
  put(facts.get(), "headers", headers_dict(reply.headers));
  put(facts.get(), "body",
      PyOwned::steal(PyBytes_FromStringAndSize(reply.body.data(),
                                               static_cast<Py_ssize_t>(reply.body.size()))));
  put(facts.get(), "streamed", PyOwned::steal(PyBool_FromLong(reply.streamed ? 1 : 0)));
  put(facts.get(), "duration", PyOwned::steal(PyFloat_FromDouble(reply.duration)));
  put(facts.get(), "first_token", PyOwned::steal(PyFloat_FromDouble(reply.first_token)));
  return facts;
}

PyOwned outcome_facts(const RingOutcome& outcome) {
  PyOwned facts = outcome.reply ? reply_facts(*outcome.reply) : PyOwned::steal(PyDict_New());
  if (!facts) return facts;
  put(facts.get(), "status", PyOwned::steal(PyLong_FromLong(outcome.status)));
  put(facts.get(), "backend", text(outcome.backend));
  put(facts.get(), "model", text(outcome.model));
  put(facts.get(), "input_tokens", PyOwned::steal(PyLong_FromLongLong(outcome.input_tokens)));
  put(facts.get(), "output_tokens", PyOwned::steal(PyLong_FromLongLong(outcome.output_tokens)));
  put(facts.get(), "duration", PyOwned::steal(PyFloat_FromDouble(outcome.duration)));
  return facts;
}

// A handler's call: what it raises is our bug or a hostile object's, logged and treated as None.
PyOwned call(const PyRef& handler, PyObject* a, PyObject* b = nullptr, PyObject* c = nullptr) {
  PyObject* const args[] = {a, b, c};
  const std::size_t count = c != nullptr ? 3 : b != nullptr ? 2 : 1;
  PyOwned result = PyOwned::steal(PyObject_Vectorcall(handler.get(), args, count, nullptr));
  if (!result) PyErr_WriteUnraisable(handler.get());
  return result;
}

// The error that is set, as an exception to hand on. None set: None.
PyOwned taken_error() {
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  Py_XDECREF(type);
  Py_XDECREF(trace);
  return value != nullptr ? PyOwned::steal(value) : PyOwned::share(Py_None);
}

// ---- what a context's lazy fields are filled from

// Shared by a session and by its context, which a plugin may keep for longer. Lane only after
// open().
struct SessionData {
  std::shared_ptr<const RingHandlers> handlers;
  RingRequest request;
  double arrived_at = 0;  // Unix seconds
};

struct SourceObject {
  PyObject_HEAD std::shared_ptr<SessionData> data;
  PyObject* facts;  // request_facts(), once asked for
};
PyTypeObject* source_type = nullptr;

PyObject* source_fill(PyObject* self, PyObject* name) {
  auto& source = *reinterpret_cast<SourceObject*>(self);
  const SessionData& data = *source.data;
  if (PyUnicode_CompareWithASCIIString(name, "body") == 0) {
    if (data.request.body.empty()) return PyDict_New();
    return json_to_python(data.request.body).release();
  }
  if (source.facts == nullptr) {
    source.facts = request_facts(data.request, data.arrived_at).release();
  }
  if (source.facts == nullptr) return nullptr;
  PyObject* const args[] = {name, source.facts};
  return PyObject_Vectorcall(data.handlers->fill.get(), args, 2, nullptr);
}

void source_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  reinterpret_cast<SourceObject*>(self)->data.~shared_ptr();
  Py_XDECREF(reinterpret_cast<SourceObject*>(self)->facts);
  type->tp_free(self);
  Py_DECREF(type);
}

PyOwned make_context(std::shared_ptr<SessionData> data) {
  auto* type = reinterpret_cast<PyTypeObject*>(data->handlers->context_type.get());
  PyObject* state = data->handlers->state.get();
  PyOwned context = PyOwned::steal(type->tp_alloc(type, 0));
  PyOwned source = PyOwned::steal(source_type->tp_alloc(source_type, 0));
  if (!context || !source) return {};
  new (&reinterpret_cast<SourceObject*>(source.get())->data)
      std::shared_ptr<SessionData>(std::move(data));
  slot(context.get(), layout.source) = source.release();
  set_slot(context.get(), layout.response, Py_None);
  set_slot(context.get(), layout.error, Py_None);
  set_slot(context.get(), layout.stop_chain, Py_False);
  set_slot(context.get(), layout.state, state);
  return context;
}

// ---- one chain being run

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
           std::shared_ptr<const PluginChain> chain, PyOwned context,
           std::shared_ptr<ChainOwner> owner, std::uint32_t tag, std::size_t from)
      : lane_(std::move(lane)),
        handlers_(std::move(handlers)),
        chain_(std::move(chain)),
        context_(std::move(context)),
        owner_(std::move(owner)),
        tag_(tag),
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
    Lane::Step watched(*lane_, clock_, allowed_);
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

template <typename... Args>
PyOwned make_chain(Args&&... args) {
  PyOwned object = PyOwned::steal(chain_type->tp_alloc(chain_type, 0));
  if (object) {
    new (reinterpret_cast<ChainObject*>(object.get())->run) ChainRun(std::forward<Args>(args)...);
  }
  return object;
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
  const PyOwned answer = call(handlers_->stopped, context_.get(), last_->facts.get());
  if (!answer || answer.get() == Py_True) return true;
  const Ring ring = last_->ring;
  while (at_ < chain_->entries.size() && entry().ring == ring) ++at_;
  set_slot(context_.get(), layout.stop_chain, Py_False);
  return false;
}

bool ChainRun::begin_next() {
  for (;;) {
    if (last_ != nullptr && is_set(slot(context_.get(), layout.stop_chain)) && chain_stops()) {
      stopped_ = true;
      return false;
    }
    if (cancelled_ || at_ >= chain_->entries.size()) return false;
    const PluginEntry& next = entry();
    last_ = &next;
    if (next.record->rests(clock_)) {
      if (next.fail_closed) call(handlers_->quarantined, context_.get(), next.facts.get());
      ++at_;
      continue;
    }
    started_ = clock_;
    allowed_ = next.timeout + kGrace + kMargin;
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
  lane_->arm(*this, started_ + entry().timeout);
}

void ChainRun::plugin_ended(bool failed) {
  if (watched_) lane_->disarm(*this);
  watched_ = false;
  clock_ = Clock::now();
  const double ms = std::chrono::duration<double, std::milli>(clock_ - started_).count();
  entry().record->ended(ms, failed);
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
          call(handlers_->settle, context_.get(), entry().facts.get(), result.get());
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
  call(handlers_->failed, context_.get(), entry().facts.get(), value);
  plugin_ended(true);
  return true;
}

void ChainRun::timed_out() {
  entry().record->timed_out();
  call(handlers_->timed_out, context_.get(), entry().facts.get());
  plugin_ended(true);
}

bool ChainRun::cancelled_from_outside() {
  if (lane_->closed()) return true;
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
  PyOwned successor =
      make_chain(lane_, handlers_, chain_, PyOwned::share(context_.get()), owner, tag_, at_);
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

// ---- the session

class PyRingSession final : public RingSession,
                            public ChainOwner,
                            public std::enable_shared_from_this<PyRingSession> {
 public:
  PyRingSession(std::shared_ptr<const PyRingHost> host,
                std::shared_ptr<const RingHandlers> handlers, RingRequest request,
                WorkerPost& worker)
      : host_(std::move(host)), data_(std::make_shared<SessionData>()), worker_(worker) {
    data_->handlers = std::move(handlers);
    data_->request = std::move(request);
    data_->arrived_at =
        std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    if (host_->services() != nullptr) native_.emplace(data_->request, *host_->services());
    trace_->request_id = data_->request.request_id;
    trace_->arrived_at = data_->arrived_at;
  }

  void run_request(Done done) override {
    const std::size_t from = run_natives(Phase::request, [this](const NativePlugin& plugin) {
      return plugin.request == nullptr ? NativeStep::python : plugin.request(*native_);
    });
    if (!native_ || (from < host_->chain(Phase::request).entries.size() && !native_stopped_)) {
      return submit(Phase::request, from, std::move(done), {});
    }
    RingVerdict verdict = std::move(native_->verdict);
    if (native_stopped_) {
      reply_ = RingReply{verdict.status, verdict.headers, verdict.body};
    } else if (native_->request_changed()) {
      verdict.kind = RingVerdict::Kind::replace;
      verdict.body = data_->request.body;
    }
    verdict.placeholders = native_->placeholders;
    done(std::move(verdict));
  }

  void run_chunk(std::string text, Done done) override {
    submit(Phase::chunk, 0, std::move(done),
           [held = std::move(text)] { return llm_proxy::text(held); });
  }

  void run_reply(RingReply reply, Done done) override {
    reply_ = std::move(reply);
    NativeReply seen(*reply_);
    const std::size_t from = run_natives(Phase::reply, [&](const NativePlugin& plugin) {
      return plugin.reply == nullptr ? NativeStep::python : plugin.reply(*native_, seen);
    });
    reply_changed_ = seen.changed();
    if (from < host_->chain(Phase::reply).entries.size()) {
      return submit(Phase::reply, from, std::move(done), [this] { return reply_facts(*reply_); });
    }
    RingVerdict verdict;
    if (reply_changed_) {
      verdict.kind = RingVerdict::Kind::replace;
      verdict.status = reply_->status;
      verdict.body = reply_->body;
      verdict.ring = Ring::post_flight;
    }
    done(std::move(verdict));
  }

  void run_background(RingOutcome outcome) override {
    const auto note = [](std::atomic<float>& place, double seconds) {
      if (seconds >= 0) place.store(static_cast<float>(seconds * 1000), std::memory_order_relaxed);
    };
    note(trace_->total_ms, outcome.duration);
    note(trace_->upstream_ms, outcome.upstream);
    note(trace_->first_token_ms, outcome.first_token);
    const auto& entries = host_->chain(Phase::background).entries;
    if (entries.empty()) return;
    if (!outcome.reply && !crossed_) outcome.reply = std::move(reply_);
    const std::size_t from = run_natives(Phase::background, [&](const NativePlugin& plugin) {
      return plugin.background == nullptr
                 ? NativeStep::python
                 : plugin.background(*native_, outcome, outcome.reply ? &*outcome.reply : nullptr);
    });
    if (from == entries.size()) return;
    submit(Phase::background, from, nullptr,
           [held = std::move(outcome)] { return outcome_facts(held); });
  }

  std::chrono::milliseconds patience(Ring ring) const override {
    return host_->patience(PyRingHost::phase_of(ring));
  }

  RingVerdict overdue(Ring ring) override {
    give_up();
    return host_->overdue(PyRingHost::phase_of(ring));
  }

  void cancel() override { give_up(); }

  void on_chain_end(Lane& lane, std::uint32_t tag, PyObject* context, const PluginEntry* stopped_by,
                    bool cancelled) override;
  void on_chain_moved(PyRef successor) override { running_ = std::move(successor); }
  void on_plugin_end(const PluginEntry& entry, float ms) override {
    if (!entry.hears) steps_.push_back({entry.ring, entry.name, ms});
  }

 private:
  using Facts = std::function<PyOwned()>;

  // ---- on the worker

  // Runs the native plugins at the chain's beginning. Which entry is the first that is left for the
  // lane; beyond the last: none is. Once the lane has the exchange, all that follows is its.
  template <typename Run>
  std::size_t run_natives(Phase phase, Run run) {
    const auto& entries = host_->chain(phase).entries;
    native_stopped_ = false;
    if (crossed_ || !native_) return 0;
    std::size_t at = 0;
    auto clock = Clock::now();
    while (at < entries.size() && !native_stopped_) {
      const PluginEntry& entry = entries[at];
      if (entry.native == nullptr || entry.record->rests(clock)) break;
      const NativeStep said = run(*entry.native);
      if (said == NativeStep::python) break;
      const auto now = Clock::now();
      const double ms = std::chrono::duration<double, std::milli>(now - clock).count();
      clock = now;
      entry.record->ended(ms, false);
      steps_.push_back({entry.ring, entry.name, static_cast<float>(ms)});
      ++at;
      native_stopped_ = said == NativeStep::stop;
      if (native_stopped_) {
        native_->verdict.plugin = *entry.name;
        native_->verdict.ring = entry.ring;
      }
    }
    if (at == entries.size() || native_stopped_) tell_times();
    return at;
  }

  void submit(Phase phase, std::size_t from, Done done, Facts facts) {
    crossed_ = true;
    const std::uint32_t ticket = ++ticket_;
    done_ = std::move(done);
    auto work = [self = shared_from_this(), phase, from, ticket, held = std::move(facts)](
                    Lane& lane) { self->start(lane, phase, from, ticket, held); };
    if (host_->inbox()->post(std::move(work)) || !done_) return;
    worker_.post([self = shared_from_this(), phase, ticket] {
      self->deliver(ticket, self->host_->overdue(phase));
    });
  }

  void deliver(std::uint32_t ticket, RingVerdict verdict) {
    if (ticket != ticket_ || !done_) return;
    const Done done = std::exchange(done_, nullptr);
    done(std::move(verdict));
  }

  void give_up() {
    if (!done_) return;
    done_ = nullptr;
    given_up_.store(ticket_, std::memory_order_relaxed);
    host_->inbox()->post([self = shared_from_this(), ticket = ticket_](Lane&) {
      if (self->ticket_now_ == ticket && self->running_) run_of(self->running_.get()).cancel();
    });
  }

  // Where the exchange is.
  void tell_times() {
    if (!std::exchange(told_, true)) data_->handlers->times->began(trace_);
    data_->handlers->times->took(*trace_, std::exchange(steps_, {}));
  }

  // ---- on the lane
  void start(Lane& lane, Phase phase, std::size_t from, std::uint32_t ticket, const Facts& facts);
  PyOwned open_context();
  void answer(Lane& lane, RingVerdict verdict);
  RingVerdict request_verdict(PyObject* context);
  RingVerdict stop_verdict(PyObject* context, const PluginEntry& by);
  RingVerdict reply_verdict(PyObject* context);

  const std::shared_ptr<const PyRingHost> host_;
  const std::shared_ptr<SessionData> data_;
  WorkerPost& worker_;
  const std::shared_ptr<RingTrace> trace_ = std::make_shared<RingTrace>();

  // Where the exchange is: on its worker until it has crossed, then on the lane.
  std::optional<NativeExchange> native_;
  std::optional<RingReply> reply_;
  bool reply_changed_ = false;  // by native plugins
  bool told_ = false;
  std::vector<RingTrace::Step> steps_;  // of the chain under way

  bool crossed_ = false;         // worker
  bool native_stopped_ = false;  // worker: a native plugin ended the request's chain
  Done done_;                    // worker
  std::uint32_t ticket_ = 0;
  std::atomic<std::uint32_t> given_up_{0};

  PyRef context_;  // lane
  PyRef running_;
  Phase phase_ = Phase::request;
  std::uint32_t ticket_now_ = 0;
};

PyOwned note_value(const NativeExchange::Note& note) {
  if (const bool* truth = std::get_if<bool>(&note)) {
    return PyOwned::share(*truth ? Py_True : Py_False);
  }
  if (const double* number = std::get_if<double>(&note)) {
    return PyOwned::steal(PyFloat_FromDouble(*number));
  }
  return text(std::get<std::string>(note));
}

// A context that knows what the native plugins did before it.
PyOwned PyRingSession::open_context() {
  PyOwned context = make_context(data_);
  if (!context || !native_) return context;
  const NativeExchange& native = *native_;
  if (native.notes().empty() && native.placeholders.empty() && native.cache_key.empty()) {
    return context;
  }
  const PyOwned notes = PyOwned::steal(PyDict_New());
  const PyOwned values = PyOwned::steal(PyDict_New());
  if (!notes || !values) return {};
  for (const auto& [name, value] : native.notes()) {
    put(notes.get(), name.c_str(), note_value(value));
  }
  if (!native.cache_key.empty()) {
    put(notes.get(), "_cache_key", text(native.cache_key));
    put(notes.get(), "_cache_tenant", text(native_->tenant()));
    put(notes.get(), "_cache_status", text("MISS"));
  }
  for (const auto& [token, value] : native.placeholders) {
    put(values.get(), token.c_str(), text(value));
  }
  call(data_->handlers->adopt, context.get(), notes.get(), values.get());
  return context;
}

void PyRingSession::start(Lane& lane, Phase phase, std::size_t from, std::uint32_t ticket,
                          const Facts& facts) {
  if (ticket <= given_up_.load(std::memory_order_relaxed)) return;
  phase_ = phase;
  ticket_now_ = ticket;
  if (!context_) context_ = lane.ref(open_context());
  if (!std::exchange(told_, true)) data_->handlers->times->began(trace_);
  if (!context_) return;
  PyObject* context = context_.get();
  if (facts) {
    const PyOwned name = text(phase == Phase::reply   ? "reply"
                              : phase == Phase::chunk ? "chunk"
                                                      : "background");
    const PyOwned known_facts = facts();
    set_slot(context, layout.stop_chain, Py_False);
    if (name && known_facts) {
      call(data_->handlers->begin, context, name.get(), known_facts.get());
    }
  }
  const PluginChain& chain = host_->chain(phase);
  const std::shared_ptr<const PluginChain> shared(host_, &chain);
  PyOwned run =
      make_chain(lane.shared_from_this(), data_->handlers, shared, PyOwned::share(context),
                 std::shared_ptr<ChainOwner>(shared_from_this()), ticket, from);
  if (!run) return;
  running_ = lane.ref(PyOwned::share(run.get()));
  if (!chain.direct) {
    const PyOwned task = lane.start_task(std::move(run));
    if (!task) PyErr_WriteUnraisable(context);
    return;
  }
  // A context of its own, as a Task would have: what plugins set in ContextVars stays theirs.
  const PyOwned variables = PyOwned::steal(PyContext_CopyCurrent());
  if (!variables || PyContext_Enter(variables.get()) != 0) return;
  PyObject* result = nullptr;
  const PySendResult step = run_of(run.get()).send(Py_None, &result);
  Py_XDECREF(result);
  if (step == PYGEN_ERROR) PyErr_WriteUnraisable(context);
  if (step == PYGEN_NEXT)
    run_of(run.get()).close();  // it cannot; if it does, the exchange's patience settles it
  if (PyContext_Exit(variables.get()) != 0) PyErr_WriteUnraisable(context);
}

void PyRingSession::on_chain_end(Lane& lane, std::uint32_t tag, PyObject* context,
                                 const PluginEntry* stopped_by, bool cancelled) {
  if (tag != ticket_now_) return;  // the exchange went on without it
  running_.drop();
  tell_times();
  if (phase_ == Phase::background) context_.drop();
  if (cancelled || phase_ == Phase::background) return;
  if (stopped_by != nullptr) {
    answer(lane, stop_verdict(context, *stopped_by));
  } else if (phase_ == Phase::chunk) {
    answer(lane, RingVerdict{});
  } else {
    answer(lane, phase_ == Phase::request ? request_verdict(context) : reply_verdict(context));
  }
}

void PyRingSession::answer(Lane& lane, RingVerdict verdict) {
  lane.reply(worker_,
             [self = shared_from_this(), ticket = ticket_now_,
              held = std::move(verdict)]() mutable { self->deliver(ticket, std::move(held)); });
}

RingVerdict block(int status, std::string type, std::string message) {
  RingVerdict verdict;
  verdict.kind = RingVerdict::Kind::block;
  verdict.status = status;
  verdict.type = std::move(type);
  verdict.message = std::move(message);
  return verdict;
}

// Keys with a leading underscore are notes between plugins; no upstream knows them.
PyOwned without_notes(PyObject* body) {
  Py_ssize_t at = 0;
  PyObject *key, *value;
  bool noted = false;
  const auto is_note = [](PyObject* name) {
    return PyUnicode_Check(name) && PyUnicode_GET_LENGTH(name) > 0 &&
           PyUnicode_READ_CHAR(name, 0) == '_';
  };
  while (PyDict_Next(body, &at, &key, &value)) noted = noted || is_note(key);
  if (!noted) return PyOwned::share(body);
  PyOwned copy = PyOwned::steal(PyDict_New());
  at = 0;
  while (copy && PyDict_Next(body, &at, &key, &value)) {
    if (!is_note(key) && PyDict_SetItem(copy.get(), key, value) != 0) return {};
  }
  return copy;
}

// ctx.placeholders: {placeholder: value}, from whoever masks.
void take_placeholders(PyObject* context, Placeholders& out) {
  PyObject* noted = slot(context, layout.placeholders);
  if (noted == nullptr || !PyDict_Check(noted)) return;
  Py_ssize_t at = 0;
  PyObject *key, *value;
  while (PyDict_Next(noted, &at, &key, &value)) {
    Py_ssize_t key_size = 0, value_size = 0;
    const char* placeholder =
        PyUnicode_Check(key) ? PyUnicode_AsUTF8AndSize(key, &key_size) : nullptr;
    const char* stands_for =
        PyUnicode_Check(value) ? PyUnicode_AsUTF8AndSize(value, &value_size) : nullptr;
    if (placeholder != nullptr && stands_for != nullptr) {
      out.emplace(std::string(placeholder, static_cast<std::size_t>(key_size)),
                  std::string(stands_for, static_cast<std::size_t>(value_size)));
    }
    PyErr_Clear();
  }
}

RingVerdict PyRingSession::request_verdict(PyObject* context) {
  RingVerdict verdict;
  take_placeholders(context, verdict.placeholders);
  if (native_ && native_->request_changed()) {
    verdict.kind = RingVerdict::Kind::replace;
    verdict.body = data_->request.body;
  }
  PyObject* body = slot(context, layout.body);
  if (body == nullptr) return verdict;
  if (!PyDict_Check(body)) {
    return block(500, "plugin_error", "A plugin left a request body that is not a JSON object.");
  }
  const PyOwned clean = without_notes(body);
  if (!clean) PyErr_Clear();
  BodyChange change = compare_body(data_->request.body, clean ? clean.get() : body);
  if (!change.changed) return verdict;
  verdict.body.clear();
  if (!python_to_json(clean ? clean.get() : body, verdict.body)) {
    call(data_->handlers->unsendable, context, taken_error().get());
    return block(500, "plugin_error", "A plugin left a request body that is not JSON.");
  }
  verdict.kind = RingVerdict::Kind::replace;
  verdict.messages_from = std::move(change.messages_from);
  verdict.changed_keys = std::move(change.keys);
  return verdict;
}

// (status, headers, body) as the Python side gives them. False, nothing set, if the shape is wrong.
bool take_reply(PyObject* status, PyObject* headers, PyObject* body, RingVerdict& verdict) {
  verdict.status = static_cast<int>(PyLong_AsLong(status));
  Py_ssize_t at = 0;
  PyObject *key, *value;
  while (PyDict_Check(headers) && PyDict_Next(headers, &at, &key, &value)) {
    const char* name = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : nullptr;
    const char* held = PyUnicode_Check(value) ? PyUnicode_AsUTF8(value) : nullptr;
    if (name != nullptr && held != nullptr) verdict.headers.emplace_back(name, held);
  }
  if (!PyBytes_Check(body)) return false;
  verdict.body.assign(PyBytes_AS_STRING(body), static_cast<std::size_t>(PyBytes_GET_SIZE(body)));
  return PyErr_Occurred() == nullptr;
}

RingVerdict PyRingSession::stop_verdict(PyObject* context, const PluginEntry& by) {
  const PyOwned said = call(data_->handlers->verdict, context, by.facts.get());
  const char *kind = nullptr, *type = nullptr, *message = nullptr;
  int status = 0;
  PyObject *headers = nullptr, *body = nullptr;
  RingVerdict verdict;
  if (!said ||
      !PyArg_ParseTuple(said.get(), "sissOO", &kind, &status, &type, &message, &headers, &body)) {
    PyErr_Clear();
    verdict = block(500, "plugin_error", "A plugin stopped this request without saying why.");
  } else if (std::strcmp(kind, "answer") == 0) {
    verdict.kind = RingVerdict::Kind::answer;
    const PyOwned number = PyOwned::steal(PyLong_FromLong(status));
    if (!take_reply(number.get(), headers, body, verdict)) {
      PyErr_Clear();
      verdict = block(500, "plugin_error", "A plugin gave a reply that cannot be sent.");
    }
  } else {
    verdict = block(status, type, message);
  }
  verdict.plugin = *by.name;
  verdict.ring = by.ring;
  return verdict;
}

RingVerdict PyRingSession::reply_verdict(PyObject* context) {
  RingVerdict verdict;
  const PyOwned said = call(data_->handlers->reply_change, context);
  if (!said || said.get() == Py_None) {
    if (reply_changed_) {
      verdict.kind = RingVerdict::Kind::replace;
      verdict.status = reply_->status;
      verdict.body = reply_->body;
      verdict.ring = Ring::post_flight;
    }
    return verdict;
  }
  PyObject *status = nullptr, *headers = nullptr, *body = nullptr;
  if (!PyArg_ParseTuple(said.get(), "OOO", &status, &headers, &body) ||
      !take_reply(status, headers, body, verdict)) {
    PyErr_Clear();
    return RingVerdict{};
  }
  verdict.kind = RingVerdict::Kind::replace;
  verdict.ring = Ring::post_flight;
  return verdict;
}

PyTypeObject* make_type(PyType_Spec* spec) {
  return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(spec));
}

// The offset of a __slots__ member; -1 with an error set if there is none of that name.
Py_ssize_t slot_offset(PyObject* type, const char* name) {
  const PyOwned member = PyOwned::steal(PyObject_GetAttrString(type, name));
  if (!member) return -1;
  if (!Py_IS_TYPE(member.get(), &PyMemberDescr_Type)) {
    PyErr_Format(PyExc_TypeError, "%s is no slot", name);
    return -1;
  }
  return reinterpret_cast<PyMemberDescrObject*>(member.get())->d_member->offset;
}

}  // namespace

// ---- records and hosts

void RingTimes::began(std::shared_ptr<RingTrace> trace) {
  std::shared_ptr<RingTrace> oldest;
  const std::lock_guard lock(mutex_);
  if (traces_.size() == kTraces) {
    oldest = std::move(traces_.front());
    traces_.pop_front();
  }
  traces_.push_back(std::move(trace));
}

void RingTimes::took(RingTrace& trace, std::vector<RingTrace::Step> steps) {
  std::array<float, kRings.size()> total{};
  RingSet ran;
  for (const auto& step : steps) {
    total[static_cast<std::size_t>(step.ring)] += step.ms;
    ran.add(step.ring);
  }
  const std::lock_guard lock(mutex_);
  if (trace.steps.empty()) {
    trace.steps = std::move(steps);
  } else {
    trace.steps.insert(trace.steps.end(), steps.begin(), steps.end());
  }
  for (const Ring ring : kRings) {
    if (!ran.has(ring)) continue;
    auto& window = windows_[static_cast<std::size_t>(ring)];
    if (window.size() == kWindow) window.pop_front();
    window.push_back(total[static_cast<std::size_t>(ring)]);
  }
}

std::vector<RingTimes::Shown> RingTimes::traces() const {
  const std::lock_guard lock(mutex_);
  std::vector<Shown> out;
  for (const auto& trace : traces_) out.push_back({trace, trace->steps});
  return out;
}

std::vector<float> RingTimes::window(Ring ring) const {
  const std::lock_guard lock(mutex_);
  const auto& kept = windows_[static_cast<std::size_t>(ring)];
  return {kept.begin(), kept.end()};
}

void PluginRecord::ended(double latency_ms, bool failed) {
  const std::lock_guard lock(mutex_);
  PluginNumbers& now = numbers_;
  if (now.latencies_ms.size() < kWindow) {
    now.latencies_ms.push_back(static_cast<float>(latency_ms));
  } else {
    now.latencies_ms[now.invocations % kWindow] = static_cast<float>(latency_ms);
  }
  ++now.invocations;
  now.total_latency_ms += latency_ms;
  if (!failed) {
    now.consecutive_errors = 0;
    return;
  }
  ++now.errors;
  if (++now.consecutive_errors >= kQuarantineAfter) {
    now.quarantined_until = (Clock::now() + kQuarantine).time_since_epoch().count();
  }
}

bool PluginRecord::rests(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (numbers_.quarantined_until == 0) return false;
  if (now.time_since_epoch().count() < numbers_.quarantined_until) return true;
  numbers_.quarantined_until = 0;
  numbers_.consecutive_errors = 0;
  return false;
}

PluginNumbers PluginRecord::numbers() const {
  const std::lock_guard lock(mutex_);
  return numbers_;
}

namespace {

StreamRules stream_rules_of(const std::vector<PluginEntry>& entries) {
  StreamRules rules;
  for (const PluginEntry& entry : entries) {
    if (entry.ring != Ring::post_flight) continue;
    rules.hold_all = rules.hold_all || entry.stream.hold_all;
    rules.cut_loops = rules.cut_loops || entry.stream.cut_loops;
    rules.hear = rules.hear || entry.hears;
  }
  return rules;
}

RingSet rings_of(const std::vector<PluginEntry>& entries) {
  RingSet rings;
  for (const PluginEntry& entry : entries) rings.add(entry.ring);
  return rings;
}

}  // namespace

PyRingHost::PyRingHost(std::shared_ptr<LaneInbox> inbox,
                       std::shared_ptr<const RingHandlers> handlers,
                       std::vector<PluginEntry> entries, PyRef retired,
                       std::shared_ptr<NativeServices> services)
    : RingHost(rings_of(entries), stream_rules_of(entries)),
      inbox_(std::move(inbox)),
      handlers_(std::move(handlers)),
      retired_(std::move(retired)),
      services_(std::move(services)) {
  for (PluginEntry& entry : entries) {
    const Phase phase = entry.hears ? Phase::chunk : phase_of(entry.ring);
    PluginChain& chain = chains_[static_cast<std::size_t>(phase)];
    chain.direct = chain.direct && entry.direct;
    chain.entries.push_back(std::move(entry));
  }
}

PyRingHost::~PyRingHost() {
  if (!retired_) return;
  inbox_->post([retired = std::make_shared<PyRef>(std::move(retired_))](Lane&) {
    const PyOwned done = PyOwned::steal(PyObject_CallNoArgs(retired->get()));
  });
}

PyRingHost::Phase PyRingHost::phase_of(Ring ring) {
  if (ring == Ring::post_flight) return Phase::reply;
  return ring == Ring::background ? Phase::background : Phase::request;
}

std::shared_ptr<RingSession> PyRingHost::open(RingRequest request, WorkerPost& worker) {
  return std::make_shared<PyRingSession>(shared_from_this(), handlers_, std::move(request), worker);
}

std::chrono::milliseconds PyRingHost::patience(Phase phase) const {
  std::chrono::milliseconds total = kMargin;
  for (const PluginEntry& entry : chain(phase).entries) total += entry.timeout + kGrace;
  return total;
}

RingVerdict PyRingHost::overdue(Phase phase) const {
  for (const PluginEntry& entry : chain(phase).entries) {
    if (!entry.fail_closed) continue;
    RingVerdict verdict = block(504, "plugin_timeout", "The plugins did not answer in time.");
    verdict.plugin = *entry.name;
    verdict.ring = entry.ring;
    return verdict;
  }
  return {};
}

PyOwned chain_coroutine(Lane& lane, std::shared_ptr<const RingHandlers> handlers,
                        std::shared_ptr<const PluginChain> chain, PyObject* context) {
  return make_chain(lane.shared_from_this(), std::move(handlers), std::move(chain),
                    PyOwned::share(context), std::shared_ptr<ChainOwner>(), 0u, std::size_t{0});
}

bool init_ring_types() {
  if (chain_type != nullptr) return true;
  static PyMethodDef source_methods[] = {
      {"fill", source_fill, METH_O, "The value of a lazy field."},
      {nullptr, nullptr, 0, nullptr},
  };
  static PyType_Slot source_slots[] = {
      {Py_tp_dealloc, reinterpret_cast<void*>(source_dealloc)},
      {Py_tp_methods, source_methods},
      {0, nullptr},
  };
  static PyType_Spec source_spec{"llm_proxy._core.ContextSource", sizeof(SourceObject), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                 source_slots};
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
  source_type = make_type(&source_spec);
  chain_type = make_type(&chain_spec);
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
  return source_type != nullptr && chain_type != nullptr && known.cancelled_error != nullptr;
}

bool learn_context_type(PyObject* context_type) {
  struct Row {
    const char* name;
    Py_ssize_t& offset;
  };
  for (const Row& row :
       {Row{"body", layout.body}, Row{"response", layout.response}, Row{"error", layout.error},
        Row{"stop_chain", layout.stop_chain}, Row{"state", layout.state},
        Row{"_source", layout.source}, Row{"placeholders", layout.placeholders}}) {
    row.offset = slot_offset(context_type, row.name);
    if (row.offset < 0) return false;
  }
  return true;
}

}  // namespace llm_proxy
