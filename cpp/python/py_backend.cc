#include "python/py_backend.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "python/bind.h"

namespace py = pybind11;

namespace llm_proxy {
namespace {

Error gone() {
  return Error{.kind = ErrorKind::unavailable,
               .message = "The proxy is stopping; ask again in a moment."};
}

// A method without arguments of an object of ours; what it raises is logged.
void invoke(const PyRef& object, const char* method) {
  if (!object) return;
  if (!PyOwned::steal(PyObject_CallMethod(object.get(), method, nullptr)))
    PyErr_WriteUnraisable(object.get());
}

// The exchange's handle: dropping it cancels.
class Handle final : public HostedCall {
 public:
  explicit Handle(std::shared_ptr<PyBackendCall> call) : call_(std::move(call)) {}
  ~Handle() override { call_->cancel(); }
  void cancel() override { call_->cancel(); }
  void consumed(std::size_t bytes) override { call_->consumed(bytes); }

 private:
  const std::shared_ptr<PyBackendCall> call_;
};

// `ReplySink` of llm_proxy.backends.runtime.bridge. Lane only; lives as long as the backend's task.
class ReplySink {
 public:
  ReplySink(Lane& lane, std::shared_ptr<PyBackendCall> call)
      : lane_(lane.shared_from_this()), call_(std::move(call)) {}
  ReplySink(const ReplySink&) = delete;
  ReplySink& operator=(const ReplySink&) = delete;
  ~ReplySink() { call_->error(*lane_, gone()); }

  void head(int status, bool streaming, std::string media_type,
            std::vector<std::pair<std::string, std::string>> headers) {
    call_->head(*lane_, HostedHead{status, streaming, std::move(media_type), std::move(headers)});
  }
  bool data(const py::bytes& chunk) { return call_->data(*lane_, std::string_view(chunk)); }
  void end() { call_->end(*lane_); }
  void error(int status, std::string type, std::string code, std::string message,
             std::optional<double> retry_after) {
    Error error{.kind = kind_of_status(status),
                .message = std::move(message),
                .status = status,
                .type = std::move(type),
                .code = std::move(code)};
    if (retry_after)
      error.retry_after = std::chrono::milliseconds(static_cast<std::int64_t>(*retry_after * 1000));
    call_->error(*lane_, std::move(error));
  }

 private:
  const std::shared_ptr<Lane> lane_;
  const std::shared_ptr<PyBackendCall> call_;
};

// Begins one call on the lane.
class StartWork final : public LaneWork {
 public:
  StartWork(std::shared_ptr<PyBackendCall> call, HostedRequest request,
            std::shared_ptr<const PyRef> start)
      : call_(std::move(call)), request_(std::move(request)), start_(std::move(start)) {}
  // Unrun: the lane has closed.
  ~StartWork() override {
    if (call_ != nullptr) call_->abandon();
  }

  void run(Lane& lane) override {
    const std::shared_ptr<PyBackendCall> call = std::exchange(call_, nullptr);
    if (!call->wanted()) return;
    try {
      const py::object sink = py::cast(std::make_unique<ReplySink>(lane, call));
      const py::handle start = start_->get();
      py::object running =
          start(sink, request_.instance, request_.model, py::bytes(request_.body), request_.stream,
                request_.request_id, request_.session_id, request_.client_host, request_.headers);
      call->runs_as(lane.ref(PyOwned::steal(running.release().ptr())));
    } catch (py::error_already_set& raised) {
      raised.restore();
      PyErr_WriteUnraisable(start_->get());
      call->error(lane, Error{.kind = ErrorKind::internal,
                              .message = "The backend could not be called.",
                              .code = "backend_error"});
    }
  }

 private:
  std::shared_ptr<PyBackendCall> call_;
  HostedRequest request_;
  const std::shared_ptr<const PyRef> start_;
};

// Asks for the models; whatever happens, `done` is called once on the worker.
class ModelsWork final : public LaneWork {
 public:
  using Done = std::function<void(std::vector<HostedModels>)>;

  ModelsWork(std::shared_ptr<const PyRef> list_models, WorkerPost& worker, Done done)
      : list_models_(std::move(list_models)), worker_(worker), done_(std::move(done)) {}
  ~ModelsWork() override {
    if (done_) tell({});
  }

  void run(Lane& lane) override {
    auto held = std::make_shared<ModelsWork>(std::move(list_models_), worker_,
                                             std::exchange(done_, nullptr));
    try {
      const py::handle list_models = held->list_models_->get();
      list_models(py::cpp_function(
          [held](const std::vector<std::pair<std::string, std::vector<std::string>>>& offered) {
            std::vector<HostedModels> models;
            for (const auto& [instance, names] : offered) models.push_back({instance, names});
            held->tell(std::move(models));
          }));
    } catch (py::error_already_set& raised) {
      raised.restore();
      PyErr_WriteUnraisable(held->list_models_->get());
    }
  }

 private:
  void tell(std::vector<HostedModels> models) {
    if (Done done = std::exchange(done_, nullptr))
      worker_.post([done = std::move(done), models = std::move(models)]() mutable {
        done(std::move(models));
      });
  }

  std::shared_ptr<const PyRef> list_models_;
  WorkerPost& worker_;
  Done done_;
};

// Asks for a key; whatever happens, `done` is called once on the worker.
class KeyWork final : public LaneWork {
 public:
  using Done = std::function<void(const Result<HostedKey>&)>;

  KeyWork(std::shared_ptr<const PyRef> key, std::string instance, std::string refused,
          WorkerPost& worker, Done done)
      : key_(std::move(key)),
        instance_(std::move(instance)),
        refused_(std::move(refused)),
        worker_(worker),
        done_(std::move(done)) {}
  ~KeyWork() override {
    if (done_) tell(gone());
  }

  void run(Lane& lane) override {
    auto held = std::make_shared<KeyWork>(key_, std::move(instance_), std::move(refused_), worker_,
                                          std::exchange(done_, nullptr));
    (void)lane;
    try {
      const py::handle key = held->key_->get();
      key(held->instance_, held->refused_,
          py::cpp_function(
              [held](std::string value, std::int64_t expires) {
                held->tell(HostedKey{std::move(value), expires});
              },
              py::arg("value"), py::arg("expires_millis")),
          py::cpp_function(
              [held](int status, std::string code, std::string message) {
                held->tell(Error{.kind = kind_of_status(status),
                                 .message = std::move(message),
                                 .status = status,
                                 .code = std::move(code)});
              },
              py::arg("status"), py::arg("code"), py::arg("message")));
    } catch (py::error_already_set& raised) {
      raised.restore();
      PyErr_WriteUnraisable(held->key_->get());
    }
  }

 private:
  void tell(Result<HostedKey> key) {
    if (Done done = std::exchange(done_, nullptr))
      worker_.post([done = std::move(done), key = std::move(key)] { done(key); });
  }

  std::shared_ptr<const PyRef> key_;
  std::string instance_;
  std::string refused_;
  WorkerPost& worker_;
  Done done_;
};

}  // namespace

// ---- on the worker

void PyBackendCall::cancel() {
  if (sink_ == nullptr) return;
  sink_.reset();
  cancelled_.store(true, std::memory_order_relaxed);
  inbox_->post([call = shared_from_this()](Lane&) { invoke(call->running_, "cancel"); });
}

void PyBackendCall::consumed(std::size_t bytes) {
  const std::size_t left = unread_.fetch_sub(bytes) - bytes;
  if (left <= HostedCall::kLowWatermark && waiting_.exchange(false))
    inbox_->post([call = shared_from_this()](Lane&) { invoke(call->running_, "resume"); });
}

// Each word may make the exchange cancel this call, and let the sink go.
void PyBackendCall::hear(Said said) {
  if (said.head && sink_) std::shared_ptr(sink_)->on_head(*std::move(said.head));
  if (!said.bytes.empty() && sink_) std::shared_ptr(sink_)->on_data(std::move(said.bytes));
  if (said.error) settle_with(*std::move(said.error));
  if (said.ended && sink_) std::exchange(sink_, nullptr)->on_end();
}

void PyBackendCall::settle_with(Error error) {
  if (const auto sink = std::exchange(sink_, nullptr)) sink->on_error(std::move(error));
}

// ---- on the lane

// Once nobody wants it, nothing is posted any more: a backend that goes on may outlive the worker.

template <typename Fill>
void PyBackendCall::say(Lane& lane, Fill fill) {
  const bool first = !said_;
  if (first) said_.emplace();
  fill(*said_);
  if (!first) return;
  lane.at_turn_end([call = shared_from_this(), &lane] {
    Said said = *std::exchange(call->said_, std::nullopt);
    if (!call->wanted()) return;
    lane.reply(call->worker_,
               [call, said = std::move(said)]() mutable { call->hear(std::move(said)); });
  });
}

void PyBackendCall::head(Lane& lane, HostedHead head) {
  if (wanted()) say(lane, [&](Said& said) { said.head = std::move(head); });
}

bool PyBackendCall::data(Lane& lane, std::string_view bytes) {
  if (!wanted()) return false;
  const std::size_t unread = unread_.fetch_add(bytes.size()) + bytes.size();
  say(lane, [&](Said& said) { said.bytes += bytes; });
  if (unread <= HostedCall::kHighWatermark) return false;
  waiting_.store(true);
  // The worker may have caught up in between, without having seen that anybody waits.
  return unread_.load() > HostedCall::kLowWatermark || !waiting_.exchange(false);
}

void PyBackendCall::finish(Lane& lane, std::optional<Error> error) {
  if (!wanted() || told_.exchange(true)) return;
  say(lane, [&](Said& said) {
    said.ended = !error;
    said.error = std::move(error);
  });
}

void PyBackendCall::abandon() {
  if (!wanted() || told_.exchange(true)) return;
  worker_.post([call = shared_from_this()] { call->settle_with(gone()); });
}

// ---- the host

PyBackendHost::PyBackendHost(std::shared_ptr<LaneInbox> inbox, PyRef start, PyRef list_models,
                             PyRef key)
    : inbox_(std::move(inbox)),
      start_(std::make_shared<PyRef>(std::move(start))),
      list_models_(std::make_shared<PyRef>(std::move(list_models))),
      key_(std::make_shared<PyRef>(std::move(key))) {}

std::shared_ptr<HostedCall> PyBackendHost::call(HostedRequest request,
                                                std::shared_ptr<HostedSink> sink,
                                                WorkerPost& worker) {
  auto call = std::make_shared<PyBackendCall>(std::move(sink), worker, inbox_);
  inbox_->submit(std::make_unique<StartWork>(call, std::move(request), start_));
  return std::make_shared<Handle>(std::move(call));
}

void PyBackendHost::models(WorkerPost& worker,
                           std::function<void(std::vector<HostedModels>)> done) {
  inbox_->submit(std::make_unique<ModelsWork>(list_models_, worker, std::move(done)));
}

void PyBackendHost::key(std::string instance, std::string refused, WorkerPost& worker,
                        std::function<void(const Result<HostedKey>&)> done) {
  inbox_->submit(std::make_unique<KeyWork>(key_, std::move(instance), std::move(refused), worker,
                                           std::move(done)));
}

void bind_backends(py::module_& module) {
  py::class_<ReplySink>(module, "ReplySink", "Where a backend's reply goes: into one exchange.")
      .def("head", &ReplySink::head, py::arg("status"), py::arg("streaming"), py::arg("media_type"),
           py::arg("headers"))
      .def("data", &ReplySink::data, py::arg("chunk"),
           "True: the client reads slowly; wait for Running.resume before the next chunk.")
      .def("end", &ReplySink::end)
      .def("error", &ReplySink::error, py::arg("status"), py::arg("type"), py::arg("code"),
           py::arg("message"), py::arg("retry_after"));
  py::class_<BackendHost, std::shared_ptr<BackendHost>>(module, "BackendHostBase");
  py::class_<PyBackendHost, BackendHost, std::shared_ptr<PyBackendHost>>(
      module, "BackendHost", "The Python backends of this process, for the engine.")
      .def(py::init([](const Lane& lane, const py::object& bridge) {
             const auto keep = [&](const char* method) {
               return lane.ref(PyOwned::steal(py::object(bridge.attr(method)).release().ptr()));
             };
             return std::make_shared<PyBackendHost>(lane.inbox(), keep("start"),
                                                    keep("list_models"), keep("key"));
           }),
           py::arg("lane"), py::arg("bridge"));
}

}  // namespace llm_proxy
