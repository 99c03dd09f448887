#include "exchange/diagnostics.h"

#include <algorithm>
#include <array>

#include "json/writer.h"

namespace llm_proxy {
namespace {

constexpr std::array<std::string_view, 3> kBreakerNames{"closed", "open", "half_open"};
constexpr std::size_t kMaxModelsShown = 200;

// Seconds with three decimals.
std::string seconds(std::chrono::milliseconds time) {
  auto text = std::to_string(time.count() / 1000) + '.';
  const auto rest = std::to_string(time.count() % 1000);
  return text + std::string(3 - rest.size(), '0') + rest;
}

// When some key may be asked again, and why none may now; nothing: one may.
struct Rest {
  std::chrono::milliseconds left{0};
  std::string_view why;
};

Rest rest_of(const InstanceHealth& health) {
  if (health.rests_for.count() > 0) return {health.rests_for, "unavailable"};
  if (health.breaker == Breaker::State::open && health.open_for.count() > 0) {
    return {health.open_for, "breaker_open"};
  }
  Rest out;
  for (const auto& key : health.keys) {
    if (!key.why) return {};
    if (out.why.empty() || key.left < out.left) out = {key.left, name(*key.why)};
  }
  return out;
}

std::string_view status_of(const Rest& rest) {
  if (rest.why.empty()) return "available";
  return rest.why == "rate_limited" ? "rate_limited" : "unavailable";
}

std::string_view status_of(const ModelCache::Listing& listing) {
  if (listing.known) return "ok";
  if (!listing.last_error.empty()) return "failed";
  return listing.asking ? "pending" : "not_asked";
}

void write_key(const InstanceHealth::Key& key, std::size_t position, JsonWriter& json) {
  json.begin_object()
      .member("position", static_cast<std::int64_t>(position))
      .member("asked", static_cast<std::int64_t>(key.asked))
      .member("failed", static_cast<std::int64_t>(key.failed));
  if (key.why) {
    json.member("rests_because", name(*key.why)).member_raw("rests_for_seconds", seconds(key.left));
  }
  json.key("models_resting").begin_object();
  for (const auto& model : key.models) {
    json.key(Text::plain(model.model)).raw(seconds(model.left));
  }
  json.end_object().end_object();
}

void write_instance(const Backend& backend, const InstanceHealth& health,
                    const std::vector<std::string>& models, JsonWriter& json) {
  const auto rest = rest_of(health);
  json.begin_object()
      .member("name", backend.name)
      .member("connector_type", backend.type)
      .member("availability_status", status_of(rest))
      .member_bool("is_functional", rest.why.empty())
      .member_bool("is_rate_limited", rest.why == "rate_limited")
      .member_raw("cooldown_remaining_seconds", seconds(rest.left));
  if (rest.why == "rate_limited") {
    json.member_raw("retry_after_seconds", seconds(rest.left));
  } else {
    json.member_null("retry_after_seconds");
  }
  if (!rest.why.empty()) json.member("reason", rest.why);
  json.member("breaker", kBreakerNames[static_cast<std::size_t>(health.breaker)]);
  json.key("validation_errors").begin_array().end_array();
  json.key("keys").begin_array();
  for (std::size_t i = 0; i < health.keys.size(); ++i) write_key(health.keys[i], i + 1, json);
  json.end_array();
  json.member("model_count", static_cast<std::int64_t>(models.size()));
  json.key("models").begin_array();
  for (std::size_t i = 0; i < std::min(models.size(), kMaxModelsShown); ++i) json.string(models[i]);
  json.end_array().end_object();
}

void write_activity(const ServerStats& stats, JsonWriter& json) {
  json.key("global_activity").begin_object();
  json.member("requests", static_cast<std::int64_t>(stats.requests))
      .member("active_requests", static_cast<std::int64_t>(stats.active))
      .member("client_connections", static_cast<std::int64_t>(stats.client_connections))
      .member("upstream_connections", static_cast<std::int64_t>(stats.upstream_connections))
      .member("upstream_idle", static_cast<std::int64_t>(stats.upstream_idle))
      .end_object();
  json.key("memory")
      .begin_object()
      .member("used_bytes", static_cast<std::int64_t>(stats.memory_used))
      .member("limit_bytes", static_cast<std::int64_t>(stats.memory_limit))
      .member("refused", static_cast<std::int64_t>(stats.memory_refused))
      .member("bodies_decoding", static_cast<std::int64_t>(stats.decoding))
      .member("slices_decoded", static_cast<std::int64_t>(stats.slices))
      .end_object();
}

}  // namespace

std::string encode_diagnostics(const Snapshot& snapshot, const ModelCache& models,
                               const ServerStats& stats, TimePoint now, std::int64_t unix_millis) {
  std::string out;
  JsonWriter json(out);
  const auto& backends = snapshot.config->backends;
  const auto listed = models.known(backends);
  const auto models_of = [&](const Backend& backend) {
    const auto known = std::find_if(listed.begin(), listed.end(), [&](const HostedModels& models) {
      return models.instance == backend.name;
    });
    return known == listed.end() ? backend.models : known->models;
  };
  json.begin_object()
      .member("timestamp", unix_millis / 1000)
      .member("version", snapshot.config->version)
      .member("default_backend", snapshot.config->default_backend);
  json.key("instances").begin_array();
  for (const auto& backend : backends) {
    if (!backend.only_models.empty()) continue;
    write_instance(backend, snapshot.key_pool(backend).health(now), models_of(backend), json);
  }
  json.end_array().key("catalog_discovery").begin_array();
  for (const auto& listing : models.listings(backends)) {
    json.begin_object()
        .member("instance_name", listing.instance)
        .member("status", status_of(listing))
        .member("source", "upstream")
        .member("model_count", static_cast<std::int64_t>(listing.models));
    if (listing.last_error.empty()) {
      json.member_null("error_code");
    } else {
      json.member("error_code", listing.last_error);
    }
    json.end_object();
  }
  json.end_array();
  write_activity(stats, json);
  json.end_object();
  return out;
}

std::string encode_health(const Snapshot& snapshot, const ServerStats& stats, TimePoint now) {
  std::int64_t available = 0;
  const auto all = snapshot.health(now);
  for (const auto& instance : all) available += rest_of(instance).why.empty() ? 1 : 0;
  std::string out;
  JsonWriter json(out);
  json.begin_object()
      .member("status", "ok")
      .member("version", snapshot.config->version)
      .member("active_requests", static_cast<std::int64_t>(stats.active));
  json.key("backends")
      .begin_object()
      .member("configured", static_cast<std::int64_t>(all.size()))
      .member("available", available)
      .end_object()
      .end_object();
  return out;
}

}  // namespace llm_proxy
