#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "net/proxy_rules.h"
#include "net/socks5.h"
#include "net/upstream_environment.h"
#include "python/bind.h"

namespace py = pybind11;

namespace llm_proxy {
namespace {

// The engine's rules, for backends that open their own connections.
struct Rules {
  std::shared_ptr<const ProxyRules> rules;
};

Rules make_rules(std::string http, std::string https, std::string all, std::string no,
                 bool loopback) {
  UpstreamOptions options;
  options.http_proxy = std::move(http);
  options.https_proxy = std::move(https);
  options.all_proxy = std::move(all);
  options.no_proxy = std::move(no);
  options.proxy_loopback = loopback;
  auto made = ProxyRules::make(options);
  if (!made) throw py::value_error(made.error().message);
  return {*std::move(made)};
}

py::bytes bytes_of(std::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

void bind_proxies(py::module_& module) {
  py::class_<ProxyHop>(module, "ProxyHop", "The proxy a connection goes through.")
      .def_property_readonly("socks",
                             [](const ProxyHop& self) { return self.kind != ProxyHop::Kind::http; })
      .def_property_readonly(
          "names", [](const ProxyHop& self) { return self.kind == ProxyHop::Kind::socks5h; },
          "A SOCKS proxy that resolves names itself.")
      .def_property_readonly("host", [](const ProxyHop& self) { return self.endpoint.host; })
      .def_property_readonly("port", [](const ProxyHop& self) { return self.endpoint.port; })
      .def_readonly("user", &ProxyHop::user)
      .def_readonly("password", &ProxyHop::password)
      .def_readonly("authorization", &ProxyHop::authorization,
                    "The value of Proxy-Authorization; empty: none.");
  py::class_<Rules>(module, "ProxyRules", "Which proxy leads to which upstream.")
      .def(py::init(&make_rules), py::kw_only(), py::arg("http_proxy") = "",
           py::arg("https_proxy") = "", py::arg("all_proxy") = "", py::arg("no_proxy") = "",
           py::arg("proxy_loopback") = false, "ValueError says which URL is none.")
      .def(
          "hop_to",
          [](const Rules& self, bool secure, std::string host,
             std::uint16_t port) -> std::optional<ProxyHop> {
            const auto* hop = self.rules->hop_to(Endpoint(secure, std::move(host), port));
            return hop == nullptr ? std::nullopt : std::optional<ProxyHop>(*hop);
          },
          py::arg("secure"), py::arg("host"), py::arg("port"), "None: directly.");
  py::class_<Socks5>(module, "Socks5", "What is said to a SOCKS5 proxy, as bytes.")
      .def(py::init(
               [](std::string host, std::uint16_t port, std::string user, std::string password) {
                 return std::make_unique<Socks5>(Socks5::Target{std::move(host), port},
                                                 std::move(user), std::move(password));
               }),
           py::arg("host"), py::arg("port"), py::arg("user") = "", py::arg("password") = "")
      .def("begin", [](const Socks5& self) { return bytes_of(self.begin()); })
      .def(
          "feed",
          [](Socks5& self, const py::bytes& data) {
            const auto answer = self.feed(std::string_view(data));
            if (!answer) throw py::value_error(answer.error().message);
            return bytes_of(*answer);
          },
          py::arg("data"), "What is sent in answer. ValueError: what the proxy refuses.")
      .def_property_readonly("done", &Socks5::done);
}

}  // namespace llm_proxy
