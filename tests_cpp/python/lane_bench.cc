#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>

#include "python/embed.h"
#include "python/py_rings.h"
#include "tests_cpp/python/loop.h"

// What a chain of plugins costs an exchange: one worker keeps `depth` exchanges in flight through
// the lane and back.
//
//   lane_bench [jobs]

namespace llm_proxy {
namespace {

constexpr const char* kPlugins = R"(
import asyncio
from llm_proxy import _core
from llm_proxy.rings.context import PluginState
from llm_proxy.rings.runtime.engine import RingEngine, RingEntry
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse

async def nothing(ctx):
    return None

async def eager(ctx):
    if ctx is None:
        await asyncio.sleep(0)

async def edits(ctx):
    ctx.body["user"] = "x"

async def suspends(ctx):
    await asyncio.sleep(0)

class Passes(BasePlugin):
    async def execute(self, ctx):
        return PluginResponse.passthrough()

KINDS = {"direct": nothing, "eager": eager, "class": Passes().execute, "edits": edits,
         "suspends": suspends}

def host(lane, kind, count):
    handlers = _core.RingHandlers(lane, RingEngine(PluginState()))
    rows = [RingEntry(f"p{i}", PluginHook.PRE_FLIGHT, "python", KINDS[kind], 500, "open").native()
            for i in range(count)]
    return _core.RingHost(lane, handlers, rows)
)";

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return time.tv_sec + time.tv_usec * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Lives on the worker.
struct Load {
  PyRingHost& host;
  TestWorker& worker;
  TestLoop& loop;
  std::string body;
  int to_start, to_finish;

  void start_one() {
    if (to_start == 0) return;
    --to_start;
    RingRequest request;
    request.body = body;
    auto session = host.open(std::move(request), worker);
    RingSession& running = *session;
    running.run_request([this, held = std::move(session)](RingVerdict) {
      start_one();
      if (--to_finish == 0) loop.stop();
    });
  }
};

std::string body_of(std::size_t bytes) {
  std::string body = R"({"model":"m","messages":[)";
  while (body.size() < bytes) {
    body += R"({"role":"user","content":"The quick brown fox jumps over the lazy dog, twice."},)";
  }
  body.back() = ']';
  return body + '}';
}

void measure(const char* kind, int count, int depth, int jobs) {
  PyObject* main = PyImport_AddModule("__main__");
  TestLoop loop;
  const PyOwned made = PyOwned::steal(PyObject_GetAttrString(main, "host"));
  // A second lane object on the same loop would do; the bindings make their own from the loop.
  const PyOwned core = PyOwned::steal(PyImport_ImportModule("_llm_proxy_core"));
  const PyOwned lane =
      PyOwned::steal(PyObject_CallMethod(core.get(), "Lane", "O", loop.lane().loop()));
  const PyOwned object =
      PyOwned::steal(PyObject_CallFunction(made.get(), "Osi", lane.get(), kind, count));
  if (!object) {
    PyErr_Print();
    std::exit(1);
  }
  PyRingHost& host = *ring_host_of(object.get());
  {
    TestWorker worker;
    Load load{host, worker, loop, body_of(2048), jobs, jobs};
    const double cpu = cpu_seconds();
    const auto start = std::chrono::steady_clock::now();
    worker.post([&] {
      for (int i = 0; i < depth; ++i) load.start_one();
    });
    loop.run();
    const double wall =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%-9s x%-3d depth %-4d  wall %7.2f us   cpu %7.2f us\n", kind, count, depth,
                wall / jobs * 1e6, (cpu_seconds() - cpu) / jobs * 1e6);
  }
  const PyOwned closed = PyOwned::steal(PyObject_CallMethod(lane.get(), "close", nullptr));
}

}  // namespace
}  // namespace llm_proxy

int main(int argc, char** argv) {
  const int jobs = argc > 1 ? std::atoi(argv[1]) : 200'000;
  if (!llm_proxy::start_python(1, argv)) return 1;
  if (PyRun_SimpleString(llm_proxy::kPlugins) != 0) return 1;
  for (const char* kind : {"direct", "eager", "class", "edits", "suspends"}) {
    for (const int count : {1, 5, 20}) llm_proxy::measure(kind, count, 256, jobs);
    llm_proxy::measure(kind, 1, 16, jobs);
    llm_proxy::measure(kind, 1, 1, jobs / 10);
  }
  return 0;
}
