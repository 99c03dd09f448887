#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <map>
#include <memory>

#include "python/bind.h"
#include "python/exit_watch.h"
#include "python/json_convert.h"
#include "python/py_rings.h"

namespace py = pybind11;

namespace llm_proxy {
namespace {

PyRef keep(const Lane& lane, const py::handle& object) {
  return lane.ref(PyOwned::share(object.ptr()));
}

py::object taken(PyOwned object) {
  if (!object) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object.release());
}

// (ring, name, call, facts, timeout_ms, fail_closed, direct, record, stream, native):
// RingEntry.native() of llm_proxy.rings.runtime.engine.
PluginEntry entry_from(const Lane& lane, const py::tuple& row) {
  const auto ring = ring_named(row[0].cast<std::string>());
  if (!ring) throw py::value_error("no such ring: " + row[0].cast<std::string>());
  PluginEntry entry;
  entry.ring = *ring;
  entry.name = std::make_shared<const std::string>(row[1].cast<std::string>());
  entry.lasting = lasting_name(*entry.name);
  entry.call = keep(lane, row[2]);
  entry.facts = keep(lane, row[3]);
  entry.timeout = std::chrono::milliseconds(
      std::max<std::int64_t>(1, static_cast<std::int64_t>(row[4].cast<double>())));
  entry.fail_closed = row[5].cast<bool>();
  entry.direct = row[6].cast<bool>();
  entry.record = row[7].cast<std::shared_ptr<PluginRecord>>();
  const auto stream = row[8].cast<std::string>();
  entry.stream.hold_all = stream == "buffer";
  entry.stream.cut_loops = stream == "cut_loops";
  entry.hears = stream == "chunk";
  entry.native = native_plugin(row[9].cast<std::string>());
  return entry;
}

std::vector<PluginEntry> entries_from(const Lane& lane, const py::list& rows) {
  std::vector<PluginEntry> entries;
  for (const auto& row : rows) entries.push_back(entry_from(lane, row.cast<py::tuple>()));
  return entries;
}

std::shared_ptr<RingHandlers> handlers_from(const Lane& lane, const py::object& engine) {
  if (!learn_context_type(py::object(engine.attr("context_type")).ptr()))
    throw py::error_already_set();
  auto handlers = std::make_shared<RingHandlers>();
  struct Row {
    const char* name;
    PyRef& place;
  };
  for (const Row& row :
       {Row{"context_type", handlers->context_type}, Row{"state", handlers->state},
        Row{"fill", handlers->fill}, Row{"adopt", handlers->adopt}, Row{"begin", handlers->begin},
        Row{"settle", handlers->settle}, Row{"failed", handlers->failed},
        Row{"timed_out", handlers->timed_out}, Row{"quarantined", handlers->quarantined},
        Row{"stopped", handlers->stopped}, Row{"verdict", handlers->verdict},
        Row{"reply_change", handlers->reply_change}, Row{"unsendable", handlers->unsendable}}) {
    row.place = keep(lane, engine.attr(row.name));
  }
  return handlers;
}

// [{req_id, timestamp, rings: {ring: {duration_ms, plugins: [{name, ms}]}}, total_ms, …}]
py::list traces(const RingHandlers& handlers) {
  py::list out;
  const auto kept = handlers.times->traces();
  for (auto at = kept.rbegin(); at != kept.rend(); ++at) {
    const RingTrace& trace = *at->trace;
    py::dict rings;
    for (const Ring ring : kRings) {
      py::list plugins;
      double total = 0;
      for (const RingTrace::Step& step : at->steps) {
        if (step.ring != ring) continue;
        py::dict row;
        row["name"] = *step.plugin;
        row["ms"] = step.ms;
        plugins.append(row);
        total += static_cast<double>(step.ms);
      }
      if (plugins.empty()) continue;
      py::dict shown;
      shown["duration_ms"] = total;
      shown["plugins"] = plugins;
      rings[py::str(std::string(name(ring)))] = shown;
    }
    py::dict shown;
    shown["req_id"] = trace.request_id;
    shown["timestamp"] = trace.arrived_at;
    shown["rings"] = rings;
    const auto put = [&](const char* key, const std::atomic<float>& ms) {
      if (ms.load() >= 0) shown[key] = ms.load();
    };
    put("total_ms", trace.total_ms);
    put("upstream_ms", trace.upstream_ms);
    put("ttft_ms", trace.first_token_ms);
    out.append(shown);
  }
  return out;
}

py::dict ring_times(const RingHandlers& handlers) {
  py::dict out;
  for (const Ring ring : kRings) {
    const auto window = handlers.times->window(ring);
    if (!window.empty()) out[py::str(std::string(name(ring)))] = window;
  }
  return out;
}

template <typename Field>
auto shown(Field PluginNumbers::*field) {
  return [field](const PluginRecord& record) { return record.numbers().*field; };
}

const char* kind_name(RingVerdict::Kind kind) {
  constexpr std::array kNames{"proceed", "replace", "block", "answer"};
  return kNames[static_cast<std::size_t>(kind)];
}

// A verdict as Python reads it: only what its kind uses.
py::dict as_dict(const RingVerdict& verdict) {
  py::dict out;
  out["kind"] = kind_name(verdict.kind);
  if (!verdict.placeholders.empty()) out["placeholders"] = verdict.placeholders;
  if (verdict.kind == RingVerdict::Kind::proceed) return out;
  if (verdict.kind == RingVerdict::Kind::block) {
    out["status"] = verdict.status;
    out["type"] = verdict.type;
    out["message"] = verdict.message;
  } else {
    py::dict headers;
    for (const auto& [name, value] : verdict.headers) headers[py::str(name)] = value;
    out["body"] = py::bytes(verdict.body);
    out["status"] = verdict.status;
    out["headers"] = headers;
    out["messages_from"] = verdict.messages_from;
    out["changed_keys"] = verdict.changed_keys;
  }
  out["plugin"] = verdict.plugin;
  out["ring"] = std::string(name(verdict.ring));
  return out;
}

// An exchange without a client: runs a generation as the engine does, from Python. For health
// checks and tests. Its worker is the lane itself.
class RingProbe {
 public:
  RingProbe(std::shared_ptr<Lane> lane, PyRingHost& host, RingRequest request)
      : lane_(std::move(lane)), session_(host.open(std::move(request), lane_->as_worker())) {}

  py::object request() {
    return expect([this](RingSession::Done done) { session_->run_request(std::move(done)); });
  }

  py::object reply(int status, const py::bytes& body, bool streamed) {
    return expect([&](RingSession::Done done) {
      RingReply reply;
      reply.status = status;
      reply.fields = "content-type: application/json\r\n";
      reply.body = std::string(body);
      reply.streamed = streamed;
      session_->run_reply(std::move(reply), std::move(done));
    });
  }

  py::object chunk(std::string text) {
    return expect(
        [&](RingSession::Done done) { session_->run_chunk(std::move(text), std::move(done)); });
  }

  void background(int status, std::int64_t input_tokens, std::int64_t output_tokens) {
    RingOutcome outcome;
    outcome.status = status;
    outcome.input_tokens = input_tokens;
    outcome.output_tokens = output_tokens;
    session_->run_background(std::move(outcome));
  }

  void cancel() { session_->cancel(); }
  py::dict overdue(const std::string& ring) { return as_dict(session_->overdue(ring_of(ring))); }
  double patience(const std::string& ring, std::size_t bytes) const {
    return std::chrono::duration<double>(session_->patience(ring_of(ring), bytes)).count();
  }
  // None: plugins can be shown the request.
  std::optional<std::string> problem() {
    const auto fits = session_->check_request();
    return fits ? std::nullopt : std::optional(fits.error().message);
  }

 private:
  static Ring ring_of(const std::string& name) {
    const auto ring = ring_named(name);
    if (!ring) throw py::value_error("no such ring: " + name);
    return *ring;
  }

  template <typename Start>
  py::object expect(Start start) {
    py::object future = py::reinterpret_borrow<py::object>(lane_->loop()).attr("create_future")();
    auto held = std::make_shared<PyRef>(keep(*lane_, future));
    start([held](RingVerdict verdict) {
      const py::handle waiting(held->get());
      if (!waiting.attr("done")().cast<bool>()) waiting.attr("set_result")(as_dict(verdict));
    });
    return future;
  }

  const std::shared_ptr<Lane> lane_;
  const std::shared_ptr<RingSession> session_;
};

}  // namespace

PyRingHost* ring_host_of(PyObject* object) {
  return py::handle(object).cast<PyRingHost*>();
}

void bind_lane(py::module_& module) {
  py::class_<Lane, std::shared_ptr<Lane>>(
      module, "Lane", "The thread that runs plugins: attaches to the running asyncio loop.")
      .def(py::init([](const py::object& loop) {
             auto lane = Lane::attach(loop.ptr());
             if (lane == nullptr) throw py::error_already_set();
             return lane;
           }),
           py::arg("loop"))
      .def(
          "close", [](Lane& lane) { return taken(lane.close()); },
          "Detaches, cancels the tasks that run and returns them to be awaited.")
      .def(
          "lag",
          [](const Lane& lane) {
            return std::chrono::duration<double>(lane.inbox()->lag()).count();
          },
          "Seconds the oldest work has waited for the loop, or one turn has lasted.")
      .def(
          "interrupt",
          [](Lane& lane, const py::object& exception) { return lane.interrupt(exception.ptr()); },
          py::arg("exception"),
          "Raises in the lane's thread if a plugin has been computing for longer than it may. Any "
          "thread.")
      .def(
          "start_task",
          [](Lane& lane, const py::object& coroutine) {
            return taken(lane.start_task(PyOwned::share(coroutine.ptr())));
          },
          py::arg("coroutine"), "Runs a coroutine as a Task whose first step runs now.")
      .def_property_readonly("running_tasks", &Lane::running_tasks)
      .def("counters", [](const Lane& lane) {
        const Lane::Counters& c = lane.counters();
        py::dict counters;
        counters["jobs"] = c.jobs;
        counters["drains"] = c.drains;
        counters["posts"] = c.posts;
        counters["tasks"] = c.tasks;
        counters["suspended"] = c.suspended;
        return counters;
      });
  py::class_<ExitWatch, std::unique_ptr<ExitWatch, py::nodelete>>(
      module, "ExitWatch", "Ends the process when the interpreter does not. One, and for good.")
      .def(py::init([](const std::vector<int>& signals, double grace) {
             return std::unique_ptr<ExitWatch, py::nodelete>(
                 new ExitWatch(signals, std::chrono::milliseconds(std::llround(grace * 1000))));
           }),
           py::arg("signals"), py::arg("grace"),
           "From the first of `signals` on, the process has `grace` seconds to end by itself.")
      .def(
          "follow", [](ExitWatch& watch, const Lane& lane) { watch.follow(lane.inbox()); },
          py::arg("lane"), "Whose plugins are named on standard error.");
  module.def(
      "loads", [](const py::bytes& json) { return taken(json_to_python(std::string_view(json))); },
      py::arg("json"), "json.loads for UTF-8 bytes, as request bodies are read.");
  module.def(
      "dumps",
      [](const py::object& value) {
        std::string json;
        if (!python_to_json(value.ptr(), json)) throw py::error_already_set();
        return py::bytes(json);
      },
      py::arg("value"), "Compact JSON as UTF-8 bytes, as request bodies are written.");
  module.def(
      "compare_body",
      [](const py::bytes& source, const py::object& body) {
        const BodyChange change = compare_body(std::string_view(source), body.ptr());
        return py::make_tuple(change.changed, change.keys, change.messages_from);
      },
      py::arg("source"), py::arg("body"),
      "(changed, changed keys, where each message stood) of a body made from `source`.");
}

void bind_rings(py::module_& module) {
  if (!init_ring_types()) throw py::error_already_set();
  py::class_<PluginRecord, std::shared_ptr<PluginRecord>>(module, "PluginRecord",
                                                          "The numbers of one plugin.")
      .def(py::init<>())
      .def_property_readonly("invocations", shown(&PluginNumbers::invocations))
      .def_property_readonly("errors", shown(&PluginNumbers::errors))
      .def_property_readonly("blocks", shown(&PluginNumbers::blocks))
      .def_property_readonly("timeouts", shown(&PluginNumbers::timeouts))
      .def_property_readonly("left_behind", shown(&PluginNumbers::left_behind))
      .def_property_readonly("total_latency_ms", shown(&PluginNumbers::total_latency_ms))
      .def_property_readonly("consecutive_errors", shown(&PluginNumbers::consecutive_errors))
      .def_property_readonly(
          "quarantined",
          [](const PluginRecord& record) { return record.numbers().quarantined_until != 0; })
      .def_property_readonly("latencies_ms", shown(&PluginNumbers::latencies_ms));
  py::class_<RingHandlers, std::shared_ptr<RingHandlers>>(
      module, "RingHandlers", "The Python side of the plugin contract, bound to a lane.")
      .def(py::init([](const Lane& lane, const py::object& engine) {
             return handlers_from(lane, engine);
           }),
           py::arg("lane"), py::arg("engine"))
      .def("traces", &traces, "The last exchanges, newest first: what each plugin took.")
      .def("ring_times", &ring_times, "The last times of each ring that ran, in milliseconds.");
  py::class_<PyRingHost, std::shared_ptr<PyRingHost>>(module, "RingHost",
                                                      "One generation of Python plugins.")
      .def(py::init([](const Lane& lane, const std::shared_ptr<RingHandlers>& handlers,
                       const py::list& entries, const py::object& retired,
                       std::shared_ptr<NativeServices> services) {
             return std::make_shared<PyRingHost>(
                 lane.inbox(), handlers, entries_from(lane, entries),
                 retired.is_none() ? PyRef() : keep(lane, retired), std::move(services));
           }),
           py::arg("lane"), py::arg("handlers"), py::arg("entries"),
           py::arg("retired") = py::none(), py::arg("services") = py::none());
  py::class_<RingProbe>(module, "RingProbe",
                        "An exchange without a client: runs a generation as the engine does.")
      .def(py::init([](const std::shared_ptr<Lane>& lane, PyRingHost& host, const py::bytes& body,
                       std::string session_id, const std::map<std::string, std::string>& headers,
                       std::string client) {
             RingRequest request;
             request.body = std::string(body);
             request.session_id = std::move(session_id);
             static std::uint64_t probes = 0;
             request.request_id = "probe-" + std::to_string(++probes);
             request.client_host = std::move(client);
             request.path = "/v1/chat/completions";
             request.frontend = "openai-chat";
             request.headers.assign(headers.begin(), headers.end());
             return std::make_unique<RingProbe>(lane, host, std::move(request));
           }),
           py::arg("lane"), py::arg("host"), py::arg("body"), py::arg("session_id") = "",
           py::arg("headers") = std::map<std::string, std::string>(),
           py::arg("client") = "127.0.0.1")
      .def("request", &RingProbe::request, "A future of the verdict of rings 1-3.")
      .def("reply", &RingProbe::reply, py::arg("status"), py::arg("body"),
           py::arg("streamed") = false, "A future of the verdict of ring 4.")
      .def("chunk", &RingProbe::chunk, py::arg("text"),
           "A future of the verdict of those who hear a stream's text.")
      .def("background", &RingProbe::background, py::arg("status") = 200,
           py::arg("input_tokens") = -1, py::arg("output_tokens") = -1)
      .def("cancel", &RingProbe::cancel)
      .def("overdue", &RingProbe::overdue, py::arg("ring"))
      .def("problem", &RingProbe::problem,
           "What keeps plugins from being shown the request; None: nothing.")
      .def("patience", &RingProbe::patience, py::arg("ring"), py::arg("bytes") = 0);
  module.def(
      "run_chain",
      [](Lane& lane, const std::shared_ptr<RingHandlers>& handlers, const py::list& entries,
         const py::object& context) {
        auto chain = std::make_shared<PluginChain>();
        chain->entries = entries_from(lane, entries);
        return taken(chain_coroutine(lane, handlers, std::move(chain), context.ptr()));
      },
      py::arg("lane"), py::arg("handlers"), py::arg("entries"), py::arg("context"),
      "A coroutine that runs these entries on a context.");
}

}  // namespace llm_proxy
