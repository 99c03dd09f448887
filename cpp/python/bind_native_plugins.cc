#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>

#include "python/bind.h"
#include "rings/native/native_plugin.h"
#include "rings/native/pii.h"

namespace py = pybind11;

namespace llm_proxy {
namespace {

py::object cache_find(ReplyCache& cache, const std::string& key, double now) {
  const auto found = cache.find(key, now);
  return found ? py::object(py::bytes(*found)) : py::none();
}

py::object stats_row(const EndpointStats& stats, const std::string& id) {
  const auto row = stats.get(id);
  if (!row) return py::none();
  return py::make_tuple(row->latency_ms, row->success, row->count);
}

// [(name, models)]
void set_pool(EndpointPool& pool, const py::list& rows) {
  std::vector<EndpointPool::Endpoint> endpoints;
  for (const auto& each : rows) {
    const auto row = each.cast<py::tuple>();
    endpoints.push_back({row[0].cast<std::string>(), row[1].cast<std::vector<std::string>>()});
  }
  pool.set(std::move(endpoints));
}

// What the native masker makes of a text: (text, values), or None where Python has to look.
py::object mask_pii(const std::string& text, const py::bytes& secret, const std::string& tenant) {
  Placeholders values;
  if (!may_hold_pii(text)) return py::make_tuple(text, values);
  const auto masked = PiiMasker(std::string_view(secret), tenant, values).mask(text);
  return masked ? py::object(py::make_tuple(*masked, values)) : py::none();
}

}  // namespace

void bind_native_plugins(py::module_& module) {
  py::class_<ReplyCache, std::shared_ptr<ReplyCache>>(
      module, "ReplyCache", "Replies by key, bounded in bytes and age. Any thread.")
      .def(py::init<double, std::size_t>(), py::arg("seconds"), py::arg("max_bytes"))
      .def("find", &cache_find, py::arg("key"), py::arg("now"))
      .def(
          "put",
          [](ReplyCache& cache, const std::string& key, const py::bytes& reply, double now) {
            cache.put(key, std::string_view(reply), now);
          },
          py::arg("key"), py::arg("reply"), py::arg("now"))
      .def("clear", &ReplyCache::clear)
      .def("stats", [](const ReplyCache& cache) {
        const auto now = cache.stats();
        py::dict out;
        out["entries"] = now.entries;
        out["bytes"] = now.bytes;
        out["hits"] = now.hits;
        out["misses"] = now.misses;
        return out;
      });
  py::class_<EndpointStats, std::shared_ptr<EndpointStats>>(
      module, "EndpointStats", "What the smart router has learnt of each backend. Any thread.")
      .def(py::init<>())
      .def("learn", &EndpointStats::learn, py::arg("id"), py::arg("latency_ms"), py::arg("success"))
      .def("get", &stats_row, py::arg("id"), "(latency_ms, success, count), or None.")
      .def(
          "set",
          [](EndpointStats& stats, const std::string& id, double latency_ms, double success,
             double count) {
            stats.set(id, {latency_ms, success, count});
          },
          py::arg("id"), py::arg("latency_ms"), py::arg("success"), py::arg("count"))
      .def("erase", &EndpointStats::erase, py::arg("id"))
      .def("ids", &EndpointStats::ids);
  py::class_<EndpointBreaker, std::shared_ptr<EndpointBreaker>>(
      module, "EndpointBreaker", "Closed until so many failures in a row. Any thread.")
      .def(py::init<>())
      .def("can_execute", &EndpointBreaker::can_execute, py::arg("now"))
      .def("report", &EndpointBreaker::report, py::arg("success"), py::arg("now"));
  py::class_<NativeServices, std::shared_ptr<NativeServices>>(
      module, "NativeServices", "What native plugins share with those in Python. Any thread.")
      .def(py::init([](std::shared_ptr<EndpointStats> stats, const py::bytes& secret) {
             auto services = std::make_shared<NativeServices>();
             services->stats = std::move(stats);
             services->secret = std::string(secret);
             return services;
           }),
           py::arg("stats"), py::arg("secret"))
      .def(
          "set_pool",
          [](NativeServices& services, const py::list& rows) { set_pool(*services.pool, rows); },
          py::arg("rows"))
      .def(
          "breaker",
          [](NativeServices& services, const std::string& id) {
            return services.pool->breaker(id);
          },
          py::arg("id"))
      .def(
          "set_cache",
          [](NativeServices& services, std::shared_ptr<ReplyCache> cache) {
            services.cache = std::move(cache);
          },
          py::arg("cache"), "Before anything serves.")
      .def(
          "set_rules",
          [](NativeServices& services, bool blocks_domains, bool priority_mode) {
            services.blocks_domains = blocks_domains;
            services.priority_mode = priority_mode;
          },
          py::arg("blocks_domains"), py::arg("priority_mode"));
  module.def(
      "has_native_plugin", [](const std::string& name) { return native_plugin(name) != nullptr; },
      py::arg("name"));
  module.def("mask_pii", &mask_pii, py::arg("text"), py::arg("secret"), py::arg("tenant"),
             "What the native masker makes of a text; None where Python has to look.");
  module.def(
      "cache_key",
      [](const py::bytes& body, const std::string& tenant) -> py::object {
        ChatRequestView view;
        if (!view.read(std::string_view(body))) return py::none();
        return py::str(cache_key(view, tenant));
      },
      py::arg("body"), py::arg("tenant"), "The key of a request's answer; None: no such body.");
}

}  // namespace llm_proxy
