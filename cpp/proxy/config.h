#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/wire_format.h"
#include "translate/codec.h"

namespace llm_proxy {

// What the C++ engine runs on: an immutable snapshot made by the Python side (llm_proxy.config) from command line,
// environment, YAML and the backend catalog, handed over as one JSON text. Replaced whole on reload; an exchange
// keeps the snapshot it began with.

struct BackendConfig {
  enum class Kind : std::uint8_t {
    http,    // a URL that speaks one of the wire formats
    echo,    // the built-in answerer, no network
    python,  // a Python backend plugin, by instance name
  };

  std::string name;  // the instance: "openai", "openai.2"
  std::string type;  // the catalog row: "openai"
  Kind kind = Kind::http;
  WireFormat format = WireFormat::openai_chat;
  std::string base_url;     // "https://api.openai.com/v1": the part before the format's own path
  std::string auth_header;  // "authorization", "x-api-key", "x-goog-api-key"; empty: none
  std::string auth_prefix;  // "Bearer " or empty
  std::vector<std::string> keys;
  std::vector<std::pair<std::string, std::string>> headers;  // sent with every request
  std::vector<std::string> models;                           // known models; empty: any
  Quirks quirks;
};

struct Timeouts {
  std::chrono::milliseconds client_head{30'000};
  std::chrono::milliseconds client_body{60'000};    // silence, not total
  std::chrono::milliseconds client_idle{120'000};   // keep-alive between requests
  std::chrono::milliseconds client_write{60'000};   // a client that does not read
  std::chrono::milliseconds connect{10'000};
  std::chrono::milliseconds first_byte{300'000};
  std::chrono::milliseconds stream_idle{300'000};
  std::chrono::milliseconds drain{30'000};
  std::chrono::milliseconds keep_alive{15'000};     // silence before we send the format's keep-alive
  std::chrono::milliseconds upstream_idle{60'000};  // a pooled connection nobody uses
};

struct ServerConfig {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;           // 0: any free port, see Server::port()
  int workers = 0;                     // 0: one per core
  std::uint64_t body_limit = 64u << 20;
  std::uint32_t head_limit = 32u << 10;
  Timeouts timeouts;
  std::vector<std::string> client_keys;  // empty: no key asked for
  std::vector<BackendConfig> backends;
  std::string default_backend;           // instance name
  std::string default_model;             // empty: the client's
  std::map<std::string, std::string> model_aliases;
  bool access_log = true;
  std::string access_log_path;           // empty: standard error
  std::string version;                   // for User-Agent and /health
};

// Parses the snapshot. Throws std::invalid_argument naming the key: only at start and on reload, never on a request.
//
// Keys are the members' names ("client_keys", "timeouts": {"connect": seconds as a number}), formats by name.
std::shared_ptr<const ServerConfig> parse_server_config(std::string_view json);

}  // namespace llm_proxy
