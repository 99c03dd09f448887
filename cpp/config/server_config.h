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
//
// A setting stands here under its path in YAML: `limits.body_bytes` is ServerConfig::limits and
// Limits::body_bytes. A duration whose name ends in `_seconds` is one; its type has the unit.

struct Limits {
  std::uint64_t body_bytes = 64u << 20;
  std::uint32_t head_bytes = 32u << 10;
  std::uint32_t client_min_rate = 500;  // bytes a second of a body or a reply; 0: any
  std::uint64_t memory_bytes = 0;       // of all requests under way; 0: a quarter of what there is
};

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

struct AuthSettings {
  std::vector<std::string> api_keys;         // empty: no key asked for
  std::vector<std::string> admin_keys;       // of the admin API; never a client's
  std::vector<std::string> trusted_ips;      // need no key: addresses and networks
  std::vector<std::string> trusted_proxies;  // whose X-Forwarded-For and Forwarded name the client
  AuthGuard::Limits brute_force_protection;
};

struct CorsSettings {
  std::vector<std::string> allow_origins;  // of web pages: "https://app.example", or "*"
};

struct FailureHandling : FailurePolicy {
  bool reply_headers = true;  // x-proxy-backend, -model, -attempts
};

struct ResilienceSettings {
  Breaker::Limits circuit_breaker;
};

// The chat sessions in which in-chat commands ("!/help") set something.
struct SessionSettings {
  bool disable_interactive_commands = false;
  std::chrono::milliseconds ttl{3'600'000};  // unused for so long, a session is forgotten
};

// What becomes of a body that ring plugins cannot be shown while a guarding one is on.
enum class UnreadableBody : std::uint8_t { refuse, pass };

// Ring plugins that guard, which are those that fail closed.
struct PluginSettings {
  std::uint64_t guarded_body_bytes = 32u << 20;  // a larger body is not shown to them: refused
  UnreadableBody unreadable = UnreadableBody::refuse;
};

struct CountingSettings {
  bool exact = false;  // ask providers that can count, instead of estimating
};

struct ModelSettings {
  bool discovery = true;  // ask providers what they have, when somebody lists models
  std::chrono::milliseconds cache_seconds{300'000};  // how long their answers count
};

enum class LogFormat : std::uint8_t { text, json };

struct LoggingSettings {
  LogFormat format = LogFormat::text;  // json: one object a line
  bool access_log = true;
  std::string access_log_file;  // empty: standard error
};

// How providers are reached; see UpstreamOptions.
struct NetworkSettings {
  std::string http_proxy;
  std::string https_proxy;
  std::string all_proxy;
  std::vector<std::string> no_proxy;
  bool proxy_loopback = false;
};

struct ServerConfig {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;                    // 0: any free port, see Server::port()
  std::optional<std::uint16_t> anthropic_port;  // Anthropic's API alone, at its root; 0: any free
  int io_threads = 0;                           // 0: one per core
  Limits limits;
  Timeouts timeouts;
  AuthSettings auth;
  std::vector<std::string> allowed_hosts;  // names this proxy has for clients without a key
  CorsSettings cors;
  NetworkSettings network;
  std::vector<ModelAlias> model_aliases;
  std::map<std::string, FailoverRoute, std::less<>> failover_routes;  // by model, "default" or "*"
  RoutePolicy routing;
  FailureHandling failure_handling;
  ResilienceSettings resilience;
  std::string command_prefix = "!/";
  SessionSettings session;
  PluginSettings plugins;
  CountingSettings counting;
  ModelSettings models;
  ResponseStore::Limits responses;  // takes effect at start; no entries: nothing is kept
  LoggingSettings logging;

  // Made from several settings, from the catalog and from the environment.
  std::vector<Backend> backends;
  std::string default_backend;  // instance name
  std::string default_model;    // empty: the client's
  std::string static_route;     // whoever names no backend gets this selector; empty: off
  std::map<std::string, std::string> not_installed;  // backends that are not here: how to get them
  std::string ca_file;  // SSL_CERT_FILE, SSL_CERT_DIR; both empty: the system's
  std::string ca_dir;
  std::string version;  // for User-Agent and /health
};

// Parses the snapshot. Throws std::invalid_argument naming the key: only at start and on reload,
// never on a request.
//
// Keys are the members' names ("auth": {"api_keys": [...]}, "timeouts": {"connect": seconds as a
// number}), enums by name.
std::shared_ptr<const ServerConfig> parse_server_config(std::string_view json);

}  // namespace llm_proxy
