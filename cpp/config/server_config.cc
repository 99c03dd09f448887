#include "config/server_config.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <type_traits>

#include "routing/command_text.h"

namespace llm_proxy {
namespace {

using Json = nlohmann::ordered_json;

// The words for an enum's values.
template <typename T>
constexpr std::array<std::pair<std::string_view, T>, 0> kNames{};
template <>
constexpr std::array<std::pair<std::string_view, Backend::Kind>, 3> kNames<Backend::Kind>{
    {{"http", Backend::Kind::http},
     {"echo", Backend::Kind::echo},
     {"python", Backend::Kind::python}}};
template <>
constexpr std::array<std::pair<std::string_view, Backend::KeyPolicy>, 3> kNames<Backend::KeyPolicy>{
    {{"round-robin", Backend::KeyPolicy::round_robin},
     {"fill-first", Backend::KeyPolicy::fill_first},
     {"least-recently-limited", Backend::KeyPolicy::least_recently_limited}}};
template <>
constexpr std::array<std::pair<std::string_view, Preference>, 4> kNames<Preference>{
    {{"default_first", Preference::default_first},
     {"round_robin", Preference::round_robin},
     {"cost", Preference::cost},
     {"priority", Preference::priority}}};

// Reads one object member by member and, at the end, refuses what it was not asked for: a misspelt
// key never passes.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) throw std::invalid_argument(where_ + ": must be an object");
  }

  template <typename T>
  void read(const char* key, T& out) {
    known_.push_back(key);
    if (const auto found = object_.find(key); found != object_.end() && !found->is_null()) {
      convert(*found, out, where_ + "." + key);
    }
  }

  // Reads `json` whole: read_section(Fields&, T&) names the members.
  template <typename T>
  static void section(const Json& json, T& out, const std::string& where) {
    Fields fields(json, where);
    read_section(fields, out);
    fields.end();
  }

  std::string path(const char* key) const { return where_ + "." + key; }

  void end() const {
    for (const auto& [key, value] : object_.items()) {
      if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
        throw std::invalid_argument(where_ + "." + key + ": no such setting");
      }
    }
  }

 private:
  template <typename Rep, typename Period>
  static void convert(const Json& json, std::chrono::duration<Rep, Period>& out,
                      const std::string& where) {
    if (!json.is_number() || json.get<double>() < 0 || json.get<double>() > 1e9) {
      throw std::invalid_argument(where + ": must be a number of seconds");
    }
    out = std::chrono::duration_cast<std::chrono::duration<Rep, Period>>(
        std::chrono::milliseconds(static_cast<std::int64_t>(json.get<double>() * 1000)));
  }
  static void convert(const Json& json, std::string& out, const std::string& where) {
    if (!json.is_string()) throw std::invalid_argument(where + ": must be a string");
    out = json.get<std::string>();
  }
  static void convert(const Json& json, bool& out, const std::string& where) {
    if (!json.is_boolean()) throw std::invalid_argument(where + ": must be true or false");
    out = json.get<bool>();
  }
  template <std::integral T>
  static void convert(const Json& json, T& out, const std::string& where) {
    if (!json.is_number_integer() || json.get<std::int64_t>() < 0 ||
        static_cast<std::uint64_t>(json.get<std::int64_t>()) >
            static_cast<std::uint64_t>(std::numeric_limits<T>::max())) {
      throw std::invalid_argument(where + ": must be a whole number from 0 to " +
                                  std::to_string(std::numeric_limits<T>::max()));
    }
    out = json.get<T>();
  }
  template <typename T>
  static void convert(const Json& json, std::vector<T>& out, const std::string& where) {
    if (!json.is_array()) throw std::invalid_argument(where + ": must be a list");
    for (const auto& item : json) {
      convert(item, out.emplace_back(), where + "[" + std::to_string(out.size() - 1) + "]");
    }
  }
  template <typename T>
  static void convert(const Json& json, std::optional<T>& out, const std::string& where) {
    convert(json, out.emplace(), where);
  }
  static void convert(const Json& json, WireFormat& out, const std::string& where) {
    std::string text;
    convert(json, text, where);
    const auto format = wire_format_named(text);
    if (!format) throw std::invalid_argument(where + ": no wire format is called '" + text + "'");
    out = *format;
  }
  static void convert(const Json& json, double& out, const std::string& where) {
    if (!json.is_number()) throw std::invalid_argument(where + ": must be a number");
    out = json.get<double>();
  }
  // An enum, whose names kNames<T> lists.
  template <typename T>
    requires std::is_enum_v<T>
  static void convert(const Json& json, T& out, const std::string& where) {
    std::string text;
    convert(json, text, where);
    std::string valid;
    for (const auto& [name, value] : kNames<T>) {
      if (name == text) {
        out = value;
        return;
      }
      valid += (valid.empty() ? "" : ", ") + std::string(name);
    }
    throw std::invalid_argument(where + ": must be one of " + valid + ", not '" + text + "'");
  }
  template <typename T>
    requires std::is_class_v<T>
  static void convert(const Json& json, T& out, const std::string& where) {
    section(json, out, where);
  }
  template <typename T, typename Less>
  static void convert(const Json& json, std::map<std::string, T, Less>& out,
                      const std::string& where) {
    if (!json.is_object()) throw std::invalid_argument(where + ": must map names to values");
    for (const auto& [key, value] : json.items()) convert(value, out[key], where + "." + key);
  }
  static void convert(const Json& json, std::vector<ModelAlias>& out, const std::string& where) {
    if (!json.is_object()) throw std::invalid_argument(where + ": must map names to names");
    for (const auto& [key, value] : json.items()) {
      convert(value, out.emplace_back(ModelAlias{key, {}}).replacement, where + "." + key);
    }
  }
  static void convert(const Json& json, std::vector<std::pair<std::string, std::string>>& out,
                      const std::string& where) {
    if (!json.is_object()) throw std::invalid_argument(where + ": must map header names to values");
    for (const auto& [key, value] : json.items()) {
      convert(value, out.emplace_back(key, std::string()).second, where + "." + key);
    }
  }

  const Json& object_;
  std::string where_;
  std::vector<std::string_view> known_;
};

void read_section(Fields& fields, Timeouts& out) {
  fields.read("client_head", out.client_head);
  fields.read("client_body", out.client_body);
  fields.read("client_idle", out.client_idle);
  fields.read("client_write", out.client_write);
  fields.read("connect", out.connect);
  fields.read("first_byte", out.first_byte);
  fields.read("stream_idle", out.stream_idle);
  fields.read("drain", out.drain);
  fields.read("first_token", out.first_token);
  fields.read("keep_alive", out.keep_alive);
  fields.read("upstream_idle", out.upstream_idle);
}

void read_section(Fields& fields, Quirks& out) {
  fields.read("max_completion_tokens", out.max_completion_tokens);
  fields.read("developer_role", out.developer_role);
  fields.read("reasoning_content", out.reasoning_content);
  fields.read("reasoning_details", out.reasoning_details);
  fields.read("nine_char_ids", out.nine_char_ids);
  fields.read("max_tokens", out.max_tokens);
  fields.read("no_stream_options", out.no_stream_options);
  fields.read("no_reasoning", out.no_reasoning);
  fields.read("no_reasoning_object", out.no_reasoning_object);
  fields.read("no_thinking", out.no_thinking);
  fields.read("plan_members", out.plan_members);
  fields.read("plain_tool_choice", out.plain_tool_choice);
  fields.read("token_floor", out.token_floor);
  fields.read("token_cap", out.token_cap);
  fields.read("thinking_mode", out.thinking_mode);
  fields.read("system_role", out.system_role);
  fields.read("reasoning_everywhere", out.reasoning_everywhere);
  fields.read("cumulative_text", out.cumulative_text);
  fields.read("whole_replies", out.whole_replies);
}

void read_section(Fields& fields, ResponseStore::Limits& out) {
  fields.read("entries", out.entries);
  fields.read("bytes", out.bytes);
  fields.read("ttl", out.ttl);
}

void read_section(Fields& fields, AuthGuard::Limits& out) {
  fields.read("enabled", out.enabled);
  fields.read("max_failed_attempts", out.max_failed_attempts);
  fields.read("ttl", out.ttl);
  fields.read("initial_block", out.initial_block);
  fields.read("block_multiplier", out.block_multiplier);
  fields.read("max_block", out.max_block);
}

void read_section(Fields& fields, RoutePolicy& out) {
  fields.read("no_instances", out.no_instances);
  fields.read("no_backends", out.no_backends);
  fields.read("no_models", out.no_models);
  fields.read("preference", out.preference);
  fields.read("by_model", out.by_model);
  fields.read("by_backend", out.by_backend);
}

void read_section(Fields& fields, FailurePolicy& out) {
  fields.read("enabled", out.enabled);
  fields.read("max_attempts", out.max_attempts);
  fields.read("max_hops", out.max_hops);
  fields.read("max_silent_wait", out.max_silent_wait);
  fields.read("total_budget", out.total_budget);
  fields.read("back_off", out.back_off);
}

void read_section(Fields& fields, Breaker::Limits& out) {
  fields.read("threshold", out.threshold);
  fields.read("cool_down", out.cool_down);
}

void read_section(Fields& fields, CommandSettings& out) {
  fields.read("enabled", out.enabled);
  fields.read("prefix", out.prefix);
  fields.read("session_ttl", out.session_ttl);
  if (!is_command_prefix(out.prefix)) {
    throw std::invalid_argument(fields.path("prefix") +
                                ": must be 2 to 10 printable characters, not '" + out.prefix + "'");
  }
}

void read_section(Fields& fields, FailoverRoute& out) {
  fields.read("elements", out.elements);
  fields.read("first_token", out.first_token);
}

void read_section(Fields& fields, Backend& out) {
  fields.read("name", out.name);
  fields.read("type", out.type);
  fields.read("kind", out.kind);
  fields.read("format", out.format);
  fields.read("base_url", out.base_url);
  fields.read("auth_header", out.auth_header);
  fields.read("auth_prefix", out.auth_prefix);
  fields.read("keys", out.keys);
  fields.read("key_policy", out.key_policy);
  fields.read("headers", out.headers);
  fields.read("models", out.models);
  fields.read("only_models", out.only_models);
  fields.read("vendor_prefixes", out.vendor_prefixes);
  fields.read("model_names", out.model_names);
  fields.read("timeout", out.timeout);
  fields.read("loop_guard", out.loop_guard);
  fields.read("client_headers", out.client_headers);
  fields.read("hosted_key", out.hosted_key);
  fields.read("models_path", out.models_path);
  fields.read("cloud_models_url", out.cloud_models_url);
  fields.read("routing_cost", out.routing_cost);
  fields.read("routing_priority", out.routing_priority);
  fields.read("quirks", out.quirks);
  if (out.name.empty()) {
    throw std::invalid_argument(fields.path("name") + ": must not be empty");
  }
}

void read_section(Fields& fields, ServerConfig& out) {
  fields.read("host", out.host);
  fields.read("port", out.port);
  fields.read("workers", out.workers);
  fields.read("guarded_body_limit", out.guarded_body_limit);
  fields.read("pass_unreadable", out.pass_unreadable);
  fields.read("body_limit", out.body_limit);
  fields.read("head_limit", out.head_limit);
  fields.read("client_min_rate", out.client_min_rate);
  fields.read("memory_limit", out.memory_limit);
  fields.read("timeouts", out.timeouts);
  fields.read("client_keys", out.client_keys);
  fields.read("admin_keys", out.admin_keys);
  fields.read("trusted_ips", out.trusted_ips);
  fields.read("trusted_proxies", out.trusted_proxies);
  fields.read("allowed_hosts", out.allowed_hosts);
  fields.read("brute_force", out.brute_force);
  fields.read("allowed_origins", out.allowed_origins);
  fields.read("backends", out.backends);
  fields.read("default_backend", out.default_backend);
  fields.read("default_model", out.default_model);
  fields.read("static_route", out.static_route);
  fields.read("model_aliases", out.model_aliases);
  fields.read("not_installed", out.not_installed);
  fields.read("failover_routes", out.failover_routes);
  fields.read("routing", out.routing);
  fields.read("failure_handling", out.failure_handling);
  fields.read("breaker", out.breaker);
  fields.read("response_store", out.response_store);
  fields.read("anthropic_port", out.anthropic_port);
  fields.read("exact_token_counts", out.exact_token_counts);
  fields.read("commands", out.commands);
  fields.read("reply_headers", out.reply_headers);
  fields.read("access_log", out.access_log);
  fields.read("log_json", out.log_json);
  fields.read("model_discovery", out.model_discovery);
  fields.read("models_fresh", out.models_fresh);
  fields.read("access_log_path", out.access_log_path);
  fields.read("ca_file", out.ca_file);
  fields.read("ca_dir", out.ca_dir);
  fields.read("http_proxy", out.http_proxy);
  fields.read("https_proxy", out.https_proxy);
  fields.read("all_proxy", out.all_proxy);
  fields.read("no_proxy", out.no_proxy);
  fields.read("proxy_loopback", out.proxy_loopback);
  fields.read("version", out.version);
}

}  // namespace

std::shared_ptr<const ServerConfig> parse_server_config(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw std::invalid_argument("config: not JSON");
  auto out = std::make_shared<ServerConfig>();
  Fields::section(json, *out, "config");
  return out;
}

}  // namespace llm_proxy
