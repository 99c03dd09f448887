#include "python/py_admin.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "python/bind.h"

namespace py = pybind11;

namespace llm_proxy {
namespace {

// One call, shared by the exchange's handle and the work on the lane.
class AdminCall : public std::enable_shared_from_this<AdminCall> {
 public:
  AdminCall(WorkerPost& worker, AdminHost::Done done) : worker_(worker), done_(std::move(done)) {}

  // Worker. Nobody waits any more: nothing is posted after it, the worker may be gone by then.
  void forget() {
    done_ = nullptr;
    wanted_.store(false, std::memory_order_relaxed);
  }
  // Any thread; the first one counts.
  void answer(AdminReply reply) {
    if (!wanted_.load(std::memory_order_relaxed) || told_.exchange(true)) return;
    worker_.post([call = shared_from_this(), reply = std::move(reply)]() mutable {
      if (const auto done = std::exchange(call->done_, nullptr)) done(std::move(reply));
    });
  }

 private:
  WorkerPost& worker_;
  AdminHost::Done done_;  // worker
  std::atomic<bool> wanted_{true};
  std::atomic<bool> told_{false};
};

// `AdminAnswer` of llm_proxy.admin.bridge. Whoever lets go of it unanswered has answered 503.
class Answer {
 public:
  explicit Answer(std::shared_ptr<AdminCall> call) : call_(std::move(call)) {}
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;
  ~Answer() { call_->answer({}); }

  void send(int status, std::string content_type,
            std::vector<std::pair<std::string, std::string>> headers, const py::bytes& body) {
    call_->answer({status, std::move(content_type), std::move(headers), std::string(body)});
  }

 private:
  const std::shared_ptr<AdminCall> call_;
};

class ServeWork final : public LaneWork {
 public:
  ServeWork(std::shared_ptr<AdminCall> call, AdminRequest request,
            std::shared_ptr<const PyRef> serve)
      : call_(std::move(call)), request_(std::move(request)), serve_(std::move(serve)) {}
  // Unrun: the lane has closed.
  ~ServeWork() override {
    if (call_ != nullptr) call_->answer({});
  }

  void run(Lane&) override {
    try {
      const py::object answer = py::cast(std::make_unique<Answer>(std::exchange(call_, nullptr)));
      const py::handle serve = serve_->get();
      serve(answer, request_.method, request_.path, request_.query, request_.headers,
            py::bytes(request_.body), request_.client_host, request_.admin);
    } catch (py::error_already_set& raised) {
      raised.restore();
      PyErr_WriteUnraisable(serve_->get());
    }
  }

 private:
  std::shared_ptr<AdminCall> call_;
  AdminRequest request_;
  const std::shared_ptr<const PyRef> serve_;
};

}  // namespace

PyAdminHost::PyAdminHost(std::shared_ptr<LaneInbox> inbox, PyRef serve)
    : inbox_(std::move(inbox)), serve_(std::make_shared<PyRef>(std::move(serve))) {}

std::shared_ptr<void> PyAdminHost::call(AdminRequest request, WorkerPost& worker, Done done) {
  auto call = std::make_shared<AdminCall>(worker, std::move(done));
  inbox_->submit(std::make_unique<ServeWork>(call, std::move(request), serve_));
  return std::shared_ptr<void>(nullptr, [call](void*) { call->forget(); });
}

void bind_admin(py::module_& module) {
  py::class_<Answer>(module, "AdminAnswer", "Where the answer to one admin request goes.")
      .def("send", &Answer::send, py::arg("status"), py::arg("content_type"), py::arg("headers"),
           py::arg("body"));
  py::class_<PyAdminHost, std::shared_ptr<PyAdminHost>>(module, "AdminHost",
                                                        "The admin API, for the engine.")
      .def(py::init([](const Lane& lane, const py::object& serve) {
             return std::make_shared<PyAdminHost>(lane.inbox(),
                                                  lane.ref(PyOwned::share(serve.ptr())));
           }),
           py::arg("lane"), py::arg("serve"));
}

}  // namespace llm_proxy
