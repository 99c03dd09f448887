#include "net/endpoint.h"

namespace llm_proxy {

Endpoint::Endpoint(bool tls, std::string host, std::uint16_t port)
    : tls(tls),
      host(std::move(host)),
      port(port),
      key((tls ? "https://" : "http://") + authority()) {}

std::string Endpoint::authority() const {
  const bool bracketed = host.find(':') != std::string::npos;
  std::string out;
  if (bracketed) out += '[';
  out += host;
  if (bracketed) out += ']';
  return out.append(":").append(std::to_string(port));
}

}  // namespace llm_proxy
