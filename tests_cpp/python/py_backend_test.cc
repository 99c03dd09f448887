#include "python/py_backend.h"

#include <gtest/gtest.h>
#include <pybind11/embed.h>

#include <atomic>
#include <future>
#include <optional>

#include "tests_cpp/python/loop.h"

namespace py = pybind11;

namespace llm_proxy {
namespace {

// Runs `work` on the worker and waits for it.
void on(TestWorker& worker, const std::function<void()>& work) {
  std::promise<void> ran;
  worker.post([&] {
    work();
    ran.set_value();
  });
  ran.get_future().wait();
}

// An exchange's side. Touched on the worker; read by the test once settled.
struct Reply final : HostedSink {
  void on_head(HostedHead given) override { head = std::move(given); }
  void on_data(std::string bytes) override {
    data += bytes;
    ++pieces;
    unread += bytes.size();
    if (on_bytes) on_bytes();
  }
  void on_end() override {
    ended = true;
    settle();
  }
  void on_error(Error given) override {
    error = std::move(given);
    settle();
  }
  void settle() {
    if (on_settled) on_settled();
  }

  HostedHead head;
  std::string data;
  int pieces = 0;
  std::size_t unread = 0;
  bool ended = false;
  std::optional<Error> error;
  std::function<void()> on_bytes, on_settled;
};

// A loop with a bridge whose backends are written for these tests.
constexpr const char* kBackends = R"(
import asyncio, json
from llm_proxy.backends.base import LLMBackend
from llm_proxy.backends.registry import BackendRegistry
from llm_proxy.contracts.exceptions import RateLimitExceededError
from llm_proxy.contracts.responses import ResponseEnvelope, StreamingResponseEnvelope
from llm_proxy.backends.runtime.bridge import BackendBridge

events = []

def chunk(text, finish=None):
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}

class Backend(LLMBackend):
    def __init__(self, *args): pass
    async def initialize(self, **kwargs): pass
    async def chat_completions(self, request_data, effective_model, **kwargs):
        if effective_model == "fails":
            raise RateLimitExceededError("slow down", details={"retry_after": 7})
        if effective_model == "hangs":
            events.append("hangs")
            try:
                await asyncio.Event().wait()
            finally:
                events.append("cancelled")
        if request_data.stream:
            return StreamingResponseEnvelope(self.stream(effective_model))
        message = {"role": "assistant", "content": request_data.messages[-1].content}
        return ResponseEnvelope({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}, {"x-up": "1"})
    async def stream(self, model):
        try:
            for number in range(400 if model == "big" else 2):
                events.append(number)
                yield chunk("x" * 1000 if model == "big" else str(number))
            yield chunk("", "stop")
        finally:
            events.append("closed")

def bridge(lane):
    registry = BackendRegistry()
    registry.register_backend("b", Backend)
    return BackendBridge({"backends": {"b": {"models": ["m1"]}}}, registry, lane.start_task)
)";

class PyBackend : public testing::Test {
 protected:
  void SetUp() override {
    names_ = py::dict(py::arg("__name__") = "backends");
    py::exec(kBackends, names_);
    loop_ = py::module_::import("asyncio").attr("new_event_loop")();
    lane_ = py::module_::import("llm_proxy._core").attr("Lane")(loop_);
    // The bridge's client and gates belong to the loop.
    run(R"(
async def make():
    global made
    made = bridge(lane)
)",
        "make()");
    py::object host =
        py::module_::import("llm_proxy._core").attr("BackendHost")(lane_, names_["made"]);
    host_ = host.cast<std::shared_ptr<PyBackendHost>>();
  }
  void TearDown() override {
    lane_.attr("close")();
    run("", "made.close()");
    host_.reset();
    loop_.attr("close")();
  }
  // Runs `expression`, a coroutine, to its end on the loop.
  void run(const char* definitions, const char* expression) {
    names_["lane"] = lane_;
    py::exec(definitions, names_);
    loop_.attr("run_until_complete")(py::eval(expression, names_));
  }
  // Turns the loop until the worker says it is done.
  void turn_until(const std::atomic<bool>& done) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!done) {
      ASSERT_LT(std::chrono::steady_clock::now(), limit) << "the call does not end";
      run("", "asyncio.sleep(0.001)");
    }
  }
  // What one call brings. `prepare` sees the handle before anything has come.
  std::shared_ptr<Reply> ask(const char* model, bool stream) {
    auto reply = std::make_shared<Reply>();
    std::atomic<bool> settled = false;
    reply->on_settled = [&] { settled = true; };
    start(reply, model, stream);
    turn_until(settled);
    on(worker_, [&] { call_.reset(); });
    reply->on_settled = nullptr;
    return reply;
  }
  void start(const std::shared_ptr<Reply>& reply, const char* model, bool stream) {
    HostedRequest request{.instance = "b",
                          .model = model,
                          .body = R"({"model":"m","messages":[{"role":"user","content":"grüße"}]})",
                          .stream = stream,
                          .request_id = "r"};
    on(worker_, [&] { call_ = host_->call(std::move(request), reply, worker_); });
  }
  bool happened(const char* event) {
    return py::eval("events", names_).attr("__contains__")(event).cast<bool>();
  }
  int count() { return static_cast<int>(py::len(names_["events"])); }

  py::dict names_;
  py::object loop_, lane_;
  std::shared_ptr<PyBackendHost> host_;
  TestWorker worker_;
  std::shared_ptr<HostedCall> call_;
};

TEST_F(PyBackend, answers_whole) {
  const auto reply = ask("m", false);
  EXPECT_TRUE(reply->ended);
  EXPECT_EQ(reply->head.status, 200);
  EXPECT_FALSE(reply->head.streaming);
  EXPECT_EQ(reply->head.headers, (decltype(reply->head.headers){{"x-up", "1"}}));
  EXPECT_NE(reply->data.find("grüße"), std::string::npos);
}

TEST_F(PyBackend, streams_to_the_terminator) {
  const auto reply = ask("m", true);
  EXPECT_TRUE(reply->ended);
  EXPECT_TRUE(reply->head.streaming);
  EXPECT_TRUE(reply->data.ends_with("data: [DONE]\n\n"));
}

TEST_F(PyBackend, delivers_at_once_what_is_yielded_in_one_turn) {
  EXPECT_EQ(ask("m", true)->pieces, 1);
}

TEST_F(PyBackend, tells_an_exception_as_an_error) {
  const auto reply = ask("fails", false);
  ASSERT_TRUE(reply->error);
  EXPECT_EQ(reply->error->kind, ErrorKind::rate_limited);
  EXPECT_EQ(reply->error->message, "slow down");
  EXPECT_EQ(reply->error->retry_after, std::chrono::milliseconds(7000));
}

TEST_F(PyBackend, waits_for_a_client_that_reads_slowly_and_goes_on) {
  auto reply = std::make_shared<Reply>();
  std::atomic<bool> full = false, settled = false;
  reply->on_bytes = [&] { full = full || reply->unread > HostedCall::kHighWatermark; };
  reply->on_settled = [&] { settled = true; };
  start(reply, "big", true);
  turn_until(full);
  for (int turn = 0; turn < 20; ++turn) run("", "asyncio.sleep(0.001)");
  const int held = count();
  for (int turn = 0; turn < 20; ++turn) run("", "asyncio.sleep(0.001)");
  EXPECT_EQ(count(), held);
  EXPECT_LT(held, 100);
  const auto read = [&] { call_->consumed(std::exchange(reply->unread, 0)); };
  on(worker_, [&] {
    reply->on_bytes = read;
    read();
  });
  turn_until(settled);
  EXPECT_TRUE(reply->ended);
  EXPECT_GT(reply->data.size(), 400'000u);
  on(worker_, [&] { call_.reset(); });
}

TEST_F(PyBackend, cancels_what_the_backend_awaits) {
  const auto reply = std::make_shared<Reply>();
  start(reply, "hangs", false);
  while (!happened("hangs")) run("", "asyncio.sleep(0.001)");
  on(worker_, [&] { call_->cancel(); });
  run("", "asyncio.sleep(0.02)");
  EXPECT_TRUE(happened("cancelled"));
  EXPECT_FALSE(reply->ended);
  EXPECT_FALSE(reply->error);
  on(worker_, [&] { call_.reset(); });
}

TEST_F(PyBackend, closes_the_stream_when_the_handle_is_dropped) {
  const auto reply = std::make_shared<Reply>();
  std::atomic<bool> began = false;
  reply->on_bytes = [&] { began = true; };
  start(reply, "big", true);
  turn_until(began);
  on(worker_, [&] { call_.reset(); });
  run("", "asyncio.sleep(0.02)");
  EXPECT_TRUE(happened("closed"));
  EXPECT_FALSE(reply->ended);
}

TEST_F(PyBackend, says_so_when_the_lane_has_closed) {
  lane_.attr("close")();
  auto reply = std::make_shared<Reply>();
  start(reply, "m", false);
  on(worker_, [] {});
  ASSERT_TRUE(reply->error);
  EXPECT_EQ(reply->error->kind, ErrorKind::unavailable);
  on(worker_, [&] { call_.reset(); });
}

TEST_F(PyBackend, lists_models) {
  std::vector<HostedModels> offered;
  std::atomic<bool> done = false;
  host_->models(worker_, [&](std::vector<HostedModels> models) {
    offered = std::move(models);
    done = true;
  });
  turn_until(done);
  ASSERT_EQ(offered.size(), 1u);
  EXPECT_EQ(offered[0].instance, "b");
  EXPECT_EQ(offered[0].models, std::vector<std::string>{"m1"});
}

}  // namespace
}  // namespace llm_proxy
