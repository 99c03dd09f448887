#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "auth/auth_guard.h"
#include "routing/backend.h"
#include "routing/breaker.h"
#include "routing/failure_table.h"
#include "routing/route_table.h"
#include "stores/response_store.h"

namespace llm_proxy {

// What the C++ engine runs on: an immutable snapshot made by the Python side (llm_proxy.config)
// from command line, environment, YAML and the backend catalog, handed over as one JSON text.
// Replaced whole on reload; an exchange keeps the snapshot it began with.

struct Timeouts {
  std::chrono::milliseconds client_head{30'000};
  std::chrono::milliseconds client_body{60'000};   // silence; the time a slow body is judged by
  std::chrono::milliseconds client_idle{120'000};  // keep-alive between requests
  std::chrono::milliseconds client_write{60'000};  // the time a slow reader is judged by
  std::chrono::milliseconds connect{5'000};
  std::chrono::milliseconds first_byte{300'000};
  std::chrono::milliseconds stream_idle{300'000};
  std::chrono::milliseconds drain{10'000};
  std::chrono::milliseconds first_token{0};      // of a stream, until its first output; 0: any time
  std::chrono::milliseconds keep_alive{10'000};  // silence before we send the format's keep-alive
  std::chrono::milliseconds upstream_idle{60'000};  // a pooled connection nobody uses
};

// In-chat commands ("!/help") and the sessions they set something in.
struct CommandSettings {
  bool enabled = true;
  std::string prefix = "!/";
  std::chrono::milliseconds session_ttl{3'600'000};  // unused for so long, a session is forgotten
};

struct ServerConfig {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;  // 0: any free port, see Server::port()
  int workers = 0;            // 0: one per core
  std::uint64_t body_limit = 64u << 20;
  std::uint32_t head_limit = 32u << 10;
  std::uint32_t client_min_rate = 500;  // bytes a second of a body or a reply; 0: any
  std::uint64_t memory_limit = 0;       // of all requests under way; 0: a quarter of what there is
  Timeouts timeouts;
  std::vector<std::string> client_keys;      // empty: no key asked for
  std::vector<std::string> admin_keys;       // of the admin API; never a client's
  std::vector<std::string> trusted_ips;      // need no key: addresses and networks
  std::vector<std::string> trusted_proxies;  // whose X-Forwarded-For and Forwarded name the client
  std::vector<std::string> allowed_hosts;    // names this proxy has for clients without a key
  AuthGuard::Limits brute_force;
  std::vector<std::string> allowed_origins;  // of web pages: "https://app.example", or "*"
  std::vector<Backend> backends;
  std::string default_backend;  // instance name
  std::string default_model;    // empty: the client's
  std::string static_route;     // whoever names no backend gets this selector; empty: off
  std::vector<ModelAlias> model_aliases;
  std::map<std::string, std::string> not_installed;  // backends that are not here: how to get them
  std::map<std::string, FailoverRoute, std::less<>> failover_routes;  // by model, "default" or "*"
  RoutePolicy routing;
  FailurePolicy failure_handling;
  Breaker::Limits breaker;
  CommandSettings commands;
  ResponseStore::Limits response_store;  // takes effect at start; no entries: nothing is kept
  std::optional<std::uint16_t> anthropic_port;  // Anthropic's API alone, at its root; 0: any free
  // Ring plugins that guard, which are those that fail closed: a larger body is not shown to them,
  // and is refused. What cannot be shown to them at all is refused, unless the operator lets it
  // pass.
  std::uint64_t guarded_body_limit = 32u << 20;
  bool pass_unreadable = false;
  bool exact_token_counts = false;  // ask providers that can count, instead of estimating
  bool reply_headers = true;        // x-proxy-backend, -model, -attempts
  bool model_discovery = true;      // ask providers what they have, when somebody lists models
  std::chrono::milliseconds models_fresh{300'000};  // how long their answers count
  bool access_log = true;
  bool log_json = false;        // one JSON object a line
  std::string access_log_path;  // empty: standard error
  std::string ca_file;          // SSL_CERT_FILE, SSL_CERT_DIR; both empty: the system's
  std::string ca_dir;
  std::string http_proxy;  // see UpstreamOptions
  std::string https_proxy;
  std::string all_proxy;
  std::string no_proxy;
  bool proxy_loopback = false;
  std::string version;  // for User-Agent and /health
};

// Parses the snapshot. Throws std::invalid_argument naming the key: only at start and on reload,
// never on a request.
//
// Keys are the members' names ("client_keys", "timeouts": {"connect": seconds as a number}),
// formats by name.
std::shared_ptr<const ServerConfig> parse_server_config(std::string_view json);

}  // namespace llm_proxy
