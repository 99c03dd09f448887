#include "python/py_rings.h"

#include <atomic>
#include <cstring>
#include <functional>
#include <utility>

#include "python/json_convert.h"

namespace llm_proxy {
namespace {

using Clock = std::chrono::steady_clock;
using Phase = PyRingHost::Phase;

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

  Result<void> check_request() override {
    if (native_) return native_->check();
    return ChatRequestView().read(data_->request.body);
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
      reply_.emplace();
      reply_->status = verdict.status;
      for (const auto& [name, value] : verdict.headers) {
        reply_->fields.append(name).append(": ").append(value).append("\r\n");
      }
      reply_->body = verdict.body;
      seen_.emplace(*reply_);
    } else if (native_->request_changed()) {
      verdict.kind = RingVerdict::Kind::replace;
      verdict.body = data_->request.body;
    }
    verdict.placeholders = native_->placeholders;
    done(std::move(verdict));
  }

  void run_chunk(std::string text, Done done) override {
    submit(Phase::chunk, 0, std::move(done),
           [held = std::move(text)] { return text_object(held); });
  }

  void run_reply(RingReply reply, Done done) override {
    reply_ = std::move(reply);
    seen_.emplace(*reply_);
    const std::size_t from = run_natives(Phase::reply, [&](const NativePlugin& plugin) {
      return plugin.reply == nullptr ? NativeStep::python : plugin.reply(*native_, *seen_);
    });
    reply_changed_ = seen_->changed();
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
    if (outcome.reply) seen_.emplace(*outcome.reply);
    const std::size_t from = run_natives(Phase::background, [&](const NativePlugin& plugin) {
      return plugin.background == nullptr
                 ? NativeStep::python
                 : plugin.background(*native_, outcome, seen_ ? &*seen_ : nullptr);
    });
    seen_.reset();
    if (from == entries.size()) return;
    if (!outcome.reply && !crossed_) outcome.reply = std::move(reply_);
    submit(Phase::background, from, nullptr,
           [held = std::move(outcome)] { return outcome_facts(held); });
  }

  std::chrono::milliseconds patience(Ring ring, std::size_t bytes) const override {
    return host_->patience(PyRingHost::phase_of(ring), bytes);
  }

  bool is_busy() const override { return host_->inbox()->running().within_limit; }

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
    steps_.reserve(entries.size());
    auto clock = Clock::now();
    while (at < entries.size() && !native_stopped_) {
      const PluginEntry& entry = entries[at];
      if (entry.native == nullptr || entry.record->rests(clock)) break;
      native_->now = std::chrono::duration<double>(clock.time_since_epoch()).count();
      const NativeStep said = run(*entry.native);
      if (said == NativeStep::python) break;
      const auto now = Clock::now();
      const double ms = std::chrono::duration<double, std::milli>(now - clock).count();
      clock = now;
      entry.record->ended(ms);
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

  void deliver(std::uint32_t ticket, RingVerdict&& verdict) {
    if (ticket != ticket_ || !done_) return;
    Done done = std::exchange(done_, nullptr);
    done(std::move(verdict));
  }

  void give_up() {
    if (!done_) return;
    done_ = nullptr;
    given_up_.store(ticket_, std::memory_order_relaxed);
    host_->inbox()->post([self = shared_from_this(), ticket = ticket_](Lane&) {
      if (self->ticket_now_ == ticket && self->running_) cancel_chain(self->running_.get());
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
  void answer(Lane& lane, RingVerdict&& verdict);
  RunOrigin origin() const;
  std::size_t bytes_of(Phase phase) const;
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
  std::optional<NativeReply> seen_;  // of reply_, or of the outcome's reply
  bool reply_changed_ = false;       // by native plugins
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
  return text_object(std::get<std::string>(note));
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
    put_item(notes.get(), name, note_value(value));
  }
  if (!native.cache_key.empty()) {
    put_item(notes.get(), "_cache_key", text_object(native.cache_key));
    put_item(notes.get(), "_cache_tenant", text_object(native_->tenant()));
    put_item(notes.get(), "_cache_status", text_object("MISS"));
  }
  for (const auto& [token, value] : native.placeholders) {
    put_item(values.get(), token.c_str(), text_object(value));
  }
  call_handler(data_->handlers->adopt, context.get(), notes.get(), values.get());
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
    const PyOwned name = text_object(phase == Phase::reply   ? "reply"
                                     : phase == Phase::chunk ? "chunk"
                                                             : "background");
    const PyOwned known_facts = facts();
    set_slot(context, context_layout.stop_chain, Py_False);
    if (name && known_facts) {
      call_handler(data_->handlers->begin, context, name.get(), known_facts.get());
    }
  }
  const PluginChain& chain = host_->chain(phase);
  const std::shared_ptr<const PluginChain> shared(host_, &chain);
  PyOwned run =
      make_chain(lane.shared_from_this(), data_->handlers, shared, PyOwned::share(context),
                 {shared_from_this(), ticket, origin(), allowance_for(bytes_of(phase))}, from);
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
  run_chain(run.get(), context);
  if (PyContext_Exit(variables.get()) != 0) PyErr_WriteUnraisable(context);
}

// A client is its key, else its address.
RunOrigin PyRingSession::origin() const {
  const RingRequest& request = data_->request;
  const std::hash<std::string_view> hash;
  return {hash(request.key_hash.empty() ? request.client_host : request.key_hash),
          hash(request.request_id)};
}

std::size_t PyRingSession::bytes_of(Phase phase) const {
  if (phase == Phase::reply && reply_) return reply_->body.size();
  return phase == Phase::request ? data_->request.body.size() : 0;
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

void PyRingSession::answer(Lane& lane, RingVerdict&& verdict) {
  lane.reply(worker_,
             [self = shared_from_this(), ticket = ticket_now_,
              held = std::move(verdict)]() mutable { self->deliver(ticket, std::move(held)); });
}

// What a plugin may say to a client; more is cut off.
constexpr std::size_t kMaxType = 128;
constexpr std::size_t kMaxMessage = 4096;

// At most so many bytes of UTF-8, no character cut.
std::string bounded(std::string text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xc0) == 0x80) --most;
  text.resize(most);
  return text + "…";
}

RingVerdict block(int status, std::string type, std::string message) {
  RingVerdict verdict;
  verdict.kind = RingVerdict::Kind::block;
  verdict.status = status;
  verdict.type = bounded(std::move(type), kMaxType);
  verdict.message = bounded(std::move(message), kMaxMessage);
  return verdict;
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
  PyObject* noted = slot(context, context_layout.placeholders);
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
  PyObject* body = slot(context, context_layout.body);
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
    call_handler(data_->handlers->unsendable, context, taken_error().get());
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
  const PyOwned said = call_handler(data_->handlers->verdict, context, by.facts.get());
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
  const PyOwned said = call_handler(data_->handlers->reply_change, context);
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

RingSet guards_of(const std::vector<PluginEntry>& entries) {
  RingSet guards;
  for (const PluginEntry& entry : entries) {
    if (entry.fail_closed) guards.add(entry.ring);
  }
  return guards;
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
    : RingHost(rings_of(entries), stream_rules_of(entries), guards_of(entries)),
      inbox_(std::move(inbox)),
      handlers_(std::move(handlers)),
      retired_(std::move(retired)),
      services_(std::move(services)) {
  patience_.fill(kBusy);
  for (PluginEntry& entry : entries) {
    const Phase phase = entry.hears ? Phase::chunk : phase_of(entry.ring);
    PluginChain& chain = chains_[static_cast<std::size_t>(phase)];
    chain.direct = chain.direct && entry.direct;
    patience_[static_cast<std::size_t>(phase)] += entry.timeout + kGrace;
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

std::chrono::milliseconds PyRingHost::patience(Phase phase, std::size_t bytes) const {
  const auto count = static_cast<std::chrono::milliseconds::rep>(chain(phase).entries.size());
  return patience_[static_cast<std::size_t>(phase)] + count * allowance_for(bytes);
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

// Code that drives a ring itself is nobody's client: each run counts for itself.
PyOwned chain_coroutine(Lane& lane, std::shared_ptr<const RingHandlers> handlers,
                        std::shared_ptr<const PluginChain> chain, PyObject* context) {
  static std::uint64_t runs = 0;
  ++runs;
  ChainRequest request;
  request.origin = {runs, runs};
  return make_chain(lane.shared_from_this(), std::move(handlers), std::move(chain),
                    PyOwned::share(context), std::move(request), std::size_t{0});
}

bool init_ring_types() {
  return init_context_types() && init_chain_types();
}

}  // namespace llm_proxy
