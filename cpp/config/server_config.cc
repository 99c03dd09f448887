#include "config/server_config.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <tuple>
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
template <>
constexpr std::array<std::pair<std::string_view, UnreadableBody>, 2> kNames<UnreadableBody>{
    {{"refuse", UnreadableBody::refuse}, {"pass", UnreadableBody::pass}}};
template <>
constexpr std::array<std::pair<std::string_view, LogFormat>, 2> kNames<LogFormat>{
    {{"text", LogFormat::text}, {"json", LogFormat::json}}};

// A member of T: its key in JSON, which is its name, and where it is kept.
template <typename T, typename Kept>
struct Member {
  const char* key;
  Kept T::*kept;
};
template <typename T, typename Kept>
Member(const char*, Kept T::*) -> Member<T, Kept>;  // clang 14 deduces none for an aggregate

// The members of each section.
template <typename T>
constexpr std::tuple<> kMembers{};
template <>
constexpr auto kMembers<Limits> =
    std::tuple{Member{"body_bytes", &Limits::body_bytes}, Member{"head_bytes", &Limits::head_bytes},
               Member{"client_min_rate", &Limits::client_min_rate},
               Member{"memory_bytes", &Limits::memory_bytes}};
template <>
constexpr auto kMembers<Timeouts> = std::tuple{Member{"client_head", &Timeouts::client_head},
                                               Member{"client_body", &Timeouts::client_body},
                                               Member{"client_idle", &Timeouts::client_idle},
                                               Member{"client_write", &Timeouts::client_write},
                                               Member{"connect", &Timeouts::connect},
                                               Member{"first_byte", &Timeouts::first_byte},
                                               Member{"stream_idle", &Timeouts::stream_idle},
                                               Member{"drain", &Timeouts::drain},
                                               Member{"first_token", &Timeouts::first_token},
                                               Member{"keep_alive", &Timeouts::keep_alive},
                                               Member{"upstream_idle", &Timeouts::upstream_idle}};
template <>
constexpr auto kMembers<AuthGuard::Limits> =
    std::tuple{Member{"enabled", &AuthGuard::Limits::enabled},
               Member{"max_failed_attempts", &AuthGuard::Limits::max_failed_attempts},
               Member{"ttl_seconds", &AuthGuard::Limits::ttl_seconds},
               Member{"initial_block_seconds", &AuthGuard::Limits::initial_block_seconds},
               Member{"block_multiplier", &AuthGuard::Limits::block_multiplier},
               Member{"max_block_seconds", &AuthGuard::Limits::max_block_seconds}};
template <>
constexpr auto kMembers<AuthSettings> = std::tuple{
    Member{"api_keys", &AuthSettings::api_keys}, Member{"admin_keys", &AuthSettings::admin_keys},
    Member{"trusted_ips", &AuthSettings::trusted_ips},
    Member{"trusted_proxies", &AuthSettings::trusted_proxies},
    Member{"brute_force_protection", &AuthSettings::brute_force_protection}};
template <>
constexpr auto kMembers<CorsSettings> =
    std::tuple{Member{"allow_origins", &CorsSettings::allow_origins}};
template <>
constexpr auto kMembers<NetworkSettings> =
    std::tuple{Member{"http_proxy", &NetworkSettings::http_proxy},
               Member{"https_proxy", &NetworkSettings::https_proxy},
               Member{"all_proxy", &NetworkSettings::all_proxy},
               Member{"no_proxy", &NetworkSettings::no_proxy},
               Member{"proxy_loopback", &NetworkSettings::proxy_loopback}};
template <>
constexpr auto kMembers<RoutePolicy> =
    std::tuple{Member{"disable_backend_ids", &RoutePolicy::disable_backend_ids},
               Member{"disable_backend_names", &RoutePolicy::disable_backend_names},
               Member{"disable_model_names", &RoutePolicy::disable_model_names},
               Member{"model_only_preference_policy", &RoutePolicy::model_only_preference_policy},
               Member{"model_only_model_overrides", &RoutePolicy::model_only_model_overrides},
               Member{"model_only_backend_family_overrides",
                      &RoutePolicy::model_only_backend_family_overrides}};
template <>
constexpr auto kMembers<FailureHandling> =
    std::tuple{Member{"enabled", &FailureHandling::enabled},
               Member{"max_attempts", &FailureHandling::max_attempts},
               Member{"max_failover_hops", &FailureHandling::max_failover_hops},
               Member{"max_silent_wait", &FailureHandling::max_silent_wait},
               Member{"total_timeout_budget", &FailureHandling::total_timeout_budget},
               Member{"min_retry_wait", &FailureHandling::min_retry_wait},
               Member{"reply_headers", &FailureHandling::reply_headers}};
template <>
constexpr auto kMembers<Breaker::Limits> =
    std::tuple{Member{"enabled", &Breaker::Limits::enabled},
               Member{"failure_threshold", &Breaker::Limits::failure_threshold},
               Member{"open_cooldown_seconds", &Breaker::Limits::open_cooldown_seconds}};
template <>
constexpr auto kMembers<ResilienceSettings> =
    std::tuple{Member{"circuit_breaker", &ResilienceSettings::circuit_breaker}};
template <>
constexpr auto kMembers<SessionSettings> = std::tuple{
    Member{"disable_interactive_commands", &SessionSettings::disable_interactive_commands},
    Member{"ttl", &SessionSettings::ttl}};
template <>
constexpr auto kMembers<PluginSettings> =
    std::tuple{Member{"guarded_body_bytes", &PluginSettings::guarded_body_bytes},
               Member{"unreadable", &PluginSettings::unreadable}};
template <>
constexpr auto kMembers<CountingSettings> = std::tuple{Member{"exact", &CountingSettings::exact}};
template <>
constexpr auto kMembers<ModelSettings> =
    std::tuple{Member{"discovery", &ModelSettings::discovery},
               Member{"cache_seconds", &ModelSettings::cache_seconds}};
template <>
constexpr auto kMembers<ResponseStore::Limits> =
    std::tuple{Member{"store_entries", &ResponseStore::Limits::store_entries},
               Member{"store_bytes", &ResponseStore::Limits::store_bytes},
               Member{"store_seconds", &ResponseStore::Limits::store_seconds}};
template <>
constexpr auto kMembers<LoggingSettings> = std::tuple{
    Member{"format", &LoggingSettings::format}, Member{"access_log", &LoggingSettings::access_log},
    Member{"access_log_file", &LoggingSettings::access_log_file}};
template <>
constexpr auto kMembers<FailoverRoute> =
    std::tuple{Member{"elements", &FailoverRoute::elements},
               Member{"first_token", &FailoverRoute::first_token}};
template <>
constexpr auto kMembers<Quirks> =
    std::tuple{Member{"max_completion_tokens", &Quirks::max_completion_tokens},
               Member{"developer_role", &Quirks::developer_role},
               Member{"reasoning_content", &Quirks::reasoning_content},
               Member{"reasoning_details", &Quirks::reasoning_details},
               Member{"nine_char_ids", &Quirks::nine_char_ids},
               Member{"max_tokens", &Quirks::max_tokens},
               Member{"no_stream_options", &Quirks::no_stream_options},
               Member{"no_reasoning", &Quirks::no_reasoning},
               Member{"no_reasoning_object", &Quirks::no_reasoning_object},
               Member{"no_thinking", &Quirks::no_thinking},
               Member{"plan_members", &Quirks::plan_members},
               Member{"plain_tool_choice", &Quirks::plain_tool_choice},
               Member{"token_floor", &Quirks::token_floor},
               Member{"token_cap", &Quirks::token_cap},
               Member{"thinking_mode", &Quirks::thinking_mode},
               Member{"system_role", &Quirks::system_role},
               Member{"reasoning_everywhere", &Quirks::reasoning_everywhere},
               Member{"cumulative_text", &Quirks::cumulative_text},
               Member{"whole_replies", &Quirks::whole_replies}};
template <>
constexpr auto kMembers<Backend> =
    std::tuple{Member{"name", &Backend::name},
               Member{"type", &Backend::type},
               Member{"kind", &Backend::kind},
               Member{"format", &Backend::format},
               Member{"base_url", &Backend::base_url},
               Member{"auth_header", &Backend::auth_header},
               Member{"auth_prefix", &Backend::auth_prefix},
               Member{"keys", &Backend::keys},
               Member{"key_policy", &Backend::key_policy},
               Member{"headers", &Backend::headers},
               Member{"models", &Backend::models},
               Member{"only_models", &Backend::only_models},
               Member{"vendor_prefixes", &Backend::vendor_prefixes},
               Member{"model_names", &Backend::model_names},
               Member{"timeout", &Backend::timeout},
               Member{"loop_guard", &Backend::loop_guard},
               Member{"client_headers", &Backend::client_headers},
               Member{"hosted_key", &Backend::hosted_key},
               Member{"models_path", &Backend::models_path},
               Member{"cloud_models_url", &Backend::cloud_models_url},
               Member{"routing_cost", &Backend::routing_cost},
               Member{"routing_priority", &Backend::routing_priority},
               Member{"quirks", &Backend::quirks}};
template <>
constexpr auto kMembers<ServerConfig> =
    std::tuple{Member{"host", &ServerConfig::host},
               Member{"port", &ServerConfig::port},
               Member{"anthropic_port", &ServerConfig::anthropic_port},
               Member{"io_threads", &ServerConfig::io_threads},
               Member{"limits", &ServerConfig::limits},
               Member{"timeouts", &ServerConfig::timeouts},
               Member{"auth", &ServerConfig::auth},
               Member{"allowed_hosts", &ServerConfig::allowed_hosts},
               Member{"cors", &ServerConfig::cors},
               Member{"network", &ServerConfig::network},
               Member{"model_aliases", &ServerConfig::model_aliases},
               Member{"failover_routes", &ServerConfig::failover_routes},
               Member{"routing", &ServerConfig::routing},
               Member{"failure_handling", &ServerConfig::failure_handling},
               Member{"resilience", &ServerConfig::resilience},
               Member{"command_prefix", &ServerConfig::command_prefix},
               Member{"session", &ServerConfig::session},
               Member{"plugins", &ServerConfig::plugins},
               Member{"counting", &ServerConfig::counting},
               Member{"models", &ServerConfig::models},
               Member{"responses", &ServerConfig::responses},
               Member{"logging", &ServerConfig::logging},
               Member{"backends", &ServerConfig::backends},
               Member{"default_backend", &ServerConfig::default_backend},
               Member{"default_model", &ServerConfig::default_model},
               Member{"static_route", &ServerConfig::static_route},
               Member{"not_installed", &ServerConfig::not_installed},
               Member{"ca_file", &ServerConfig::ca_file},
               Member{"ca_dir", &ServerConfig::ca_dir},
               Member{"version", &ServerConfig::version}};

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

  // Reads `json` whole: kMembers<T> names the members.
  template <typename T>
  static void section(const Json& json, T& out, const std::string& where);

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

// What a section asks for beyond the kinds of its members.
template <typename T>
void check(const Fields&, const T&) {}

void check(const Fields& fields, const Backend& read) {
  if (read.name.empty()) throw std::invalid_argument(fields.path("name") + ": must not be empty");
}

void check(const Fields& fields, const ServerConfig& read) {
  if (!is_command_prefix(read.command_prefix)) {
    throw std::invalid_argument(fields.path("command_prefix") +
                                ": must be 2 to 10 printable characters, not '" +
                                read.command_prefix + "'");
  }
}

template <typename T>
void Fields::section(const Json& json, T& out, const std::string& where) {
  Fields fields(json, where);
  std::apply([&](const auto&... member) { (fields.read(member.key, out.*member.kept), ...); },
             kMembers<T>);
  fields.end();
  check(fields, out);
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
