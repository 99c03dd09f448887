#pragma once

#include <cstdint>
#include <string>

#include "http/url.h"

namespace llm_proxy {

// Where an upstream is. Made once per backend, from its base URL; what the pool groups connections
// by.
struct Endpoint {
  Endpoint() = default;
  Endpoint(bool tls, std::string host, std::uint16_t port);
  explicit Endpoint(const Url& url) : Endpoint(url.https, url.host, url.port) {}

  bool tls = false;
  std::string host;
  std::uint16_t port = 0;
  std::string key;  // "https://host:port"

  // "host:port", for messages.
  std::string authority() const;
};

}  // namespace llm_proxy
