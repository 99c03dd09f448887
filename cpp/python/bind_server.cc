#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "base/log.h"
#include "config/endpoints.h"
#include "config/server_config.h"
#include "config/snapshot.h"
#include "python/bind.h"
#include "python/py_admin.h"
#include "python/py_backend.h"
#include "python/py_rings.h"
#include "server/server.h"

namespace py = pybind11;

namespace llm_proxy {
namespace {

void raise_unless(const Result<void>& done, PyObject* kind) {
  if (done) return;
  PyErr_SetString(kind, done.error().message.c_str());
  throw py::error_already_set();
}

std::unique_ptr<Server> make_server(const std::string& config,
                                    const std::shared_ptr<PyRingHost>& rings,
                                    const std::shared_ptr<PyBackendHost>& backends,
                                    const std::shared_ptr<PyAdminHost>& admin) {
  PluginHosts hosts;
  hosts.rings = rings;
  hosts.backends = backends;
  hosts.admin = admin;
  return std::make_unique<Server>(parse_server_config(config), std::move(hosts));
}

// `done` is called on the lane, when a worker has said that nothing is left.
void drain(Server& server, double seconds, const Lane& lane, const py::object& done) {
  auto held = std::make_shared<PyRef>(lane.ref(PyOwned::share(done.ptr())));
  const auto deadline = std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
  server.drain(deadline, [inbox = lane.inbox(), held] {
    inbox->post(
        [held](Lane&) { const PyOwned told = PyOwned::steal(PyObject_CallNoArgs(held->get())); });
  });
}

double seconds(std::chrono::milliseconds time) {
  return static_cast<double>(time.count()) / 1000;
}

// [{name, breaker, open_for, rests_for, keys: [{asked, failed, why, rests_for, models: {…}}]}]
py::list health(const Server& server) {
  constexpr std::array kStates{"closed", "open", "half_open"};
  py::list out;
  for (const auto& instance : server.health()) {
    py::list keys;
    for (const auto& key : instance.keys) {
      py::dict models;
      for (const auto& model : key.models) models[py::str(model.model)] = seconds(model.left);
      py::dict shown;
      shown["asked"] = key.asked;
      shown["failed"] = key.failed;
      shown["why"] = key.why ? py::object(py::str(std::string(name(*key.why)))) : py::none();
      shown["rests_for"] = seconds(key.left);
      shown["models"] = models;
      keys.append(shown);
    }
    py::dict shown;
    shown["name"] = instance.name;
    shown["breaker"] = kStates[static_cast<std::size_t>(instance.breaker)];
    shown["open_for"] = seconds(instance.open_for);
    shown["rests_for"] = seconds(instance.rests_for);
    shown["keys"] = keys;
    out.append(shown);
  }
  return out;
}

void set_log(const std::string& level, bool json, const std::string& path) {
  constexpr std::array<std::pair<const char*, LogLevel>, 5> kLevels{{{"DEBUG", LogLevel::debug},
                                                                     {"INFO", LogLevel::info},
                                                                     {"WARNING", LogLevel::warning},
                                                                     {"ERROR", LogLevel::error},
                                                                     {"CRITICAL", LogLevel::off}}};
  const auto* known = std::find_if(kLevels.begin(), kLevels.end(),
                                   [&](const auto& row) { return row.first == level; });
  if (known == kLevels.end()) throw py::value_error("no log level is called " + level);
  if (!log_to_file(path)) throw py::value_error("cannot write to " + path);
  set_log_level(known->second);
  log_as_json(json);
}

// What start() would refuse; empty: nothing.
std::string check_config(const std::string& text) {
  const auto snapshot =
      Snapshot::build(parse_server_config(text), nullptr, nullptr, nullptr, nullptr);
  return snapshot ? std::string() : snapshot.error().message;
}

}  // namespace

void bind_server(py::module_& module) {
  module.def("check_config", &check_config, py::arg("config"),
             "What is wrong with a snapshot's routes, keys and addresses; empty: nothing.");
  module.def(
      "ring_views",
      [] {
        constexpr std::array<const char*, 4> kViews{"nothing", "chat", "prompts", "stored"};
        py::dict out;
        for (int each = 0; each < kOperations; ++each) {
          const auto operation = static_cast<Operation>(each);
          out[py::str(std::string(name(operation)))] =
              kViews[static_cast<std::size_t>(ring_view(operation))];
        }
        return out;
      },
      "What ring plugins are shown of each operation, by its name.");
  module.def("set_log", &set_log, py::arg("level"), py::arg("json") = false,
             py::arg("path") = std::string(),
             "The engine's own log, of the whole process; no path: standard error.");
  py::class_<Server>(module, "Server", "The proxy's engine: workers, and the snapshot they run on.")
      .def(py::init(&make_server), py::arg("config"), py::arg("rings") = nullptr,
           py::arg("backends") = nullptr, py::arg("admin") = nullptr)
      .def(
          "start", [](Server& server) { raise_unless(server.start(), PyExc_OSError); },
          "Binds and starts the workers. OSError says why not.")
      .def_property_readonly("port", &Server::port)
      .def_property_readonly("anthropic_port", &Server::anthropic_port)
      .def(
          "reload",
          [](Server& server, const std::string& config,
             const std::shared_ptr<PyBackendHost>& backends) {
            raise_unless(server.reload(parse_server_config(config), backends), PyExc_ValueError);
          },
          py::arg("config"), py::arg("backends") = nullptr,
          "Publishes a new snapshot, and another host of Python backends if one is given; "
          "exchanges under way keep the old ones.")
      .def(
          "set_rings",
          [](Server& server, const std::shared_ptr<PyRingHost>& rings) { server.set_rings(rings); },
          py::arg("rings"), "Publishes a new generation of ring plugins; same rule.")
      .def("reactivate", &Server::reactivate, py::arg("instance"),
           "Ends an instance's cool-downs; False: there is none of that name.")
      .def("drain", &drain, py::arg("seconds"), py::arg("lane"), py::arg("done"),
           "Stops accepting and lets exchanges finish; `done()` is called when nothing is left.")
      .def("join", &Server::join, py::call_guard<py::gil_scoped_release>())
      .def("health", &health, "What each backend's keys and breaker are at; seconds, no keys.")
      .def("stats", [](const Server& server) {
        const ServerStats now = server.stats();
        py::dict stats;
        stats["requests"] = now.requests;
        stats["active"] = now.active;
        stats["client_connections"] = now.client_connections;
        stats["upstream_connections"] = now.upstream_connections;
        stats["upstream_idle"] = now.upstream_idle;
        stats["memory_used"] = now.memory_used;
        stats["memory_limit"] = now.memory_limit;
        stats["memory_refused"] = now.memory_refused;
        stats["bodies_decoding"] = now.decoding;
        stats["slices_decoded"] = now.slices;
        return stats;
      });
}

}  // namespace llm_proxy
