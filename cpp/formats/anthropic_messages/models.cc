// Anthropic Messages: writes lists of models.

#include <ctime>

#include "formats/anthropic_messages/wire.h"
#include "json/writer.h"

namespace llm_proxy::anthropic_messages {

namespace {

std::string iso_time(std::int64_t unix_seconds) {
  const auto time = static_cast<std::time_t>(unix_seconds);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[24];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

void write_entry(const ListedModel& model, std::int64_t now, JsonWriter& json) {
  json.begin_object().member("type", "model").member("id", model.id);
  json.member("display_name", model.id).member("created_at", iso_time(now)).end_object();
}

}  // namespace

std::string encode_models(std::span<const ListedModel> models, std::int64_t now) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("data").begin_array();
  for (const ListedModel& model : models) write_entry(model, now, json);
  json.end_array();
  json.member_bool("has_more", false).key("first_id");
  models.empty() ? json.null() : json.string(models.front().id);
  json.key("last_id");
  models.empty() ? json.null() : json.string(models.back().id);
  json.end_object();
  return out;
}

std::string encode_model(const ListedModel& model, std::int64_t now) {
  std::string out;
  JsonWriter json(out);
  write_entry(model, now, json);
  return out;
}

}  // namespace llm_proxy::anthropic_messages
