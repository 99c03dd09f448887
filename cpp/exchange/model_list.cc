#include "exchange/model_list.h"

#include <ctime>
#include <set>

#include "json/writer.h"

namespace llm_proxy {
namespace {

std::string iso_time(std::int64_t unix_seconds) {
  const auto time = static_cast<std::time_t>(unix_seconds);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[24];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

void write_entry(WireFormat format, const ListedModel& model, std::int64_t now, JsonWriter& json) {
  json.begin_object();
  switch (format) {
    case WireFormat::openai_chat:
    case WireFormat::openai_responses:
      json.member("id", model.id)
          .member("object", "model")
          .member("created", now)
          .member("owned_by", model.owner);
      break;
    case WireFormat::anthropic_messages:
      json.member("type", "model").member("id", model.id).member("display_name", model.id);
      json.member("created_at", iso_time(now));
      break;
    case WireFormat::gemini_generate:
      json.member("name", "models/" + model.id)
          .member("baseModelId", model.id)
          .member("displayName", model.id);
      json.key("supportedGenerationMethods").begin_array();
      json.string("generateContent")
          .string("streamGenerateContent")
          .string("countTokens")
          .end_array();
      break;
  }
  json.end_object();
}

}  // namespace

std::vector<ListedModel> list_models(const RouteTable& routes,
                                     const std::vector<HostedModels>& hosted) {
  std::vector<ListedModel> out;
  std::set<std::string, std::less<>> seen;
  const auto add = [&](std::string id, const std::string& owner) {
    if (routes.permitted(id) && seen.insert(id).second) out.push_back({std::move(id), owner});
  };
  for (const auto& backend : routes.backends()) {
    for (const auto& model : backend.models) {
      // A second backend with the same model is reached by its own name.
      add(seen.contains(model) ? backend.name + ":" + model : model, backend.name);
    }
  }
  for (const auto& backend : hosted) {
    const Backend* known = routes.named(backend.instance);
    if (known == nullptr || !known->models.empty())
      continue;  // what the configuration lists, counts
    for (const auto& model : backend.models) {
      add(known == routes.default_backend() ? model : backend.instance + ":" + model,
          backend.instance);
    }
  }
  for (auto& alias : routes.alias_names()) add(std::move(alias), "alias");
  return out;
}

std::string encode_model_list(WireFormat format, const std::vector<ListedModel>& models,
                              std::int64_t now) {
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  const bool gemini = format == WireFormat::gemini_generate;
  if (!gemini && format != WireFormat::anthropic_messages) json.member("object", "list");
  json.key(gemini ? "models" : "data").begin_array();
  for (const auto& model : models) write_entry(format, model, now, json);
  json.end_array();
  if (format == WireFormat::anthropic_messages) {
    json.member_bool("has_more", false).key("first_id");
    models.empty() ? json.null() : json.string(models.front().id);
    json.key("last_id");
    models.empty() ? json.null() : json.string(models.back().id);
  }
  json.end_object();
  return out;
}

std::string encode_model(WireFormat format, const ListedModel& model, std::int64_t now) {
  std::string out;
  JsonWriter json(out);
  write_entry(format, model, now, json);
  return out;
}

}  // namespace llm_proxy
